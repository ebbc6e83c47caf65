// Sixteen lanes in plain C++: four vectors of four, what any compiler turns into its machine's 128-bit registers. The reference for the other
// lanes_*.h. In an unnamed namespace, as all headers of this directory: each kernel set's file compiles them for its own instruction set.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace april::kernels {
namespace {

#define APRIL_INLINE inline __attribute__((always_inline))

typedef float Float4 __attribute__((vector_size(16)));
typedef uint32_t Word4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));

/// Sixteen floats.
struct Vec {
  Float4 p[4];
};
/// Sixteen 32-bit words: pairs of bf16 (the even element in the low half), or bit patterns.
struct Bits {
  Word4 p[4];
};

struct Lanes {
  static constexpr const char* kFamily = "portable";
  // Sizes that suit the registers; no result depends on them.
  static constexpr int kFewRows = 0;        // up to so many rows go through products by tiles of their own,
  static constexpr int kFewTileRows = 1;    // so many rows by kFewTileVectors
  static constexpr int kFetchFromRows = 6;  // of linear: from so many rows on, weights are fetched by instruction
  static constexpr int kLinearRows = 2;     // of linear: rows and vectors of accumulators
  static constexpr int kLinearVectors = 2;
  static constexpr int kTileRows = 2;  // of other products
  static constexpr int kTileVectors = 2;
  static constexpr int kScoreRows = 2;      // attention: query rows that meet a block's 32 positions together
  static constexpr int kAttentionRows = 4;  // attention: query rows that go from block to block together
};

APRIL_INLINE Vec Zero() { return Vec{}; }

APRIL_INLINE Vec Set(float x) {
  Float4 v = {x, x, x, x};
  return {{v, v, v, v}};
}

APRIL_INLINE Bits SetBits(uint32_t x) {
  Word4 v = {x, x, x, x};
  return {{v, v, v, v}};
}

APRIL_INLINE Vec Load(const float* x) {
  Vec r;
  __builtin_memcpy(&r, x, 64);
  return r;
}

APRIL_INLINE Bits LoadBits(const void* x) {
  Bits r;
  __builtin_memcpy(&r, x, 64);
  return r;
}

APRIL_INLINE void Store(float* out, Vec x) { __builtin_memcpy(out, &x, 64); }
APRIL_INLINE void StoreBits(void* out, Bits x) { __builtin_memcpy(out, &x, 64); }

/// The first n lanes (0 to 16); the others are zero.
APRIL_INLINE Vec LoadPart(const float* x, int64_t n) {
  Vec r = Zero();
  __builtin_memcpy(&r, x, static_cast<size_t>(n) * 4);
  return r;
}

APRIL_INLINE void StorePart(float* out, Vec x, int64_t n) { __builtin_memcpy(out, &x, static_cast<size_t>(n) * 4); }

APRIL_INLINE Vec AsVec(Bits x) { return __builtin_bit_cast(Vec, x); }
APRIL_INLINE Bits AsBits(Vec x) { return __builtin_bit_cast(Bits, x); }

#define APRIL_LANEWISE(name, type, expression)       \
  APRIL_INLINE type name(type a, type b) {           \
    type r;                                          \
    for (int i = 0; i < 4; ++i) r.p[i] = expression; \
    return r;                                        \
  }
APRIL_LANEWISE(Add, Vec, a.p[i] + b.p[i])
APRIL_LANEWISE(Sub, Vec, a.p[i] - b.p[i])
APRIL_LANEWISE(Mul, Vec, a.p[i] * b.p[i])
APRIL_LANEWISE(Div, Vec, a.p[i] / b.p[i])
APRIL_LANEWISE(AddBits, Bits, a.p[i] + b.p[i])
APRIL_LANEWISE(AndBits, Bits, a.p[i] & b.p[i])
#undef APRIL_LANEWISE

/// a < b ? x : y.
APRIL_INLINE Vec SelectLess(Vec a, Vec b, Vec x, Vec y) {
  Vec r;
  for (int i = 0; i < 4; ++i) {
    Int4 mask = a.p[i] < b.p[i];
    r.p[i] = reinterpret_cast<Float4>((reinterpret_cast<Int4>(x.p[i]) & mask) | (reinterpret_cast<Int4>(y.p[i]) & ~mask));
  }
  return r;
}

/// a < b ? b : a: a NaN in a stays, a NaN in b does not enter.
APRIL_INLINE Vec Max(Vec a, Vec b) { return SelectLess(a, b, b, a); }

/// a * b + c, rounded once.
APRIL_INLINE Vec Fma(Vec a, Vec b, Vec c) {
  Vec r;
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) r.p[i][j] = __builtin_fmaf(a.p[i][j], b.p[i][j], c.p[i][j]);
  }
  return r;
}

APRIL_INLINE Vec Sqrt(Vec a) {
  Vec r;
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) r.p[i][j] = __builtin_sqrtf(a.p[i][j]);
  }
  return r;
}

template <int kShift>
APRIL_INLINE Bits ShiftLeft(Bits a) {
  for (Word4& v : a.p) v = v << kShift;
  return a;
}

/// Sixteen bf16 values, widened.
APRIL_INLINE Vec LoadBf16(const uint16_t* x) {
  Bits r;
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) r.p[i][j] = static_cast<uint32_t>(x[i * 4 + j]) << 16;
  }
  return AsVec(r);
}

/// Sixteen pairs of neighbouring rows' bf16 values.
APRIL_INLINE Bits Interleave(const uint16_t* even, const uint16_t* odd) {
  Bits r;
  for (int i = 0; i < 16; ++i) r.p[i / 4][i % 4] = static_cast<uint32_t>(even[i]) | static_cast<uint32_t>(odd[i]) << 16;
  return r;
}

/// Round to nearest even; denormals become zero, a NaN becomes quiet: what vcvtneps2bf16 does.
APRIL_INLINE uint16_t RoundToBf16(float x) {
  uint32_t bits = __builtin_bit_cast(uint32_t, x);
  uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  if (magnitude < 0x00800000U) return static_cast<uint16_t>((bits >> 16) & 0x8000U);
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

APRIL_INLINE void StoreBf16(uint16_t* out, Vec x) {
  for (int i = 0; i < 16; ++i) out[i] = RoundToBf16(x.p[i / 4][i % 4]);
}

APRIL_INLINE void StoreBf16Part(uint16_t* out, Vec x, int64_t n) {
  for (int i = 0; i < n; ++i) out[i] = RoundToBf16(x.p[i / 4][i % 4]);
}

/// Pairs of bf16: `even` in the low halves, `odd` in the high ones.
APRIL_INLINE Bits PairBf16(Vec even, Vec odd) {
  Bits r;
  for (int i = 0; i < 16; ++i) {
    r.p[i / 4][i % 4] = static_cast<uint32_t>(RoundToBf16(even.p[i / 4][i % 4])) | static_cast<uint32_t>(RoundToBf16(odd.p[i / 4][i % 4])) << 16;
  }
  return r;
}

/// acc + a * b, rounded once, of bf16 values. Without a fused instruction the sum is formed in double: the product of two bf16 is exact there, and 53
/// bits are enough that rounding the sum twice equals rounding it once.   Source  Figueroa, "When is double rounding innocuous?", SIGNUM 1995.
APRIL_INLINE float FuseOne(float acc, uint32_t a, uint32_t b) {
  const float x = __builtin_bit_cast(float, a), y = __builtin_bit_cast(float, b);
#if defined(__FP_FAST_FMAF)
  return __builtin_fmaf(x, y, acc);
#else
  return static_cast<float>(static_cast<double>(x) * static_cast<double>(y) + static_cast<double>(acc));
#endif
}

/// acc + product of the pairs' odd, or even, elements.
template <bool kOdd>
APRIL_INLINE Vec FuseBf16(Vec acc, Bits a, Bits b) {
  constexpr auto half = [](uint32_t pair) { return kOdd ? pair & 0xffff0000U : pair << 16; };
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) acc.p[i][j] = FuseOne(acc.p[i][j], half(a.p[i][j]), half(b.p[i][j]));
  }
  return acc;
}

/// Both: the odd elements' product first.
APRIL_INLINE Vec DotBf16(Vec acc, Bits a, Bits b) { return FuseBf16<false>(FuseBf16<true>(acc, a, b), a, b); }

/// The fixed tree: lanes i and i + 8, then i + 4, i + 2, i + 1.
APRIL_INLINE float SumLanes(Vec x) {
  Float4 s = (x.p[0] + x.p[2]) + (x.p[1] + x.p[3]);
  return (s[0] + s[2]) + (s[1] + s[3]);
}

APRIL_INLINE float MaxLanes(Vec x) {
  float r = x.p[0][0];
  for (int i = 1; i < 16; ++i) r = r < x.p[i / 4][i % 4] ? x.p[i / 4][i % 4] : r;
  return r;
}

APRIL_INLINE void Prefetch(const void* x) { __builtin_prefetch(x, 0, 3); }

}  // namespace
}  // namespace april::kernels
