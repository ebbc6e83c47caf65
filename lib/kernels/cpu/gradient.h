// Weight gradients: products over rows, in tiles of a fixed number of rows.
#pragma once

#include "kernels/cpu/linear.h"

namespace april::kernels {
namespace {

// Packed rows: [tile][panel of 64 columns][unit of rows][64 columns]; a unit is two rows of bf16 or one of float. One tile's panel fits the first
// cache.
template <class E>
constexpr int64_t kTileUnits = kGradientTile / E::kPack;
template <class E>
constexpr int64_t kPanelBytes = kTileUnits<E>* kPanelColumns * 4;

template <class E>
size_t PackedRowsBytes(int64_t rows, int64_t n) {
  return static_cast<size_t>(DivideUp(rows, kGradientTile) * DivideUp(n, kPanelColumns) * kPanelBytes<E>);
}

template <class E>
void PackRows(const PackRowsArgs& a) {
  using Type = typename E::Type;
  auto* x = static_cast<const Type*>(a.x);
  const int64_t panels = DivideUp(a.n, kPanelColumns);
  for (int64_t tile = a.tile_begin; tile < a.tile_end; ++tile) {
    for (int64_t panel = 0; panel < panels; ++panel) {
      auto* out = reinterpret_cast<Type*>(static_cast<char*>(a.packed) + (tile * panels + panel) * kPanelBytes<E>);
      const int64_t first = panel * kPanelColumns, columns = Minimum(kPanelColumns, a.n - first);
      const int64_t filled = Minimum(kGradientTile, DivideUp(a.rows - tile * kGradientTile, E::kPack) * E::kPack);
      __builtin_memset(out + filled * kPanelColumns, 0, static_cast<size_t>((kGradientTile - filled) * kPanelColumns) * sizeof(Type));
      for (int64_t i = 0; i < filled; i += E::kPack) {
        const Type* rows[E::kPack];
        for (int64_t j = 0; j < E::kPack; ++j) {
          const int64_t row = tile * kGradientTile + i + j;
          rows[j] = row < a.rows ? x + row * a.x_stride + first : nullptr;
        }
        Type* unit = out + i * kPanelColumns;
        PutUnits<E>(rows, columns, unit);
        for (int64_t c = columns * E::kPack; c < kPanelColumns * E::kPack; ++c) unit[c] = 0;
      }
    }
  }
}

/// kRows columns of dY times kVectors * 16 columns of X over one tile's units of rows; `columns` of X remain.
template <class E, int kRows, int kVectors>
APRIL_INLINE void GradientTile(const char* dy, const char* x, int64_t units, float* dw, int64_t dw_stride, int64_t columns) {
  Tile<kRows, kVectors> t;
  Clear(t);
  const auto for_sums = [&](const auto& body) {
    APRIL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      APRIL_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const int64_t n = Minimum(kLanes, columns - v * kLanes);
        if (n > 0) body(t.v[r][v], dw + r * dw_stride + v * kLanes, n);
      }
    }
  };
  // Steps are added to what is there; without them a whole tile is.
  constexpr bool kSteps = E::kStepUnits != 0;
  if constexpr (kSteps) for_sums([](Vec& sum, const float* p, int64_t n) APRIL_LAMBDA_INLINE { sum = LoadFloats(p, n); });
  MultiplyAdd<E>(t, dy, 4, kPanelColumns * 4, x, kPanelColumns * 4, units);
  for_sums([](Vec& sum, float* p, int64_t n) APRIL_LAMBDA_INLINE { StoreFloats(p, kSteps ? sum : Add(LoadFloats(p, n), sum), n); });
}

template <class E>
void WeightGradient(const WeightGradientArgs& a) {
  constexpr int kVectors = Lanes::kTileVectors;
  const int64_t n_panels = DivideUp(a.n, kPanelColumns), k_panels = DivideUp(a.k, kPanelColumns);
  for (int64_t kp = a.k_panel_begin; kp < a.k_panel_end; ++kp) {
    for (int64_t np = a.n_panel_begin; np < a.n_panel_end; ++np) {
      for (int64_t tile = 0; tile < a.num_tiles; ++tile) {
        const char* dy = static_cast<const char*>(a.dy) + (tile * n_panels + np) * kPanelBytes<E>;
        const char* x = static_cast<const char*>(a.x) + (tile * k_panels + kp) * kPanelBytes<E>;
        const int64_t units = a.tile_rows == nullptr ? kTileUnits<E> : DivideUp(a.tile_rows[tile], E::kPack);
        for (int64_t column = kp * kPanelColumns; column < Minimum(a.k, (kp + 1) * kPanelColumns); column += kVectors * kLanes) {
          float* dw = a.dw + np * kPanelColumns * a.dw_stride + column;
          const char* xv = x + (column - kp * kPanelColumns) * 4;
          ForRowGroups<Lanes::kTileRows>(Minimum(kPanelColumns, a.n - np * kPanelColumns), [&]<int kRows>(int64_t r) {
            GradientTile<E, kRows, kVectors>(dy + r * 4, xv, units, dw + r * a.dw_stride, a.dw_stride, a.k - column);
          });
        }
      }
    }
  }
}

}  // namespace
}  // namespace april::kernels
