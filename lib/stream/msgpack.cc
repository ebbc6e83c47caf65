// Values to msgpack and back. Written here rather than on a library's packer and visitor, because limits must hold before allocation, integers must
// take their shortest form and floats keep their width; the tests check it against msgpack-cxx.
#include <bit>
#include <cstring>
#include <limits>

#include "base/bytes.h"
#include "base/error.h"
#include "stream/msgpack_token.h"
#include "stream/value.h"

namespace april::stream {
namespace {

void PutByte(std::string* out, unsigned byte) { out->push_back(static_cast<char>(byte)); }

void PutBigEndian(std::string* out, unsigned first, uint64_t value, int size) {
  char bytes[9];
  bytes[0] = static_cast<char>(first);
  const uint64_t swapped = __builtin_bswap64(value);
  std::memcpy(bytes + 1, reinterpret_cast<const char*>(&swapped) + 8 - size, static_cast<size_t>(size));
  out->append(bytes, static_cast<size_t>(size) + 1);
}

void PutUint(std::string* out, uint64_t value) {
  if (value < 0x80) return PutByte(out, static_cast<unsigned>(value));
  if (value <= 0xff) return PutBigEndian(out, 0xcc, value, 1);
  if (value <= 0xffff) return PutBigEndian(out, 0xcd, value, 2);
  if (value <= 0xffffffff) return PutBigEndian(out, 0xce, value, 4);
  PutBigEndian(out, 0xcf, value, 8);
}

void PutInt(std::string* out, int64_t value) {
  if (value >= 0) return PutUint(out, static_cast<uint64_t>(value));
  const auto bits = static_cast<uint64_t>(value);
  if (value >= -32) return PutByte(out, static_cast<unsigned>(bits & 0xff));
  if (value >= std::numeric_limits<int8_t>::min()) return PutBigEndian(out, 0xd0, bits, 1);
  if (value >= std::numeric_limits<int16_t>::min()) return PutBigEndian(out, 0xd1, bits, 2);
  if (value >= std::numeric_limits<int32_t>::min()) return PutBigEndian(out, 0xd2, bits, 4);
  PutBigEndian(out, 0xd3, bits, 8);
}

/// `small` is the first byte of the one-byte form that holds sizes below `small_limit`; `wide` that of the 16-bit form (the 8-bit form is one below).
struct SizeForms {
  unsigned small, small_limit;
  unsigned wide;
  bool has_8_bit;
};

void PutSize(std::string* out, size_t size, SizeForms forms) {
  if (size > 0xffffffff) throw Error::Data("a msgpack value of " + std::to_string(size) + " elements or bytes is larger than the format can hold");
  if (size < forms.small_limit) return PutByte(out, forms.small | static_cast<unsigned>(size));
  if (forms.has_8_bit && size <= 0xff) return PutBigEndian(out, forms.wide - 1, size, 1);
  if (size <= 0xffff) return PutBigEndian(out, forms.wide, size, 2);
  PutBigEndian(out, forms.wide + 1, size, 4);
}

constexpr SizeForms kStringForms = {0xa0, 32, 0xda, true};
constexpr SizeForms kBinForms = {0, 0, 0xc5, true};
constexpr SizeForms kArrayForms = {0x90, 16, 0xdc, false};
constexpr SizeForms kMapForms = {0x80, 16, 0xde, false};

struct Encoder {
  std::string* out;

  void operator()(std::monostate) const { PutByte(out, 0xc0); }
  void operator()(bool value) const { PutByte(out, value ? 0xc3 : 0xc2); }
  void operator()(int64_t value) const { PutInt(out, value); }
  void operator()(uint64_t value) const { PutUint(out, value); }
  void operator()(float value) const { PutBigEndian(out, 0xca, std::bit_cast<uint32_t>(value), 4); }
  void operator()(double value) const { PutBigEndian(out, 0xcb, std::bit_cast<uint64_t>(value), 8); }
  void operator()(const std::string& value) const { PutString(value); }
  void operator()(const Bin& value) const {
    PutSize(out, value.bytes.size(), kBinForms);
    out->append(value.bytes);
  }
  void operator()(const Array& value) const {
    PutSize(out, value.size(), kArrayForms);
    for (const Value& element : value) std::visit(*this, element.held());
  }
  void operator()(const Map& value) const {
    PutSize(out, value.size(), kMapForms);
    for (const auto& [key, element] : value) {
      PutString(key);
      std::visit(*this, element.held());
    }
  }
  void PutString(std::string_view value) const {
    PutSize(out, value.size(), kStringForms);
    out->append(value);
  }
};

class Decoder {
 public:
  Decoder(std::string_view bytes, const DecodeLimits& limits) : bytes_(bytes), limits_(limits), values_left_(limits.max_values) {}

  Value DecodeWhole() {
    if (bytes_.size() > limits_.max_bytes) {
      throw Error::Data("a value of " + HumanBytes(bytes_.size()) + ", more than the limit of " + HumanBytes(limits_.max_bytes));
    }
    Value value = DecodeOne(0);
    if (offset_ != bytes_.size()) Fail(std::to_string(bytes_.size() - offset_) + " bytes follow the value");
    return value;
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const { throw Error::Data("msgpack: " + what + " at offset " + std::to_string(offset_)); }

  Token Next() {
    const auto token = ReadToken(bytes_, offset_);
    if (!token) Fail("the value is cut off");
    offset_ += token->head_bytes;
    return *token;
  }

  std::string_view Payload(uint64_t size) {
    if (size > bytes_.size() - offset_) Fail("a string or bin of " + std::to_string(size) + " bytes is cut off");
    const std::string_view payload = bytes_.substr(offset_, size);
    offset_ += size;
    return payload;
  }

  /// Elements take at least one byte each, so a count beyond the remaining bytes is known to be false before anything is reserved.
  void CheckCount(uint64_t num_values, int depth) {
    if (depth >= limits_.max_depth) Fail("values nest deeper than " + std::to_string(limits_.max_depth));
    if (num_values > bytes_.size() - offset_) Fail("an array or map of " + std::to_string(num_values) + " values is cut off");
    if (num_values > values_left_) Fail("more than " + std::to_string(limits_.max_values) + " values in one record");
    values_left_ -= num_values;
  }

  Value DecodeOne(int depth) {
    const Token token = Next();
    switch (token.kind) {
      case Token::Kind::kNil:
        return {};
      case Token::Kind::kBool:
        return token.bits != 0;
      case Token::Kind::kUint:
        return token.bits;
      case Token::Kind::kInt:
        return static_cast<int64_t>(token.bits);
      case Token::Kind::kFloat:
        return std::bit_cast<float>(static_cast<uint32_t>(token.bits));
      case Token::Kind::kDouble:
        return std::bit_cast<double>(token.bits);
      case Token::Kind::kString:
        return Payload(token.bits);
      case Token::Kind::kBin:
        return Bin{std::string(Payload(token.bits))};
      case Token::Kind::kArray:
        return DecodeArray(token.bits, depth);
      case Token::Kind::kMap:
        return DecodeMap(token.bits, depth);
    }
    Fail("unknown token");
  }

  Value DecodeArray(uint64_t size, int depth) {
    CheckCount(size, depth);
    Array array;
    array.reserve(size);
    for (uint64_t i = 0; i < size; ++i) array.push_back(DecodeOne(depth + 1));
    return array;
  }

  Value DecodeMap(uint64_t size, int depth) {
    CheckCount(2 * size, depth);
    Map map;
    map.reserve(size);
    for (uint64_t i = 0; i < size; ++i) {
      const Token key = Next();
      if (key.kind != Token::Kind::kString) Fail("a map key that is not a string");
      std::string name(Payload(key.bits));
      map.emplace_back(std::move(name), DecodeOne(depth + 1));
    }
    return map;
  }

  std::string_view bytes_;
  DecodeLimits limits_;
  uint64_t values_left_;
  uint64_t offset_ = 0;
};

}  // namespace

void Encode(const Value& value, std::string* out) { std::visit(Encoder{out}, value.held()); }

std::string Encode(const Value& value) {
  std::string out;
  Encode(value, &out);
  return out;
}

Value Decode(std::string_view bytes, const DecodeLimits& limits) { return Decoder(bytes, limits).DecodeWhole(); }

}  // namespace april::stream
