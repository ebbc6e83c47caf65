// One msgpack token: the layer below values, shared by the decoder and by the scanner that finds where a record ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace april::stream {

struct Token {
  enum class Kind { kNil, kBool, kUint, kInt, kFloat, kDouble, kString, kBin, kArray, kMap };
  Kind kind = Kind::kNil;
  uint32_t head_bytes = 0;  ///< bytes of the token itself, without the payload of a string or bin
  uint64_t bits = 0;        ///< the value's bits; bytes of a string or bin; elements of an array; pairs of a map
};

/// The token at `offset`; nullopt when `bytes` ends within it. Throws Data on a byte that no april stream contains (ext types, 0xc1).
///   Source  msgpack specification, "Formats" (https://github.com/msgpack/msgpack/blob/master/spec.md).
std::optional<Token> ReadToken(std::string_view bytes, uint64_t offset);

}  // namespace april::stream
