// UTF-8: validity and single characters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace april {

/// Byte offset of the first byte that is not part of a well-formed character; nullopt when all is valid. Refuses overlong forms and surrogates.
std::optional<size_t> FindInvalidUtf8(std::string_view bytes);

/// The text with U+FFFD for each maximal ill-formed part, as Python's errors="replace".
std::string ReplaceInvalidUtf8(std::string_view bytes);

/// Number of bytes at the end that may still become a valid character when more follow: 0 to 3.
size_t UnfinishedUtf8(std::string_view bytes);

/// The character at `*offset` of valid UTF-8; moves the offset behind it.
char32_t NextChar(std::string_view text, size_t* offset);
void AppendChar(char32_t character, std::string* out);

}  // namespace april
