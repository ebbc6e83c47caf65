// GPT-2's printable stand-ins for bytes: 33-126, 161-172 and 174-255 stand for themselves, the other 68 bytes for U+0100 and following, in order.
#include <array>

#include "base/utf8.h"
#include "text/tokenizer_spec.h"

namespace april::text {
namespace {

constexpr size_t kNumCharacters = 0x100 + 68;

constexpr bool StandsForItself(unsigned byte) { return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174; }

struct Tables {
  std::array<char32_t, 256> character{};
  std::array<int, kNumCharacters> byte{};
};

constexpr Tables MakeTables() {
  Tables tables;
  for (int& byte : tables.byte) byte = -1;
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    tables.character[byte] = StandsForItself(byte) ? byte : next++;
    tables.byte[tables.character[byte]] = static_cast<int>(byte);
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

}  // namespace

std::string ToByteLevel(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) AppendChar(kTables.character[static_cast<unsigned char>(c)], &text);
  return text;
}

std::optional<std::string> FromByteLevel(std::string_view text) {
  std::string bytes;
  for (size_t offset = 0; offset < text.size();) {
    const char32_t character = NextChar(text, &offset);
    if (character >= kNumCharacters || kTables.byte[character] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kTables.byte[character]));
  }
  return bytes;
}

}  // namespace april::text
