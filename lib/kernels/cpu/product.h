// The inner loop of every product: a small tile of accumulators in registers, one unit of the reduction at a time.
#pragma once

#include "kernels/cpu/functions.h"

namespace april::kernels {
namespace {

constexpr int kFewTileVectors = 2;  // see Lanes::kFewRows

/// Accumulators of kRows rows times kVectors * 16 columns.
template <int kRows, int kVectors>
struct Tile {
  Vec v[kRows][kVectors];
};

#define APRIL_UNROLL _Pragma("GCC unroll 16")
#define APRIL_LAMBDA_INLINE __attribute__((always_inline))

template <int kRows, int kVectors>
APRIL_INLINE void Clear(Tile<kRows, kVectors>& t) {
  APRIL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    APRIL_UNROLL
    for (int v = 0; v < kVectors; ++v) t.v[r][v] = Zero();
  }
}

/// t[r][v] += sum over units of a(r, u) * b(u, v): a(r, u) is one unit at a + r * a_row_bytes + u * a_unit_bytes, met with kVectors * 16 columns at
/// b + u * b_unit_bytes. kFetch lines of what lies `ahead` bytes behind b are fetched into the second cache on the way. Element types with steps sum
/// those as tiles.h says, all others unit after unit.
template <class E, int kFetch = 0, int kRows, int kVectors>
APRIL_INLINE void MultiplyAdd(Tile<kRows, kVectors>& t, const char* a, int64_t a_row_bytes, int64_t a_unit_bytes, const char* b, int64_t b_unit_bytes,
                              int64_t units, int64_t ahead = 0) {
  const auto for_units = [&](int64_t count, const auto& add) {
    for (int64_t u = 0; u < count; ++u) {
      Bits w[kVectors];
      APRIL_UNROLL
      for (int v = 0; v < kVectors; ++v) w[v] = LoadBits(b + v * 64);
      APRIL_UNROLL
      for (int v = 0; v < kFetch; ++v) Prefetch(b + v * 64 + ahead);
      APRIL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        Bits x = SetUnit(a + r * a_row_bytes);
        APRIL_UNROLL
        for (int v = 0; v < kVectors; ++v) add(r, v, x, w[v]);
      }
      a += a_unit_bytes;
      b += b_unit_bytes;
    }
  };
  if constexpr (E::kStepUnits == 0) {
    for_units(units, [&](int r, int v, Bits x, Bits w) APRIL_LAMBDA_INLINE { t.v[r][v] = E::Dot(t.v[r][v], x, w); });
  } else {
    for (int64_t first = 0; first < units; first += E::kStepUnits) {
      Tile<kRows, kVectors> even, odd;
      Clear(even);
      Clear(odd);
      const int64_t count = Minimum(E::kStepUnits, units - first);
      for_units(count, [&](int r, int v, Bits x, Bits w) APRIL_LAMBDA_INLINE {
        even.v[r][v] = FuseBf16<false>(even.v[r][v], x, w);
        odd.v[r][v] = FuseBf16<true>(odd.v[r][v], x, w);
      });
      for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v) {
          // What an incomplete step is filled up with makes a negative zero positive.
          if (count < E::kStepUnits) {
            even.v[r][v] = Add(even.v[r][v], Zero());
            odd.v[r][v] = Add(odd.v[r][v], Zero());
          }
          t.v[r][v] = Add(t.v[r][v], Add(even.v[r][v], odd.v[r][v]));
        }
      }
    }
  }
}

/// Calls body<R>(first) for groups of R <= kMax rows that cover [0, rows), all nearly equal.
template <int kMax, class Body>
APRIL_INLINE void ForRowGroups(int64_t rows, Body body) {
  const int64_t groups = DivideUp(rows, kMax);
  for (int64_t g = 0, first = 0; g < groups; ++g) {
    const int64_t count = DivideUp(rows - first, groups - g);
#define APRIL_CASE(n)                                            \
  case n:                                                        \
    if constexpr (n <= kMax) body.template operator()<n>(first); \
    break;
    switch (count) {
      APRIL_CASE(1)
      APRIL_CASE(2)
      APRIL_CASE(3)
      APRIL_CASE(4)
      APRIL_CASE(5)
      APRIL_CASE(6)
      APRIL_CASE(7)
      APRIL_CASE(8)
      APRIL_CASE(9)
      APRIL_CASE(10)
      APRIL_CASE(11)
      APRIL_CASE(12)
      default:
        __builtin_unreachable();
    }
#undef APRIL_CASE
    first += count;
  }
}

template <class E, int kMaxRows, int kMaxVectors, bool kFetch>
APRIL_INLINE void AccumulateTiles(const char* a, int64_t a_row_bytes, int64_t a_unit_bytes, const char* b, int64_t b_unit_bytes, int64_t units,
                                  int64_t rows, int64_t columns, const float* factor, float* c, int64_t c_stride, int64_t ahead) {
  ForRowGroups<kMaxRows>(rows, [&]<int kRows>(int64_t first) {
    auto columns_of = [&]<int kVectors>(int64_t column) {
      Tile<kRows, kVectors> t;
      APRIL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        APRIL_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          t.v[r][v] = Load(c + (first + r) * c_stride + column + v * kLanes);
          if (factor != nullptr) t.v[r][v] = Mul(t.v[r][v], Set(factor[first + r]));
        }
      }
      MultiplyAdd<E, kFetch ? kVectors : 0>(t, a + first * a_row_bytes, a_row_bytes, a_unit_bytes, b + column * 4, b_unit_bytes, units, ahead);
      APRIL_UNROLL
      for (int r = 0; r < kRows; ++r) {
        APRIL_UNROLL
        for (int v = 0; v < kVectors; ++v) Store(c + (first + r) * c_stride + column + v * kLanes, t.v[r][v]);
      }
    };
    int64_t column = 0;
    for (; column + kMaxVectors * kLanes <= columns; column += kMaxVectors * kLanes) columns_of.template operator()<kMaxVectors>(column);
    for (; column < columns; column += kLanes) columns_of.template operator()<1>(column);
  });
}

/// c[r, :] = c[r, :] * factor[r] + sum over units of a(r, u) * b(u, :), for `columns` (a multiple of 16) contiguous units of b. A null factor is 1.
template <class E, int kMaxRows, bool kFetch = false>
APRIL_INLINE void AccumulateRows(const char* a, int64_t a_row_bytes, int64_t a_unit_bytes, const char* b, int64_t b_unit_bytes, int64_t units,
                                 int64_t rows, int64_t columns, const float* factor, float* c, int64_t c_stride, int64_t ahead = 0) {
  if constexpr (Lanes::kFewRows > 0) {
    if (rows <= Lanes::kFewRows) {
      return AccumulateTiles<E, Lanes::kFewTileRows, kFewTileVectors, kFetch>(a, a_row_bytes, a_unit_bytes, b, b_unit_bytes, units, rows, columns,
                                                                              factor, c, c_stride, ahead);
    }
  }
  AccumulateTiles<E, kMaxRows, Lanes::kTileVectors, kFetch>(a, a_row_bytes, a_unit_bytes, b, b_unit_bytes, units, rows, columns, factor, c, c_stride,
                                                            ahead);
}

}  // namespace
}  // namespace april::kernels
