// Conversion between the number formats of weight files: widening, rounding, dequantisation.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "weights/tensor.h"

namespace april::weights {

/// Exact.   Source  IEEE 754 binary16.
inline float F16ToF32(uint16_t half) {
  // The exponent and fraction are moved to float's place and rescaled by 2^112, which also makes subnormals right; infinities and NaNs keep their
  // exponent.
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fffu) << 13;
  if (magnitude >= 0x7c00u << 13) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x7fffffu));
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f));
}

inline float Bf16ToF32(uint16_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }

/// Rounds to nearest, ties to even; every NaN becomes 0x7fc0, as LibTorch's conversion does.
inline uint16_t F32ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto rounded = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  return std::isnan(value) ? uint16_t{0x7fc0} : rounded;
}

/// Converts `num_elements` (a multiple of the block of `from`) into `out`.
///   `to` is kF32 or kBf16; `from` any but the integer types, or the same as `to`. `data` needs no alignment.
///   Throws  Incompatible for a pair that has no conversion.   Thread  pure.
///   Source  blocks of ggml: Q4_0 x = (q - 8) d, Q4_1 x = q d + m, Q8_0 x = q d; low nibbles are elements 0 to 15, high nibbles 16 to 31.
void Convert(DType from, const void* data, int64_t num_elements, DType to, void* out);

}  // namespace april::weights
