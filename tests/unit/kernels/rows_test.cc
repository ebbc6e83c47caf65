// Norms, rotation, activation, conversion: against double, gradients against finite differences of the double reference, and the same bits in every
// set.
#include <catch2/catch.hpp>

#include <functional>

#include "kernel_support.h"

namespace april::kernels::test {
namespace {

using Doubles = std::vector<double>;

Doubles AsDoubles(const std::vector<float>& x) { return {x.begin(), x.end()}; }

/// Central differences of sum(weights * f(x)) over all x.
Doubles Slope(const std::function<Doubles(const Doubles&)>& f, const Doubles& x, const Doubles& weights) {
  Doubles out(x.size()), moved = x;
  for (size_t i = 0; i < x.size(); ++i) {
    const double step = 1e-5;
    auto value = [&](double at) {
      moved[i] = at;
      Doubles y = f(moved);
      double sum = 0;
      for (size_t j = 0; j < y.size(); ++j) sum += y[j] * weights[j];
      return sum;
    };
    out[i] = (value(x[i] + step) - value(x[i] - step)) / (2 * step);
    moved[i] = x[i];
  }
  return out;
}

Doubles ReferenceNorm(const Doubles& x, const Doubles& weight, int64_t n, double eps) {
  Doubles out(x.size());
  for (size_t r = 0; r < x.size(); r += static_cast<size_t>(n)) {
    double sum = 0;
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) sum += x[r + i] * x[r + i];
    const double inverse = 1 / std::sqrt(sum / static_cast<double>(n) + eps);
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) out[r + i] = x[r + i] * inverse * weight[i];
  }
  return out;
}

Doubles ReferenceRope(const Doubles& x, int64_t heads, int64_t head_dim, const std::vector<float>& table, const std::vector<int32_t>& positions,
                      const Doubles& bias, const Doubles& norm_weight, double eps) {
  Doubles y = x, out(x.size());
  const size_t dim = static_cast<size_t>(head_dim), width = static_cast<size_t>(heads) * dim, half = dim / 2;
  if (!bias.empty()) {
    for (size_t i = 0; i < y.size(); ++i) y[i] += bias[i % width];
  }
  if (!norm_weight.empty()) y = ReferenceNorm(y, norm_weight, head_dim, eps);
  for (size_t h = 0; h < y.size(); h += dim) {
    const float* angles = table.data() + static_cast<size_t>(positions[h / width]) * dim;
    for (size_t i = 0; i < half; ++i) {
      const double c = static_cast<double>(angles[i]), s = static_cast<double>(angles[half + i]);
      out[h + i] = y[h + i] * c - y[h + half + i] * s;
      out[h + half + i] = y[h + half + i] * c + y[h + i] * s;
    }
  }
  return out;
}

std::vector<float> RopeTable(int64_t positions, int64_t head_dim) {
  std::vector<float> table;
  for (int64_t p = 0; p < positions; ++p) {
    for (int part = 0; part < 2; ++part) {
      for (int64_t i = 0; i < head_dim / 2; ++i) {
        const double angle = static_cast<double>(p) * std::pow(1e4, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
        table.push_back(static_cast<float>(part == 0 ? std::cos(angle) : std::sin(angle)));
      }
    }
  }
  return table;
}

}  // namespace

TEST_CASE("rms norm and its gradient") {
  FlushDenormals flush;
  const float eps = 1e-5f;
  for (const Kernels* kernels : AvailableKernels()) {
    for (int64_t n : {16, 40, 576}) {
      const int64_t rows = 3;
      INFO(kernels->name << " " << n);
      std::vector<float> x = RandomFloats(rows * n, 1), weight = RandomFloats(n, 2), dy = RandomFloats(rows * n, 3), inverse(3);
      auto run = [&](const Kernels& set) {
        Elements out(set, rows * n);
        set.rms_norm({x.data(), n, rows, n, weight.data(), eps, out.data(), n, inverse.data()});
        return out;
      };
      Elements out = run(*kernels);
      REQUIRE(out.SameBits(run(PortableLike(*kernels))));
      REQUIRE(WorstError(out.Floats(), ReferenceNorm(AsDoubles(x), AsDoubles(weight), n, static_cast<double>(eps))) < ElementTolerance(*kernels));
      std::vector<float> dx(x.size(), 1.0f), tiles(static_cast<size_t>(n)), dx_portable(dx), tiles_portable(tiles);
      auto back = [&](const Kernels& set, std::vector<float>& d, std::vector<float>& t) {
        set.rms_norm_backward({x.data(), n, inverse.data(), weight.data(), dy.data(), n, rows, n, d.data(), n, true, t.data()});
      };
      back(*kernels, dx, tiles);
      back(PortableLike(*kernels), dx_portable, tiles_portable);
      REQUIRE(SameBits(dx, dx_portable));
      REQUIRE(SameBits(tiles, tiles_portable));
      if (n > 100) continue;
      Doubles expected =
          Slope([&](const Doubles& v) { return ReferenceNorm(v, AsDoubles(weight), n, static_cast<double>(eps)); }, AsDoubles(x), AsDoubles(dy));
      for (double& v : expected) v += 1;
      REQUIRE(WorstError(dx, expected) < 1e-5);
      REQUIRE(WorstError(tiles, Slope([&](const Doubles& w) { return ReferenceNorm(AsDoubles(x), w, n, static_cast<double>(eps)); },
                                      AsDoubles(weight), AsDoubles(dy))) < 1e-5);
    }
  }
}

TEST_CASE("norm gradients and column sums are kept tile by tile") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    const int64_t rows = kGradientTile + 5, n = 24;
    std::vector<float> x = RandomFloats(rows * n, 1), weight(static_cast<size_t>(n), 1.0f), dy = RandomFloats(rows * n, 2),
                       inverse(static_cast<size_t>(rows), 2.0f), dx(x.size()), tiles(static_cast<size_t>(2 * n)), sums(tiles);
    kernels->rms_norm_backward({x.data(), n, inverse.data(), weight.data(), dy.data(), n, rows, n, dx.data(), n, false, tiles.data()});
    Elements d(*kernels, dy);
    kernels->column_sum({d.data(), n, rows, n, sums.data()});
    std::vector<float> df = d.Floats();
    Doubles expected(tiles.size()), expected_sums(tiles.size());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < n; ++i) {
        const size_t at = static_cast<size_t>(r / kGradientTile * n + i), from = static_cast<size_t>(r * n + i);
        expected[at] += static_cast<double>(dy[from]) * static_cast<double>(x[from]) * 2;
        expected_sums[at] += static_cast<double>(df[from]);
      }
    }
    REQUIRE(WorstError(tiles, expected) < 1e-5);
    REQUIRE(WorstError(sums, expected_sums) < 1e-5);
  }
}

TEST_CASE("rotation with bias and head norm, and its gradient") {
  FlushDenormals flush;
  const float eps = 1e-6f;
  const std::vector<int32_t> positions = {5, 0, 17};
  for (const Kernels* kernels : AvailableKernels()) {
    for (int64_t head_dim : {16, 64, 80}) {
      for (int variant = 0; variant < 3; ++variant) {
        const int64_t rows = 3, heads = 2, width = heads * head_dim;
        INFO(kernels->name << " head size " << head_dim << " variant " << variant);
        std::vector<float> x = RandomFloats(rows * width, 1), table = RopeTable(20, head_dim), bias = RandomFloats(width, 2),
                           norm = RandomFloats(head_dim, 3), dy = RandomFloats(rows * width, 4);
        const float* bias_or_null = variant >= 1 ? bias.data() : nullptr;
        const float* norm_or_null = variant == 2 ? norm.data() : nullptr;
        Doubles bias_d = variant >= 1 ? AsDoubles(bias) : Doubles{}, norm_d = variant == 2 ? AsDoubles(norm) : Doubles{};
        auto run = [&](const Kernels& set) {
          Elements out(set, rows * width);
          set.rope({x.data(), width, rows, positions.data(), heads, head_dim, table.data(), bias_or_null, norm_or_null, eps, out.data(), width});
          return out;
        };
        Elements out = run(*kernels);
        REQUIRE(out.SameBits(run(PortableLike(*kernels))));
        auto reference = [&](const Doubles& v) {
          return ReferenceRope(v, heads, head_dim, table, positions, bias_d, norm_d, static_cast<double>(eps));
        };
        REQUIRE(WorstError(out.Floats(), reference(AsDoubles(x))) < ElementTolerance(*kernels));
        std::vector<float> tiles(static_cast<size_t>(head_dim)), tiles_portable(tiles);
        auto back = [&](const Kernels& set, std::vector<float>& t) {
          Elements dx(set, rows * width);
          set.rope_backward({dy.data(), width, rows, positions.data(), heads, head_dim, table.data(), x.data(), width, bias_or_null, norm_or_null,
                             eps, dx.data(), width, variant == 2 ? t.data() : nullptr});
          return dx;
        };
        Elements dx = back(*kernels, tiles);
        REQUIRE(dx.SameBits(back(PortableLike(*kernels), tiles_portable)));
        REQUIRE(SameBits(tiles, tiles_portable));
        REQUIRE(WorstError(dx.Floats(), Slope(reference, AsDoubles(x), AsDoubles(dy))) < ElementTolerance(*kernels) + 1e-5);
        if (variant == 2) {
          auto by_norm = [&](const Doubles& w) {
            return ReferenceRope(AsDoubles(x), heads, head_dim, table, positions, bias_d, w, static_cast<double>(eps));
          };
          REQUIRE(WorstError(tiles, Slope(by_norm, norm_d, AsDoubles(dy))) < 1e-5);
        }
      }
    }
  }
}

TEST_CASE("silu(gate) * up and its gradient") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    INFO(kernels->name);
    const int64_t rows = 2, n = 37;
    std::vector<float> gate_up = RandomFloats(rows * 2 * n, 1, 4.0), dy = RandomFloats(rows * n, 2);
    gate_up[0] = 200.0f, gate_up[1] = -200.0f, gate_up[2] = 0.0f;
    auto reference = [&](const Doubles& v) {
      Doubles out;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < n; ++i) {
          const double g = v[static_cast<size_t>(r * 2 * n + i)];
          out.push_back(g / (1 + std::exp(-g)) * v[static_cast<size_t>(r * 2 * n + n + i)]);
        }
      }
      return out;
    };
    auto run = [&](const Kernels& set) {
      Elements out(set, rows * n);
      set.silu({gate_up.data(), gate_up.data() + n, 2 * n, rows, n, out.data(), n});
      return out;
    };
    Elements out = run(*kernels);
    REQUIRE(out.SameBits(run(PortableLike(*kernels))));
    REQUIRE(WorstError(out.Floats(), reference(AsDoubles(gate_up))) < ElementTolerance(*kernels));
    auto back = [&](const Kernels& set) {
      Elements d(set, rows * 2 * n);
      set.silu_backward({gate_up.data(), gate_up.data() + n, 2 * n, dy.data(), n, rows, n, d.data(), d.at(n), 2 * n});
      return d;
    };
    Elements d = back(*kernels);
    REQUIRE(d.SameBits(back(PortableLike(*kernels))));
    REQUIRE(WorstError(d.Floats(), Slope(reference, AsDoubles(gate_up), AsDoubles(dy))) < ElementTolerance(*kernels) + 1e-5);
  }
}

TEST_CASE("conversion rounds to nearest even, flushes denormals and keeps NaN and infinity") {
  FlushDenormals flush;
  const std::vector<uint32_t> in = {0x3f808000, 0x3f818000, 0x3f808001, 0x7f7fffff, 0x7f800000, 0xff800000,
                                    0x7f800001, 0x80000001, 0x007fffff, 0x00800000, 0x00000000, 0x80000000};
  const std::vector<uint16_t> expected = {0x3f80, 0x3f82, 0x3f81, 0x7f80, 0x7f80, 0xff80, 0x7fc0, 0x8000, 0x0000, 0x0080, 0x0000, 0x8000};
  std::vector<float> x(in.size());
  std::memcpy(x.data(), in.data(), in.size() * 4);
  for (const Kernels* kernels : AvailableKernels()) {
    if (kernels->element_bytes != 2) continue;
    INFO(kernels->name);
    std::vector<uint16_t> out(in.size());
    const auto n = static_cast<int64_t>(in.size());
    kernels->convert({x.data(), n, 1, n, nullptr, out.data(), n});
    REQUIRE(out == expected);
    // Whole groups of lanes take another path than a rest.
    std::vector<float> many = RandomFloats(4096, 1, 1e30);
    std::vector<uint16_t> a(4096), b(4096);
    kernels->convert({many.data(), 4096, 1, 4096, nullptr, a.data(), 4096});
    PortableLike(*kernels).convert({many.data(), 5, 819, 5, nullptr, b.data(), 5});
    REQUIRE(std::equal(a.begin(), a.begin() + 4095, b.begin()));
  }
}

TEST_CASE("embedding, addition, widening") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    const int64_t n = 40;
    Elements table(*kernels, RandomFloats(7 * n, 1));
    const std::vector<uint32_t> tokens = {6, 0, 6};
    std::vector<float> out(static_cast<size_t>(3 * n)), all = table.Floats();
    kernels->embed({table.data(), tokens.data(), 3, n, out.data(), n});
    for (size_t r = 0; r < 3; ++r)
      REQUIRE(std::equal(out.begin() + static_cast<int64_t>(r) * n, out.begin() + static_cast<int64_t>(r + 1) * n, all.begin() + tokens[r] * n));
    std::vector<float> sum = out;
    kernels->add(out.data(), sum.data(), 3 * n);
    for (size_t i = 0; i < sum.size(); ++i) REQUIRE(sum[i] == out[i] + out[i]);
  }
}

}  // namespace april::kernels::test
