// How files write what text does not show. GPT-2's printable stand-ins for bytes: 33-126, 161-172 and 174-255 stand for themselves, the other 68
// bytes for U+0100 and following, in order. SentencePiece's letter for the space, and its names of bytes.
#include <array>

#include "base/utf8.h"
#include "text/split_patterns.h"
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

namespace {

constexpr char kHexDigits[] = "0123456789ABCDEF";

std::string ReplaceAll(std::string_view text, std::string_view what, std::string_view with) {
  std::string out;
  size_t start = 0;
  for (size_t found; (found = text.find(what, start)) != std::string_view::npos; start = found + what.size()) {
    out.append(text, start, found - start);
    out += with;
  }
  return out.append(text, start);
}

}  // namespace

std::string ToSentencePiece(std::string_view text) { return ReplaceAll(text, " ", kSpaceLetter); }
std::string FromSentencePiece(std::string_view text) { return ReplaceAll(text, kSpaceLetter, " "); }

std::optional<unsigned char> ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) return std::nullopt;
  const std::string_view digits = kHexDigits;
  const size_t high = digits.find(token[3]), low = digits.find(token[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
  return static_cast<unsigned char>(high * 16 + low);
}

std::string TokenOfByte(unsigned char byte) { return std::string("<0x") + kHexDigits[byte >> 4] + kHexDigits[byte & 15] + ">"; }

}  // namespace april::text
