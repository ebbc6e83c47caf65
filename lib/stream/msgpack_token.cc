#include "stream/msgpack_token.h"

#include <string>

#include "base/bytes.h"
#include "base/error.h"

namespace april::stream {
namespace {

using Kind = Token::Kind;

uint64_t BigEndian(const char* bytes, uint32_t size) {
  switch (size) {
    case 1:
      return LoadLe<uint8_t>(bytes);
    case 2:
      return __builtin_bswap16(LoadLe<uint16_t>(bytes));
    case 4:
      return __builtin_bswap32(LoadLe<uint32_t>(bytes));
    default:
      return __builtin_bswap64(LoadLe<uint64_t>(bytes));
  }
}

uint64_t SignExtend(uint64_t bits, uint32_t size) {
  const int shift = static_cast<int>(64 - 8 * size);
  return static_cast<uint64_t>(static_cast<int64_t>(bits << shift) >> shift);
}

struct Format {
  Kind kind;
  uint32_t size;  ///< bytes of the big-endian number after the first byte
};

[[noreturn]] void Refuse(uint8_t first, uint64_t offset) {
  static constexpr char kDigits[] = "0123456789abcdef";
  const std::string byte = {'0', 'x', kDigits[first >> 4], kDigits[first & 15]};
  throw Error::Data("byte " + byte + " at offset " + std::to_string(offset) + " starts no msgpack value that an april stream may contain");
}

Format FormatOf(uint8_t first, uint64_t offset) {
  switch (first) {
    case 0xc0:
      return {Kind::kNil, 0};
    case 0xc2:
    case 0xc3:
      return {Kind::kBool, 0};
    case 0xc4:
      return {Kind::kBin, 1};
    case 0xc5:
      return {Kind::kBin, 2};
    case 0xc6:
      return {Kind::kBin, 4};
    case 0xca:
      return {Kind::kFloat, 4};
    case 0xcb:
      return {Kind::kDouble, 8};
    case 0xcc:
      return {Kind::kUint, 1};
    case 0xcd:
      return {Kind::kUint, 2};
    case 0xce:
      return {Kind::kUint, 4};
    case 0xcf:
      return {Kind::kUint, 8};
    case 0xd0:
      return {Kind::kInt, 1};
    case 0xd1:
      return {Kind::kInt, 2};
    case 0xd2:
      return {Kind::kInt, 4};
    case 0xd3:
      return {Kind::kInt, 8};
    case 0xd9:
      return {Kind::kString, 1};
    case 0xda:
      return {Kind::kString, 2};
    case 0xdb:
      return {Kind::kString, 4};
    case 0xdc:
      return {Kind::kArray, 2};
    case 0xdd:
      return {Kind::kArray, 4};
    case 0xde:
      return {Kind::kMap, 2};
    case 0xdf:
      return {Kind::kMap, 4};
    default:
      Refuse(first, offset);
  }
}

}  // namespace

std::optional<Token> ReadToken(std::string_view bytes, uint64_t offset) {
  if (offset >= bytes.size()) return std::nullopt;
  const auto first = static_cast<uint8_t>(bytes[offset]);
  if (first < 0x80) return Token{Kind::kUint, 1, first};
  if (first < 0x90) return Token{Kind::kMap, 1, first & 0x0fu};
  if (first < 0xa0) return Token{Kind::kArray, 1, first & 0x0fu};
  if (first < 0xc0) return Token{Kind::kString, 1, first & 0x1fu};
  if (first >= 0xe0) return Token{Kind::kInt, 1, SignExtend(first, 1)};
  const auto [kind, size] = FormatOf(first, offset);
  if (size > bytes.size() - offset - 1) return std::nullopt;
  if (size == 0) return Token{kind, 1, first == 0xc3 ? 1u : 0u};
  const uint64_t bits = BigEndian(bytes.data() + offset + 1, size);
  return Token{kind, 1 + size, kind == Kind::kInt ? SignExtend(bits, size) : bits};
}

}  // namespace april::stream
