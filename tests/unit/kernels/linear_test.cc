// linear and its packing: the order of the sum, equality of all sets, independence from rows and split.
#include <catch2/catch.hpp>

#include "kernel_support.h"

namespace april::kernels::test {
namespace {

/// The contract's sum, written down once more: pairs with the odd product first for bf16, or AMX's steps; one fused step an element for f32.
float ReferenceDot(const Kernels& kernels, const float* x, const float* w, int64_t k) {
  float sum = 0;
  if (kernels.sum_step != 0) {
    for (int64_t first = 0; first < k; first += kernels.sum_step) {
      float even = 0, odd = 0;
      for (int64_t i = first; i < std::min(k, first + kernels.sum_step); i += 2) {
        even = std::fma(x[i], w[i], even);
        odd = std::fma(x[i + 1], w[i + 1], odd);
      }
      sum += even + odd;
    }
  } else if (kernels.element_bytes == 2) {
    for (int64_t i = 0; i < k; i += 2) sum = std::fma(x[i], w[i], std::fma(x[i + 1], w[i + 1], sum));
  } else {
    for (int64_t i = 0; i < k; ++i) sum = std::fma(x[i], w[i], sum);
  }
  return sum;
}

std::vector<float> RunLinear(const Kernels& kernels, const void* x, int64_t rows, const Memory& packed, int64_t n, int64_t k) {
  std::vector<float> out(static_cast<size_t>(rows * n));
  kernels.linear({x, k, rows, packed.data(), n, k, 0, Blocks(kernels, n), out.data(), n, false});
  return out;
}

}  // namespace

TEST_CASE("linear sums in the contract's order, for any shape and row count") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    for (auto [rows, n, k] : {std::array<int64_t, 3>{1, 1, 2}, {5, 33, 16}, {7, 100, 64}, {13, 192, 96}, {29, 31, 576}, {40, 64, 80}}) {
      INFO(kernels->name << " " << rows << " x " << n << " x " << k);
      Elements x(*kernels, RandomFloats(rows * k, 1)), w(*kernels, RandomFloats(n * k, 2));
      std::vector<float> xf = x.Floats(), wf = w.Floats(), expected(static_cast<size_t>(rows * n));
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < n; ++c)
          expected[static_cast<size_t>(r * n + c)] = ReferenceDot(*kernels, &xf[static_cast<size_t>(r * k)], &wf[static_cast<size_t>(c * k)], k);
      }
      Memory packed = Packed(*kernels, w, n, k);
      REQUIRE(SameBits(RunLinear(*kernels, x.data(), rows, packed, n, k), expected));
    }
  }
}

TEST_CASE("every set gives the portable set's bits, over a million values a shape", "[heavy]") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    const Kernels& portable = PortableLike(*kernels);
    if (kernels == &portable) continue;
    for (auto [n, k] : {std::array<int64_t, 2>{2048, 64}, {576, 1536}}) {
      // Long sums show differences that short ones hide; the f32 reference computes each fused step in a library call, so it gets the short ones
      // alone.
      if (kernels->element_bytes == 4 && k > 64) continue;
      const int64_t rows = 1000000 / n + 1;
      INFO(kernels->name << " " << rows << " x " << n << " x " << k);
      Elements x(*kernels, RandomFloats(rows * k, 3)), w(*kernels, RandomFloats(n * k, 4));
      Memory packed = Packed(*kernels, w, n, k);
      REQUIRE(SameBits(RunLinear(*kernels, x.data(), rows, packed, n, k), RunLinear(portable, x.data(), rows, packed, n, k)));
    }
  }
}

TEST_CASE("products that underflow give the same bits in every set") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    const int64_t rows = 16, n = 256, k = 32;
    std::vector<float> xf = RandomFloats(rows * k, 5), wf = RandomFloats(n * k, 6);
    for (size_t i = 0; i < xf.size(); ++i) xf[i] = std::ldexp(xf[i], -static_cast<int>(50 + RandomBits(7, RandomUse::kTest, 0, i) % 30));
    for (size_t i = 0; i < wf.size(); ++i) wf[i] = std::ldexp(wf[i], -static_cast<int>(50 + RandomBits(8, RandomUse::kTest, 0, i) % 80));
    Elements x(*kernels, xf), w(*kernels, wf);
    Memory packed = Packed(*kernels, w, n, k);
    REQUIRE(SameBits(RunLinear(*kernels, x.data(), rows, packed, n, k), RunLinear(PortableLike(*kernels), x.data(), rows, packed, n, k)));
  }
}

TEST_CASE("a row's result does not depend on the number of rows, nor on how columns are split") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    INFO(kernels->name);
    const int64_t rows = 512, n = 200, k = 96;
    Elements x(*kernels, RandomFloats(rows * k, 9)), w(*kernels, RandomFloats(n * k, 10));
    Memory packed = Packed(*kernels, w, n, k);
    std::vector<float> all = RunLinear(*kernels, x.data(), rows, packed, n, k);
    for (int64_t count = 1; count <= 64; ++count) {
      std::vector<float> some = RunLinear(*kernels, x.data(), count, packed, n, k);
      REQUIRE(SameBits(some, std::vector<float>(all.begin(), all.begin() + count * n)));
    }
    std::vector<float> split(all.size());
    for (auto [begin, end] : {std::array<int64_t, 2>{0, 1}, {1, 4}, {4, 7}}) {
      kernels->linear({x.data(), k, rows, packed.data(), n, k, begin, end, split.data(), n, false});
    }
    REQUIRE(SameBits(split, all));
    kernels->linear({x.data(), k, rows, packed.data(), n, k, 0, Blocks(*kernels, n), split.data(), n, true});
    for (float& value : all) value += value;
    REQUIRE(SameBits(split, all));
  }
}

TEST_CASE("several matrices packed side by side, and transposes, are the matrices they stand for") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    INFO(kernels->name);
    const int64_t rows = 6, n1 = 40, n2 = 56, k = 64, n = n1 + n2;
    Elements x(*kernels, RandomFloats(rows * k, 11)), w(*kernels, RandomFloats(n * k, 12)), d(*kernels, RandomFloats(rows * n, 13));
    Memory whole = Packed(*kernels, w, n, k), parts(kernels->packed_bytes(n, k));
    kernels->pack({w.data(), k, n1, k, 0, parts.data()});
    kernels->pack({w.at(n1 * k), k, n2, k, n1, parts.data()});
    REQUIRE(std::memcmp(whole.data(), parts.data(), whole.size()) == 0);

    std::vector<float> wf = w.Floats(), turned(wf.size());
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < k; ++j) turned[static_cast<size_t>(j * n + i)] = wf[static_cast<size_t>(i * k + j)];
    }
    Memory expected = Packed(*kernels, Elements(*kernels, turned), k, n), transposed(kernels->packed_bytes(k, n));
    kernels->pack_transposed({w.data(), k, n1, 0, 32, 0, n, transposed.data()});
    kernels->pack_transposed({w.data(), k, n1, 32, k, 0, n, transposed.data()});
    kernels->pack_transposed({w.at(n1 * k), k, n2, 0, k, n1, n, transposed.data()});
    REQUIRE(std::memcmp(expected.data(), transposed.data(), expected.size()) == 0);
  }
}

}  // namespace april::kernels::test
