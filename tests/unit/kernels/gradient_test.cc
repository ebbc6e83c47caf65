// Weight gradients: the fixed tiles, equality of all sets, accuracy.
#include <catch2/catch.hpp>

#include "kernel_support.h"

namespace april::kernels::test {
namespace {

std::vector<float> RunGradient(const Kernels& kernels, const Elements& dy, const Elements& x, int64_t rows, int64_t n, int64_t k,
                               std::vector<float> dw) {
  const int64_t tiles = (rows + kGradientTile - 1) / kGradientTile;
  Memory dy_rows(kernels.packed_rows_bytes(rows, n)), x_rows(kernels.packed_rows_bytes(rows, k));
  kernels.pack_gradient_rows({dy.data(), n, rows, n, 0, tiles, dy_rows.data()});
  for (int64_t t = 0; t < tiles; ++t) kernels.pack_rows({x.data(), k, rows, k, t, t + 1, x_rows.data()});
  std::vector<int64_t> tile_rows;
  for (int64_t t = 0; t < tiles; ++t) tile_rows.push_back(std::min(kGradientTile, rows - t * kGradientTile));
  std::vector<float> padded = dw;
  for (int64_t i = 0; i < Panels(kernels, n); ++i) {
    for (int64_t j = 0; j < Panels(kernels, k); ++j) {
      kernels.weight_gradient({dy_rows.data(), x_rows.data(), tiles, n, k, i, i + 1, j, j + 1, dw.data(), k, tile_rows.data()});
      kernels.weight_gradient({dy_rows.data(), x_rows.data(), tiles, n, k, i, i + 1, j, j + 1, padded.data(), k});
    }
  }
  REQUIRE(SameBits(dw, padded));
  return dw;
}

}  // namespace

TEST_CASE("weight gradient: one chain a tile, or a step, in order, added to what is there") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    const int64_t rows = 301, n = 70, k = 90;
    INFO(kernels->name);
    Elements dy(*kernels, RandomFloats(rows * n, 1)), x(*kernels, RandomFloats(rows * k, 2));
    std::vector<float> start = RandomFloats(n * k, 3), dyf = dy.Floats(), xf = x.Floats(), expected = start;
    std::vector<double> exact(start.begin(), start.end());
    dyf.resize(static_cast<size_t>(384 * n));
    xf.resize(static_cast<size_t>(384 * k));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < k; ++j) {
        size_t at = static_cast<size_t>(i * k + j);
        for (int64_t first = 0; first < 384 && kernels->sum_step != 0; first += kernels->sum_step) {
          float sums[2] = {};
          for (int64_t r = first; r < first + kernels->sum_step; ++r) {
            sums[r % 2] = std::fma(dyf[static_cast<size_t>(r * n + i)], xf[static_cast<size_t>(r * k + j)], sums[r % 2]);
          }
          expected[at] += sums[0] + sums[1];
        }
        for (int64_t tile = 0; tile < 384 && kernels->sum_step == 0; tile += kGradientTile) {
          float sum = 0;
          auto step = [&](int64_t r) { sum = std::fma(dyf[static_cast<size_t>(r * n + i)], xf[static_cast<size_t>(r * k + j)], sum); };
          for (int64_t r = tile; r < tile + kGradientTile; r += 2) {
            step(kernels->element_bytes == 2 ? r + 1 : r);
            step(kernels->element_bytes == 2 ? r : r + 1);
          }
          expected[at] += sum;
        }
        for (int64_t r = 0; r < rows; ++r)
          exact[at] += static_cast<double>(dyf[static_cast<size_t>(r * n + i)]) * static_cast<double>(xf[static_cast<size_t>(r * k + j)]);
      }
    }
    std::vector<float> dw = RunGradient(*kernels, dy, x, rows, n, k, start);
    REQUIRE(SameBits(dw, expected));
    REQUIRE(WorstError(dw, exact) < 1e-5);
  }
}

TEST_CASE("weight gradient: cutting the rows at tiles changes no bit") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    const int64_t rows = 3 * kGradientTile, n = 64, k = 128, cut = kGradientTile;
    Elements dy(*kernels, RandomFloats(rows * n, 4)), x(*kernels, RandomFloats(rows * k, 5));
    std::vector<float> zero(static_cast<size_t>(n * k)), whole = RunGradient(*kernels, dy, x, rows, n, k, zero);
    std::vector<float> dyf = dy.Floats(), xf = x.Floats();
    auto part = [&](int64_t begin, int64_t end, std::vector<float> dw) {
      Elements d(*kernels, std::vector<float>(dyf.begin() + begin * n, dyf.begin() + end * n));
      Elements v(*kernels, std::vector<float>(xf.begin() + begin * k, xf.begin() + end * k));
      return RunGradient(*kernels, d, v, end - begin, n, k, std::move(dw));
    };
    REQUIRE(SameBits(part(cut, rows, part(0, cut, zero)), whole));
  }
}

}  // namespace april::kernels::test
