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

/// The sum cut in four: another order, but always the same one.
void LinearInQuarters(const LinearArgs& args) {
  LinearArgs quarter = args;
  quarter.k = args.k / 4;
  const auto* packed = static_cast<const char*>(args.packed);
  const auto block_bytes = static_cast<int64_t>(g_healthy->packed_bytes(g_healthy->column_block, args.k));
  for (int64_t block = args.block_begin; block < args.block_end; ++block) {
    quarter.n = std::min(g_healthy->column_block, args.n - block * g_healthy->column_block);
    quarter.block_begin = 0;
    quarter.block_end = 1;
    quarter.out = args.out + block * g_healthy->column_block;
    for (int part = 0; part < 4; ++part) {
      quarter.x = static_cast<const char*>(args.x) + part * quarter.k * g_healthy->element_bytes;
      quarter.packed = packed + block * block_bytes + part * block_bytes / 4;
      quarter.add = args.add || part > 0;
      g_healthy->linear(quarter);
    }
  }
}

void LinearOfTheWrongRow(const LinearArgs& args) {
  LinearArgs other = args;
  other.x_stride = 0;
  LinearInQuarters(other);
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

TEST_CASE("the self-test notices sums in another order, and wrong ones") {
  ThreadPool pool(2);
  for (const Kernels* kernels : AvailableKernels()) {
    if (kernels->element_bytes != 2 || std::string(kernels->name).starts_with("portable")) continue;
    INFO(kernels->name);
    g_healthy = kernels;
    Kernels broken = *kernels;
    broken.linear = LinearInQuarters;
    REQUIRE(SelfTestLinears(broken, pool, {{192, 64}}).find("differs from the portable set") != std::string::npos);
    broken.linear = LinearOfTheWrongRow;
    REQUIRE(SelfTestLinears(broken, pool, {{192, 64}}).find("differs from the portable set") != std::string::npos);
  }
}

}  // namespace april::kernels::test
