// Matrix products on tiles. The packed layouts are those of linear.h and gradient.h, but for one operand of weight_gradient.
#pragma once

#include "kernels/cpu/gradient.h"
#include "kernels/cpu/tiles.h"

namespace april::kernels {
namespace {

static_assert(kBlockColumns == kTileColumns);

/// A step that the reduction does not fill, filled up with zeros.
struct LastStep {
  alignas(64) char x[kProductRows * kTileStepBytes] = {};
  alignas(64) char w[kTileStep * kBlockColumns * 2] = {};
};

/// out (=, or += with `add`) sum, for columns that may be fewer than a product's.
APRIL_INLINE void PutSum(const float* sum, int64_t rows, int64_t columns, bool add, float* out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < columns; i += kLanes) {
      const int64_t n = Minimum(kLanes, columns - i);
      const Vec x = LoadFloats(sum + r * kTileColumns + i, n);
      StoreFloats(out + r * out_stride + i, add ? Add(LoadFloats(out + r * out_stride + i, n), x) : x, n);
    }
  }
}

template <bool kFetch>
APRIL_INLINE void TileLinearRows(const LinearArgs& a, int64_t block, int64_t row, int64_t rows) {
  alignas(64) float sum[kProductRows * kTileColumns];
  const int64_t steps = a.k / kTileStep, rest = a.k % kTileStep, x_bytes = a.x_stride * 2, unit_bytes = kBlockColumns * 4;
  const int64_t columns = Minimum(kBlockColumns, a.n - block * kBlockColumns);
  const char* x = static_cast<const char*>(a.x) + row * x_bytes;
  const char* w = static_cast<const char*>(a.packed) + block * kBlockColumns * a.k * 2;
  float* out = a.out + row * a.out_stride + block * kBlockColumns;
  // What is there already is added to the whole sum, and what lies behind the matrix is not written.
  const bool direct = !a.add && columns == kBlockColumns;
  float* to = direct ? out : sum;
  const int64_t to_stride = direct ? a.out_stride : kTileColumns;
  TileProduct<false, kFetch>({x, x_bytes, kTileStepBytes}, {w, unit_bytes, kTileStep * kBlockColumns * 2}, steps, rows, to, to_stride, kFetchAhead);
  if (rest != 0) {
    LastStep last;
    for (int64_t r = 0; r < rows; ++r) {
      __builtin_memcpy(last.x + r * kTileStepBytes, x + r * x_bytes + steps * kTileStepBytes, static_cast<size_t>(rest) * 2);
    }
    __builtin_memcpy(last.w, w + steps * kTileStep * kBlockColumns * 2, static_cast<size_t>(rest * kBlockColumns) * 2);
    TileProduct<true>({last.x, kTileStepBytes, 0}, {last.w, unit_bytes, 0}, 1, rows, to, to_stride);
  }
  if (!direct) PutSum(sum, rows, columns, a.add, out, a.out_stride);
}

void TileLinear(const LinearArgs& a) {
  const TilesInUse tiles;
  const int64_t groups = DivideUp(a.rows, kProductRows);
  for (int64_t block = a.block_begin; block < a.block_end; ++block) {
    for (int64_t g = 0, row = 0; g < groups; ++g) {
      const int64_t rows = DivideUp(a.rows - row, groups - g);
      // The first group of rows brings a block in; it stays in the second cache for the others.
      if (g == 0 && rows >= Lanes::kFetchFromRows) {
        TileLinearRows<true>(a, block, row, rows);
      } else {
        TileLinearRows<false>(a, block, row, rows);
      }
      row += rows;
    }
  }
}

// Packed rows of dY: [tile][panel of 64 columns][step of 32 rows][column][32 rows], so that a step of sixteen columns is a tile of the left operand.
constexpr int64_t kTurnedBytes = kTileRowCount * kTileStepBytes;  // of sixteen columns of a step

void PackTurnedRows(const PackRowsArgs& a) {
  const auto* x = static_cast<const uint16_t*>(a.x);
  const int64_t panels = DivideUp(a.n, kPanelColumns);
  alignas(64) char units[kTileRowCount][64];
  for (int64_t tile = a.tile_begin; tile < a.tile_end; ++tile) {
    const int64_t rows = Minimum(kGradientTile, a.rows - tile * kGradientTile);
    for (int64_t panel = 0; panel < panels; ++panel) {
      char* out = static_cast<char*>(a.packed) + (tile * panels + panel) * kPanelBytes<Bf16>;
      for (int64_t first = 0; first < kGradientTile; first += kTileStep) {
        for (int64_t column = 0; column < kPanelColumns; column += kTileRowCount, out += kTurnedBytes) {
          const int64_t at = panel * kPanelColumns + column, columns = Minimum(kTileRowCount, a.n - at);
          if (first >= rows || columns <= 0) {
            __builtin_memset(out, 0, kTurnedBytes);
            continue;
          }
          for (int64_t u = 0; u < kTileRowCount; ++u) {
            const uint16_t* pair[2];
            for (int64_t j = 0; j < 2; ++j) {
              const int64_t row = first + 2 * u + j;
              pair[j] = row < rows ? x + (tile * kGradientTile + row) * a.x_stride + at : nullptr;
            }
            if (columns < kTileRowCount) __builtin_memset(units[u], 0, 64);
            PutUnits<Bf16>(pair, columns, units[u]);
          }
          TurnUnits(units[0], 64, out, kTileStepBytes);
        }
      }
    }
  }
}

/// 32 columns of dY from `row` of their panel on, times 32 columns of X: all tiles' rows go through the same accumulators.
APRIL_INLINE void TileGradient(const WeightGradientArgs& a, int64_t n_panel, int64_t row, int64_t rows, int64_t k_panel, int64_t column, float* dw,
                               int64_t dw_stride) {
  const int64_t n_panels = DivideUp(a.n, kPanelColumns), k_panels = DivideUp(a.k, kPanelColumns);
  const char* dy = static_cast<const char*>(a.dy) + n_panel * kPanelBytes<Bf16> + row / kTileRowCount * kTurnedBytes;
  const char* x = static_cast<const char*>(a.x) + k_panel * kPanelBytes<Bf16> + column * 4;
  WithRows(rows, [&]<bool kTwo>() APRIL_LAMBDA_INLINE {
    LoadSums<kTwo>(dw, dw_stride);
    for (int64_t tile = 0; tile < a.num_tiles; ++tile) {
      const int64_t steps = a.tile_rows == nullptr ? kGradientTile / kTileStep : DivideUp(a.tile_rows[tile], kTileStep);
      AddSteps<kTwo>({dy + tile * n_panels * kPanelBytes<Bf16>, kTileStepBytes, kPanelColumns * kTileStepBytes},
                     {x + tile * k_panels * kPanelBytes<Bf16>, kPanelColumns * 4, kTileStep / 2 * kPanelColumns * 4}, steps);
    }
    StoreSums<kTwo>(dw, dw_stride);
  });
}

void TileWeightGradient(const WeightGradientArgs& a) {
  const TilesInUse tiles;
  alignas(64) float part[kProductRows * kTileColumns];
  for (int64_t kp = a.k_panel_begin; kp < a.k_panel_end; ++kp) {
    for (int64_t np = a.n_panel_begin; np < a.n_panel_end; ++np) {
      const int64_t all_rows = Minimum(kPanelColumns, a.n - np * kPanelColumns), all_columns = Minimum(kPanelColumns, a.k - kp * kPanelColumns);
      for (int64_t row = 0; row < all_rows; row += kProductRows) {
        const int64_t rows = Minimum(kProductRows, all_rows - row);
        for (int64_t column = 0; column < all_columns; column += kTileColumns) {
          const int64_t columns = Minimum(kTileColumns, all_columns - column);
          float* dw = a.dw + (np * kPanelColumns + row) * a.dw_stride + kp * kPanelColumns + column;
          if (columns == kTileColumns) {
            TileGradient(a, np, row, rows, kp, column, dw, a.dw_stride);
            continue;
          }
          for (int64_t r = 0; r < rows; ++r) __builtin_memcpy(part + r * kTileColumns, dw + r * a.dw_stride, static_cast<size_t>(columns) * 4);
          TileGradient(a, np, row, rows, kp, column, part, kTileColumns);
          PutSum(part, rows, columns, false, dw, a.dw_stride);
        }
      }
    }
  }
}

}  // namespace
}  // namespace april::kernels
