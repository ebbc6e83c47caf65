// Sixteen lanes in two AVX registers. The meaning of each function stands in lanes_portable.h.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace april::kernels {
namespace {

#define APRIL_INLINE inline __attribute__((always_inline))

struct Vec {
  __m256 lo, hi;
};
struct Bits {
  __m256i lo, hi;
};

struct Lanes {
  static constexpr const char* kFamily = "avx2";
  // Six rows of sixteen columns are twelve of the sixteen registers: with less work on each weight the second cache cannot feed the products. A few
  // rows wait for memory, which gives most when it is read in order (on Zen 3 six rows gain from 32 on, not at 16).
  static constexpr int kFewRows = 24;
  static constexpr int kFewTileRows = 2;
  static constexpr int kFetchFromRows = 4;
  static constexpr int kLinearRows = 6;
  static constexpr int kLinearVectors = 1;
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 1;
  static constexpr int kScoreRows = 2;
  static constexpr int kAttentionRows = 4;
};

APRIL_INLINE Vec Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
APRIL_INLINE Vec Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
APRIL_INLINE Bits SetBits(uint32_t x) { return {_mm256_set1_epi32(static_cast<int>(x)), _mm256_set1_epi32(static_cast<int>(x))}; }
APRIL_INLINE Vec Load(const float* x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }

APRIL_INLINE Bits LoadBits(const void* x) {
  const char* p = static_cast<const char*>(x);
  Bits r;
  __builtin_memcpy(&r.lo, p, 32);
  __builtin_memcpy(&r.hi, p + 32, 32);
  return r;
}

APRIL_INLINE void Store(float* out, Vec x) {
  _mm256_storeu_ps(out, x.lo);
  _mm256_storeu_ps(out + 8, x.hi);
}

APRIL_INLINE void StoreBits(void* out, Bits x) {
  char* p = static_cast<char*>(out);
  __builtin_memcpy(p, &x.lo, 32);
  __builtin_memcpy(p + 32, &x.hi, 32);
}

APRIL_INLINE Vec LoadPart(const float* x, int64_t n) {
  float all[16] = {};
  __builtin_memcpy(all, x, static_cast<size_t>(n) * 4);
  return Load(all);
}

APRIL_INLINE void StorePart(float* out, Vec x, int64_t n) {
  float all[16];
  Store(all, x);
  __builtin_memcpy(out, all, static_cast<size_t>(n) * 4);
}

APRIL_INLINE Vec AsVec(Bits x) { return {_mm256_castsi256_ps(x.lo), _mm256_castsi256_ps(x.hi)}; }
APRIL_INLINE Bits AsBits(Vec x) { return {_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)}; }
APRIL_INLINE Vec Add(Vec a, Vec b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
APRIL_INLINE Vec Sub(Vec a, Vec b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
APRIL_INLINE Vec Mul(Vec a, Vec b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
APRIL_INLINE Vec Div(Vec a, Vec b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
APRIL_INLINE Bits AddBits(Bits a, Bits b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
APRIL_INLINE Bits AndBits(Bits a, Bits b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }

APRIL_INLINE Vec SelectLess(Vec a, Vec b, Vec x, Vec y) {
  return {_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)), _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}

APRIL_INLINE Vec Max(Vec a, Vec b) { return {_mm256_max_ps(b.lo, a.lo), _mm256_max_ps(b.hi, a.hi)}; }
APRIL_INLINE Vec Fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
APRIL_INLINE Vec Sqrt(Vec a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }

template <int kShift>
APRIL_INLINE Bits ShiftLeft(Bits a) {
  return {_mm256_slli_epi32(a.lo, kShift), _mm256_slli_epi32(a.hi, kShift)};
}

APRIL_INLINE Vec LoadBf16(const uint16_t* x) {
  __m128i lo, hi;
  __builtin_memcpy(&lo, x, 16);
  __builtin_memcpy(&hi, x + 8, 16);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(lo), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(hi), 16))};
}

APRIL_INLINE Bits Interleave(const uint16_t* even, const uint16_t* odd) {
  __m128i lo[2], hi[2];
  __builtin_memcpy(lo, even, 32);
  __builtin_memcpy(hi, odd, 32);
  return {_mm256_or_si256(_mm256_cvtepu16_epi32(lo[0]), _mm256_slli_epi32(_mm256_cvtepu16_epi32(hi[0]), 16)),
          _mm256_or_si256(_mm256_cvtepu16_epi32(lo[1]), _mm256_slli_epi32(_mm256_cvtepu16_epi32(hi[1]), 16))};
}

/// bf16 in the low halves of the words; see RoundToBf16 of lanes_portable.h.
APRIL_INLINE __m256i RoundBf16(__m256 x) {
  __m256i bits = _mm256_castps_si256(x);
  __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
  __m256i high = _mm256_srli_epi32(bits, 16);
  __m256i even = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), _mm256_and_si256(high, _mm256_set1_epi32(1)));
  __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, even), 16);
  __m256i is_nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
  __m256i is_tiny = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x00800000), magnitude);
  rounded = _mm256_blendv_epi8(rounded, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), is_nan);
  return _mm256_blendv_epi8(rounded, _mm256_and_si256(high, _mm256_set1_epi32(0x8000)), is_tiny);
}

APRIL_INLINE void StoreBf16(uint16_t* out, Vec x) {
  __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(RoundBf16(x.lo), RoundBf16(x.hi)), 0xd8);
  __builtin_memcpy(out, &packed, 32);
}

APRIL_INLINE void StoreBf16Part(uint16_t* out, Vec x, int64_t n) {
  uint16_t all[16];
  StoreBf16(all, x);
  __builtin_memcpy(out, all, static_cast<size_t>(n) * 2);
}

APRIL_INLINE Bits PairBf16(Vec even, Vec odd) {
  return {_mm256_or_si256(RoundBf16(even.lo), _mm256_slli_epi32(RoundBf16(odd.lo), 16)),
          _mm256_or_si256(RoundBf16(even.hi), _mm256_slli_epi32(RoundBf16(odd.hi), 16))};
}

template <bool kOdd>
APRIL_INLINE Vec FuseBf16(Vec acc, Bits a, Bits b) {
  if constexpr (kOdd) {
    const Bits mask = SetBits(0xffff0000U);
    return Fma(AsVec(AndBits(a, mask)), AsVec(AndBits(b, mask)), acc);
  } else {
    return Fma(AsVec(ShiftLeft<16>(a)), AsVec(ShiftLeft<16>(b)), acc);
  }
}

APRIL_INLINE Vec DotBf16(Vec acc, Bits a, Bits b) { return FuseBf16<false>(FuseBf16<true>(acc, a, b), a, b); }

APRIL_INLINE float SumLanes(Vec x) {
  __m256 s8 = _mm256_add_ps(x.lo, x.hi);
  __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

APRIL_INLINE float MaxLanes(Vec x) {
  __m256 s8 = _mm256_max_ps(x.lo, x.hi);
  __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}

APRIL_INLINE void Prefetch(const void* x) { _mm_prefetch(static_cast<const char*>(x), _MM_HINT_T0); }

}  // namespace
}  // namespace april::kernels
