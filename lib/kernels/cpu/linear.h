// Matrix products: one accumulator per output over the whole reduction.
#pragma once

#include "kernels/cpu/product.h"

namespace april::kernels {
namespace {

// Packed weights: [block of 32 columns][unit of the reduction][32 columns], so that a row's unit meets 32 columns in two vectors and a block is one
// stream.
constexpr int kBlockVectors = kBlockColumns / kLanes;

template <class E>
size_t PackedBytes(int64_t n, int64_t k) {
  return static_cast<size_t>(DivideUp(n, kBlockColumns) * kBlockColumns * k) * sizeof(typename E::Type);
}

/// Where element (column, reduce) of a packed matrix with reduction k lies.
template <class E>
APRIL_INLINE int64_t PackedIndex(int64_t column, int64_t reduce, int64_t k) {
  int64_t block = column / kBlockColumns, lane = column % kBlockColumns;
  return (block * (k / E::kPack) + reduce / E::kPack) * kBlockColumns * E::kPack + lane * E::kPack + reduce % E::kPack;
}

template <class E>
void Pack(const PackArgs& a) {
  auto* w = static_cast<const typename E::Type*>(a.w);
  auto* packed = static_cast<typename E::Type*>(a.packed);
  const int64_t step = kBlockColumns * E::kPack;
  // A few units of all columns at a time: reads and writes then both stay within a handful of cache lines.
  constexpr int64_t kStripe = 32;
  for (int64_t first = 0; first < a.k; first += kStripe) {
    int64_t last = Minimum(a.k, first + kStripe);
    for (int64_t i = 0; i < a.n; ++i) {
      typename E::Type* out = packed + PackedIndex<E>(a.column_begin + i, first, a.k);
      for (int64_t j = first; j < last; j += E::kPack, out += step) __builtin_memcpy(out, w + i * a.w_stride + j, 4);
    }
  }
}

template <class E>
void PackTransposed(const PackTransposedArgs& a) {
  auto* w = static_cast<const typename E::Type*>(a.w);
  auto* packed = static_cast<typename E::Type*>(a.packed);
  for (int64_t c = a.column_begin; c < a.column_end;) {
    const int64_t columns = Minimum(a.column_end - c, kBlockColumns - c % kBlockColumns);
    for (int64_t i = 0; i < a.n; i += E::kPack) {
      const typename E::Type* rows[E::kPack];
      for (int64_t j = 0; j < E::kPack; ++j) rows[j] = w + (i + j) * a.w_stride + c;
      PutUnits<E>(rows, columns, packed + PackedIndex<E>(c, a.reduce_begin + i, a.total));
    }
    c += columns;
  }
}

// oneDNN's brgemm (LibTorch's at::native::cpublas::brgemm, on blocks of 64 columns) gives the same bits with AVX-512-BF16. Beside this loop, in
// alternating runs on Zen 4, it took 1.8 to 1.9 times as long at 1 row, 1.2 to 1.8 at 8, 1.0 to 1.2 at 32, and the same from 64 rows on.
// Its own set (brgemm.cc) is there to compare with.

// How far ahead weights are fetched by instruction. A handful of rows streams them at the memory's full rate without (the processor's own fetching is
// then better); more rows compute so long on each line that it loses track.
constexpr int64_t kFetchAhead = 8192;

/// kRows rows times kVectors * 16 of a block's columns, from `column` of the block on.
template <class E, int kFetch, int kRows, int kVectors>
APRIL_INLINE void LinearTile(const LinearArgs& a, int64_t row, int64_t block, int64_t column) {
  const int64_t units = a.k / E::kPack, x_bytes = a.x_stride * static_cast<int64_t>(sizeof(typename E::Type));
  const char* w = static_cast<const char*>(a.packed) + (block * units * kBlockColumns + column) * 4;
  Tile<kRows, kVectors> t;
  Clear(t);
  MultiplyAdd<E, kFetch>(t, static_cast<const char*>(a.x) + row * x_bytes, x_bytes, 4, w, kBlockColumns * 4, units, kFetchAhead);
  APRIL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    float* out = a.out + (row + r) * a.out_stride + block * kBlockColumns + column;
    APRIL_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int64_t n = Minimum(kLanes, a.n - block * kBlockColumns - column - v * kLanes);
      if (n <= 0) continue;
      StoreFloats(out + v * kLanes, a.add ? Add(LoadFloats(out + v * kLanes, n), t.v[r][v]) : t.v[r][v], n);
    }
  }
}

template <class E, int kMaxRows, int kVectors>
APRIL_INLINE void LinearBlock(const LinearArgs& a, int64_t block) {
  const bool fetch = a.rows >= Lanes::kFetchFromRows;
  for (int64_t column = 0; column < kBlockColumns; column += kVectors * kLanes) {
    ForRowGroups<kMaxRows>(a.rows, [&]<int kRows>(int64_t row) {
      // The first group of rows brings a block in; it stays in the second cache for the others.
      if (fetch && row == 0 && column == 0) {
        LinearTile<E, kBlockVectors, kRows, kVectors>(a, row, block, column);
      } else {
        LinearTile<E, 0, kRows, kVectors>(a, row, block, column);
      }
    });
  }
}

template <class E>
void Linear(const LinearArgs& a) {
  for (int64_t block = a.block_begin; block < a.block_end; ++block) {
    if constexpr (Lanes::kFewRows > 0) {
      if (a.rows <= Lanes::kFewRows) {
        LinearBlock<E, Lanes::kFewTileRows, kFewTileVectors>(a, block);
        continue;
      }
    }
    LinearBlock<E, Lanes::kLinearRows, Lanes::kLinearVectors>(a, block);
  }
}

}  // namespace
}  // namespace april::kernels
