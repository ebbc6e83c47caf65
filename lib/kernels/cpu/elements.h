// The two element types. A unit is 32 bits: a pair of bf16 along the reduction, or one float; every product kernel works on units.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/contract.h"
#include "kernels/table.h"

namespace april::kernels {
namespace {

constexpr int64_t kBlockColumns = 32;  // of linear
constexpr int64_t kPanelColumns = 64;  // of weight_gradient

APRIL_INLINE constexpr int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }
APRIL_INLINE int64_t Minimum(int64_t a, int64_t b) { return a < b ? a : b; }

/// One unit, in all lanes.
APRIL_INLINE Bits SetUnit(const void* x) {
  uint32_t unit;
  __builtin_memcpy(&unit, x, 4);
  return SetBits(unit);
}

struct Bf16 {
  using Type = uint16_t;
  static constexpr int64_t kPack = 2;        // elements in a unit
  static constexpr int64_t kReduceStep = 2;  // elements that products take at once
  static constexpr int64_t kStepUnits = 0;   // units in a step of a sum; 0: none
  static constexpr int kAttentionRows = Lanes::kAttentionRows;
  static APRIL_INLINE Vec Dot(Vec acc, Bits a, Bits b) { return DotBf16(acc, a, b); }
  static APRIL_INLINE Vec Load(const Type* x) { return LoadBf16(x); }
  static APRIL_INLINE Vec LoadPart(const Type* x, int64_t n) {
    Type all[16] = {};
    __builtin_memcpy(all, x, static_cast<size_t>(n) * sizeof(Type));
    return LoadBf16(all);
  }
  static APRIL_INLINE void Store(Type* out, Vec x) { StoreBf16(out, x); }
  static APRIL_INLINE void StorePart(Type* out, Vec x, int64_t n) { StoreBf16Part(out, x, n); }
};

/// bf16, summed in the order of AMX (tiles.h).
struct StepBf16 : Bf16 {
  static constexpr int64_t kStepUnits = 16;
};

struct F32 {
  using Type = float;
  static constexpr int64_t kPack = 1;
  static constexpr int64_t kReduceStep = 1;
  static constexpr int64_t kStepUnits = 0;
  static constexpr int kAttentionRows = Lanes::kAttentionRows;
  static APRIL_INLINE Vec Dot(Vec acc, Bits a, Bits b) { return Fma(AsVec(a), AsVec(b), acc); }
  static APRIL_INLINE Vec Load(const Type* x) { return april::kernels::Load(x); }
  static APRIL_INLINE Vec LoadPart(const Type* x, int64_t n) { return april::kernels::LoadPart(x, n); }
  static APRIL_INLINE void Store(Type* out, Vec x) { april::kernels::Store(out, x); }
  static APRIL_INLINE void StorePart(Type* out, Vec x, int64_t n) { april::kernels::StorePart(out, x, n); }
};

/// Writes n units of neighbouring rows: rows[j][i] becomes element j of unit i. A null row counts as zero.
template <class E>
APRIL_INLINE void PutUnits(const typename E::Type* const (&rows)[E::kPack], int64_t n, void* units) {
  using Type = typename E::Type;
  auto* out = static_cast<Type*>(units);
  int64_t i = 0;
  if constexpr (E::kPack == 2) {
    static const Type nothing[kLanes] = {};
    for (; i + kLanes <= n; i += kLanes) {
      StoreBits(out + i * 2, Interleave(rows[0] == nullptr ? nothing : rows[0] + i, rows[1] == nullptr ? nothing : rows[1] + i));
    }
  }
  for (; i < n; ++i) {
    for (int64_t j = 0; j < E::kPack; ++j) out[i * E::kPack + j] = rows[j] == nullptr ? Type{} : rows[j][i];
  }
}

/// Calls body(begin, count) for each group of sixteen of [0, n); the last may be shorter.
template <class Body>
APRIL_INLINE void ForLanes(int64_t n, Body body) {
  for (int64_t i = 0; i < n; i += kLanes) body(i, Minimum(kLanes, n - i));
}

APRIL_INLINE Vec LoadFloats(const float* x, int64_t n) { return n == kLanes ? Load(x) : LoadPart(x, n); }
APRIL_INLINE void StoreFloats(float* out, Vec x, int64_t n) { n == kLanes ? Store(out, x) : StorePart(out, x, n); }

template <class E>
APRIL_INLINE Vec LoadElements(const typename E::Type* x, int64_t n) {
  return n == kLanes ? E::Load(x) : E::LoadPart(x, n);
}

template <class E>
APRIL_INLINE void StoreElements(typename E::Type* out, Vec x, int64_t n) {
  n == kLanes ? E::Store(out, x) : E::StorePart(out, x, n);
}

}  // namespace
}  // namespace april::kernels
