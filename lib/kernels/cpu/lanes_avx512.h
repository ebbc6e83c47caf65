// Sixteen lanes in one AVX-512 register. The meaning of each function stands in lanes_portable.h.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace april::kernels {
namespace {

#define APRIL_INLINE inline __attribute__((always_inline))

using Vec = __m512;
using Bits = __m512i;

struct Lanes {
  static constexpr const char* kFamily = "avx512";
  static constexpr int kFewRows = 0;
  static constexpr int kFewTileRows = 1;
  static constexpr int kFetchFromRows = 6;
  static constexpr int kLinearRows = 8;
  static constexpr int kLinearVectors = 2;
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 4;
  static constexpr int kScoreRows = 12;
  static constexpr int kAttentionRows = 12;
};

APRIL_INLINE __mmask16 FirstLanes(int64_t n) { return static_cast<__mmask16>((1U << n) - 1U); }

APRIL_INLINE Vec Zero() { return _mm512_setzero_ps(); }
APRIL_INLINE Vec Set(float x) { return _mm512_set1_ps(x); }
APRIL_INLINE Bits SetBits(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
APRIL_INLINE Vec Load(const float* x) { return _mm512_loadu_ps(x); }
APRIL_INLINE Bits LoadBits(const void* x) { return _mm512_loadu_si512(x); }
APRIL_INLINE void Store(float* out, Vec x) { _mm512_storeu_ps(out, x); }
APRIL_INLINE void StoreBits(void* out, Bits x) { _mm512_storeu_si512(out, x); }
APRIL_INLINE Vec LoadPart(const float* x, int64_t n) { return _mm512_maskz_loadu_ps(FirstLanes(n), x); }
APRIL_INLINE void StorePart(float* out, Vec x, int64_t n) { _mm512_mask_storeu_ps(out, FirstLanes(n), x); }
APRIL_INLINE Vec AsVec(Bits x) { return _mm512_castsi512_ps(x); }
APRIL_INLINE Bits AsBits(Vec x) { return _mm512_castps_si512(x); }
APRIL_INLINE Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
APRIL_INLINE Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
APRIL_INLINE Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
APRIL_INLINE Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
APRIL_INLINE Bits AddBits(Bits a, Bits b) { return _mm512_add_epi32(a, b); }
APRIL_INLINE Bits AndBits(Bits a, Bits b) { return _mm512_and_si512(a, b); }
APRIL_INLINE Vec SelectLess(Vec a, Vec b, Vec x, Vec y) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x); }
APRIL_INLINE Vec Max(Vec a, Vec b) { return _mm512_max_ps(b, a); }  // vmaxps returns its second operand when either is a NaN
APRIL_INLINE Vec Fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
APRIL_INLINE Vec Sqrt(Vec a) { return _mm512_sqrt_ps(a); }

template <int kShift>
APRIL_INLINE Bits ShiftLeft(Bits a) {
  return _mm512_slli_epi32(a, kShift);
}

APRIL_INLINE Vec LoadBf16(const uint16_t* x) {
  __m256i half;
  __builtin_memcpy(&half, x, 32);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

APRIL_INLINE Bits Interleave(const uint16_t* even, const uint16_t* odd) {
  __m256i lo, hi;
  __builtin_memcpy(&lo, even, 32);
  __builtin_memcpy(&hi, odd, 32);
  return _mm512_or_si512(_mm512_cvtepu16_epi32(lo), _mm512_slli_epi32(_mm512_cvtepu16_epi32(hi), 16));
}

#if defined(APRIL_LANES_BF16)
APRIL_INLINE __m256i RoundBf16(Vec x) {
  __m256bh r = _mm512_cvtneps_pbh(x);
  return __builtin_bit_cast(__m256i, r);
}

APRIL_INLINE Bits PairBf16(Vec even, Vec odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(RoundBf16(even)), _mm512_slli_epi32(_mm512_cvtepu16_epi32(RoundBf16(odd)), 16));
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

APRIL_INLINE Vec DotBf16(Vec acc, Bits a, Bits b) { return _mm512_dpbf16_ps(acc, __builtin_bit_cast(__m512bh, a), __builtin_bit_cast(__m512bh, b)); }

APRIL_INLINE void StoreBf16(uint16_t* out, Vec x) {
  __m256i r = RoundBf16(x);
  __builtin_memcpy(out, &r, 32);
}

APRIL_INLINE void StoreBf16Part(uint16_t* out, Vec x, int64_t n) { _mm256_mask_storeu_epi16(out, FirstLanes(n), RoundBf16(x)); }
#endif

APRIL_INLINE float SumLanes(Vec x) {
  __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

APRIL_INLINE float MaxLanes(Vec x) {
  __m256 s8 = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}

/// Into the second cache.
APRIL_INLINE void Prefetch(const void* x) { _mm_prefetch(static_cast<const char*>(x), _MM_HINT_T1); }

}  // namespace
}  // namespace april::kernels
