// What attention, forward and backward, multiplies with, on tiles. Head sizes that do not fill steps and products are left to the lanes,
// which sum in the same order.
#pragma once

#include "kernels/cpu/attention_backward.h"
#include "kernels/cpu/tiles.h"

namespace april::kernels {
namespace {

/// StepBf16, multiplied on tiles.
struct TileBf16 : StepBf16 {
  static constexpr int kAttentionRows = static_cast<int>(kProductRows);
  static constexpr int64_t kReduceStep = kTileStep;
};

/// Fetches so many bytes into the second cache.
APRIL_INLINE void FetchBytes(const char* data, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) Prefetch(data + i);
}

template <bool kFetch>
APRIL_INLINE void TileScores(const char* q, int64_t q_bytes, int64_t rows, const char* keys, int64_t head_dim, float (*scores)[kKvBlock],
                             int64_t ahead) {
  static_assert(kKvBlock == kTileColumns);
  if (head_dim % kTileStep != 0) return Scores<StepBf16, kFetch>(q, q_bytes, rows, keys, head_dim, scores, ahead);
  if constexpr (kFetch) FetchBytes(keys + ahead, KvHeadBytes<Bf16>(head_dim));
  for (int64_t row = 0; row < rows; row += kProductRows) {
    TileProduct<false>({q + row * q_bytes, q_bytes, kTileStepBytes}, {keys, kKvBlock * 4, kTileStep / 2 * kKvBlock * 4}, head_dim / kTileStep,
                       Minimum(kProductRows, rows - row), scores[row], kKvBlock);
  }
}

template <>
APRIL_INLINE void Scores<TileBf16, false>(const char* q, int64_t q_bytes, int64_t rows, const char* keys, int64_t head_dim, float (*scores)[kKvBlock],
                                          int64_t ahead) {
  TileScores<false>(q, q_bytes, rows, keys, head_dim, scores, ahead);
}

template <>
APRIL_INLINE void Scores<TileBf16, true>(const char* q, int64_t q_bytes, int64_t rows, const char* keys, int64_t head_dim, float (*scores)[kKvBlock],
                                         int64_t ahead) {
  TileScores<true>(q, q_bytes, rows, keys, head_dim, scores, ahead);
}

/// Rows of c times their factors; one does not change them.
APRIL_INLINE void ScaleRows(const float* factor, int64_t rows, int64_t columns, float* c, int64_t c_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    if (factor[r] == 1) continue;
    const Vec f = Set(factor[r]);
    for (int64_t i = 0; i < columns; i += kLanes) Store(c + r * c_stride + i, Mul(Load(c + r * c_stride + i), f));
  }
}

/// The left operand comes as rows (a_unit_bytes 4), or as columns, which are turned first. Its units and those of b are there, as zeros at least, up
/// to a whole step.
template <bool kFetch>
APRIL_INLINE void TileAccumulate(const char* a, int64_t a_row_bytes, int64_t a_unit_bytes, const char* b, int64_t b_unit_bytes, int64_t units,
                                 int64_t rows, int64_t columns, const float* factor, float* c, int64_t c_stride, int64_t ahead) {
  constexpr int64_t kUnits = kTileStep / 2;
  if (columns % kTileColumns != 0) {
    return AccumulateRows<StepBf16, Lanes::kTileRows, kFetch>(a, a_row_bytes, a_unit_bytes, b, b_unit_bytes, units, rows, columns, factor, c,
                                                              c_stride, ahead);
  }
  if constexpr (kFetch) FetchBytes(b + ahead, kUnits * b_unit_bytes);
  if (factor != nullptr) ScaleRows(factor, rows, columns, c, c_stride);
  const int64_t steps = DivideUp(units, kUnits);
  alignas(64) char turned[kKvBlock * kQueryTile * 2];
  if (a_unit_bytes != 4) {
    for (int64_t step = 0; step < steps; ++step) {
      for (int64_t row = 0; row < kKvBlock; row += kTileRowCount) {
        TurnUnits(a + step * kUnits * a_unit_bytes + row * 4, a_unit_bytes, turned + row * kQueryTile * 2 + step * kTileStepBytes, kQueryTile * 2);
      }
    }
    a = turned;
    a_row_bytes = kQueryTile * 2;
  }
  for (int64_t row = 0; row < rows; row += kProductRows) {
    for (int64_t column = 0; column < columns; column += kTileColumns) {
      TileProduct<true>({a + row * a_row_bytes, a_row_bytes, kTileStepBytes}, {b + column * 4, b_unit_bytes, kUnits * b_unit_bytes}, steps,
                        Minimum(kProductRows, rows - row), c + row * c_stride + column, c_stride);
    }
  }
}

template <>
APRIL_INLINE void AccumulateRows<TileBf16, Lanes::kTileRows, false>(const char* a, int64_t a_row_bytes, int64_t a_unit_bytes, const char* b,
                                                                    int64_t b_unit_bytes, int64_t units, int64_t rows, int64_t columns,
                                                                    const float* factor, float* c, int64_t c_stride, int64_t ahead) {
  TileAccumulate<false>(a, a_row_bytes, a_unit_bytes, b, b_unit_bytes, units, rows, columns, factor, c, c_stride, ahead);
}

template <>
APRIL_INLINE void AccumulateRows<TileBf16, Lanes::kTileRows, true>(const char* a, int64_t a_row_bytes, int64_t a_unit_bytes, const char* b,
                                                                   int64_t b_unit_bytes, int64_t units, int64_t rows, int64_t columns,
                                                                   const float* factor, float* c, int64_t c_stride, int64_t ahead) {
  TileAccumulate<true>(a, a_row_bytes, a_unit_bytes, b, b_unit_bytes, units, rows, columns, factor, c, c_stride, ahead);
}

void TileAttention(const AttentionArgs& a) {
  const TilesInUse tiles;
  Attention<TileBf16>(a);
}

void TileAttentionBackward(const AttentionBackwardArgs& a) {
  const TilesInUse tiles;
  AttentionBackward<TileBf16>(a);
}

}  // namespace
}  // namespace april::kernels
