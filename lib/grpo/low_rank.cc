#include "grpo/low_rank.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/memory.h"
#include "weights/convert.h"

namespace april::grpo {
namespace {

using kernels::Kernels;
using kernels::kGradientTile;
using Worker = kernels::ThreadPool::Worker;

int64_t Divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// A piece of work on one matrix: `part` counts row tiles, or column panels.
struct Task {
  size_t matrix;
  int64_t part;
};

/// Working memory of each thread, cut into pieces that begin on cache lines.
class Scratch {
 public:
  Scratch(int num_threads, size_t bytes) {
    for (int i = 0; i < num_threads; ++i) memories_.emplace_back(bytes);
  }
  char* Of(const Worker& worker) const { return memories_[static_cast<size_t>(worker.index())].as<char>(); }
  static size_t Piece(size_t bytes) { return (bytes + 63) / 64 * 64; }

 private:
  std::vector<kernels::Memory> memories_;
};

/// One tile of merged rows. The product is a weight gradient whose "rows" are the rank: B's tile transposed, times A.
void MergeTile(const Kernels& kernels, const MergeArgs& m, int64_t tile, int64_t rank, float scale, const std::vector<int64_t>& tile_rows,
               char* scratch) {
  const int64_t row = tile * kGradientTile, rows = std::min(kGradientTile, m.n - row), tiles = static_cast<int64_t>(tile_rows.size());
  auto* transposed = reinterpret_cast<float*>(scratch);  // [rank, rows]
  scratch += Scratch::Piece(static_cast<size_t>(rank * kGradientTile) * sizeof(float));
  auto* product = reinterpret_cast<float*>(scratch);  // [rows, k]
  scratch += Scratch::Piece(static_cast<size_t>(kGradientTile * m.k) * sizeof(float));
  char *packed_b = scratch, *packed_a = scratch + Scratch::Piece(kernels.packed_rows_bytes(rank, kGradientTile));
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t i = 0; i < rows; ++i) transposed[r * rows + i] = m.b[(row + i) * rank + r];
  }
  kernels.pack_gradient_rows({transposed, rows, rank, rows, 0, tiles, packed_b});
  kernels.pack_rows({m.a, m.k, rank, m.k, 0, tiles, packed_a});
  std::memset(product, 0, static_cast<size_t>(rows * m.k) * sizeof(float));
  kernels.weight_gradient({packed_b, packed_a, tiles, rows, m.k, 0, Divide(rows, kernels.panel_columns), 0, Divide(m.k, kernels.panel_columns),
                           product, m.k, tile_rows.data()});
  const uint16_t* base = m.base + row * m.k;
  uint16_t* merged = m.merged + row * m.k;
  for (int64_t i = 0; i < rows * m.k; ++i) {
    merged[i] = product[i] == 0 ? base[i] : weights::F32ToBf16(weights::Bf16ToF32(base[i]) + scale * product[i]);
  }
}

/// Columns of one panel of da.
void PanelGradient(const Kernels& kernels, const FactorGradientArgs& m, int64_t panel, int64_t rank, float scale, char* scratch) {
  const int64_t column = panel * kernels.panel_columns, columns = std::min(kernels.panel_columns, m.k - column), tiles = Divide(m.n, kGradientTile);
  char *packed_dw = scratch, *packed_b = scratch + Scratch::Piece(kernels.packed_rows_bytes(m.n, kernels.panel_columns));
  kernels.pack_rows({m.dw + column, m.k, m.n, columns, 0, tiles, packed_dw});
  kernels.pack_gradient_rows({m.b, rank, m.n, rank, 0, tiles, packed_b});
  float* da = m.da + column;
  for (int64_t r = 0; r < rank; ++r) std::memset(da + r * m.k, 0, static_cast<size_t>(columns) * sizeof(float));
  kernels.weight_gradient({packed_b, packed_dw, tiles, rank, columns, 0, Divide(rank, kernels.panel_columns), 0, 1, da, m.k});
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t c = 0; c < columns; ++c) da[r * m.k + c] *= scale;
  }
}

/// One tile's rows of db.
void TileGradient(const Kernels& kernels, const FactorGradientArgs& m, int64_t tile, int64_t rank, float scale, char* packed_a) {
  const int64_t row = tile * kGradientTile, rows = std::min(kGradientTile, m.n - row);
  std::memset(packed_a, 0, kernels.packed_bytes(rank, m.k));
  kernels.pack({m.a, m.k, rank, m.k, 0, packed_a});
  float* db = m.db + row * rank;
  kernels.linear({m.dw + row * m.k, m.k, rows, packed_a, rank, m.k, 0, Divide(rank, kernels.column_block), db, rank, false});
  for (int64_t i = 0; i < rows * rank; ++i) db[i] *= scale;
}

const Kernels& FloatKernels() { return kernels::ChooseKernels("auto", kernels::Precision::kF32); }

}  // namespace

void Merge(std::span<const MergeArgs> matrices, int64_t rank, float scale, kernels::ThreadPool& pool) {
  const Kernels& kernels = FloatKernels();
  std::vector<Task> tasks;
  int64_t k = 0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    for (int64_t tile = 0; tile < Divide(matrices[i].n, kGradientTile); ++tile) tasks.push_back({i, tile});
    k = std::max(k, matrices[i].k);
  }
  std::vector<int64_t> tile_rows;  // of the rank
  for (int64_t begin = 0; begin < rank; begin += kGradientTile) tile_rows.push_back(std::min(kGradientTile, rank - begin));
  const Scratch scratch(pool.num_threads(), Scratch::Piece(static_cast<size_t>(rank * kGradientTile) * sizeof(float)) +
                                                Scratch::Piece(static_cast<size_t>(kGradientTile * k) * sizeof(float)) +
                                                Scratch::Piece(kernels.packed_rows_bytes(rank, kGradientTile)) + kernels.packed_rows_bytes(rank, k));
  pool.Run([&](Worker& worker) {
    for (int64_t i; (i = worker.NextTask(static_cast<int64_t>(tasks.size()))) >= 0;) {
      const Task& task = tasks[static_cast<size_t>(i)];
      MergeTile(kernels, matrices[task.matrix], task.part, rank, scale, tile_rows, scratch.Of(worker));
    }
  });
}

void FactorGradients(std::span<const FactorGradientArgs> matrices, int64_t rank, float scale, kernels::ThreadPool& pool) {
  const Kernels& kernels = FloatKernels();
  std::vector<Task> panels, tiles;
  size_t bytes = 0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const FactorGradientArgs& m = matrices[i];
    for (int64_t panel = 0; panel < Divide(m.k, kernels.panel_columns); ++panel) panels.push_back({i, panel});
    for (int64_t tile = 0; tile < Divide(m.n, kGradientTile); ++tile) tiles.push_back({i, tile});
    bytes = std::max({bytes, Scratch::Piece(kernels.packed_rows_bytes(m.n, kernels.panel_columns)) + kernels.packed_rows_bytes(m.n, rank),
                      kernels.packed_bytes(rank, m.k)});
  }
  const Scratch scratch(pool.num_threads(), bytes);
  const auto num_panels = static_cast<int64_t>(panels.size()), num_tiles = static_cast<int64_t>(tiles.size());
  pool.Run([&](Worker& worker) {
    for (int64_t i; (i = worker.NextTask(num_panels + num_tiles)) >= 0;) {
      if (i < num_panels) {
        const Task& task = panels[static_cast<size_t>(i)];
        PanelGradient(kernels, matrices[task.matrix], task.part, rank, scale, scratch.Of(worker));
      } else {
        const Task& task = tiles[static_cast<size_t>(i - num_panels)];
        TileGradient(kernels, matrices[task.matrix], task.part, rank, scale, scratch.Of(worker));
      }
    }
  });
}

}  // namespace april::grpo
