// The self-test passes on healthy sets and notices a broken one.
#include <catch2/catch.hpp>

#include "kernel_support.h"
#include "kernels/self_test.h"

namespace april::kernels::test {
namespace {

const Kernels* g_healthy = nullptr;

/// One bit of one output flips when rows are many, as in a library that switches kernels with the row count.
void LinearThatDependsOnRows(const LinearArgs& args) {
  g_healthy->linear(args);
  if (args.rows == 13 && args.block_begin == 0) {
    uint32_t bits;
    std::memcpy(&bits, args.out, 4);
    bits ^= 1;
    std::memcpy(args.out, &bits, 4);
  }
}

void AttentionThatDependsOnChunks(const AttentionArgs& args) {
  g_healthy->attention(args);
  if (args.rows == 37 && args.lse != nullptr && args.kv_head_begin == 0) args.lse[0] += 1e-6f * args.lse[0];
}

}  // namespace

TEST_CASE("the self-test passes on the fastest sets of both precisions, and notices broken ones") {
  ThreadPool pool(2);
  const SelfTestPlan plan{{{192, 64}}, 6, 2, 32, 3000};
  for (Precision precision : {Precision::kBf16, Precision::kF32}) {
    const Kernels& kernels = ChooseKernels("auto", precision);
    REQUIRE(SelfTest(kernels, pool, plan) == "");
    g_healthy = &kernels;
    Kernels broken = kernels;
    broken.linear = LinearThatDependsOnRows;
    REQUIRE(SelfTest(broken, pool, plan).find("number of rows (13)") != std::string::npos);
    broken = kernels;
    broken.attention = AttentionThatDependsOnChunks;
    REQUIRE(SelfTest(broken, pool, plan).find("attention in steps of 37") != std::string::npos);
  }
}

}  // namespace april::kernels::test
