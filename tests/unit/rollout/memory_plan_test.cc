#include "rollout/memory_plan.h"

#include <catch2/catch.hpp>
#include <string>

#include "base/error.h"

namespace april::rollout {
namespace {

TEST_CASE("Memory is planned before work: all slots if they fit, fewer blocks if not, an error when not even one rollout fits") {
  MemoryPlan plan;
  plan.weight_bytes = 100'000'000;
  plan.block_bytes = 1'000'000;
  plan.num_slots = 10;
  plan.expected_positions = 320;  // 10 blocks
  plan.max_positions = 100'000;
  plan.memory_bytes = 2'000'000'000;
  CHECK(PlanKvBlocks(plan) == 11 * 12);
  plan.memory_bytes = 150'000'000;
  CHECK(PlanKvBlocks(plan) == 50);
  plan.memory_bytes = 111'000'000;
  try {
    PlanKvBlocks(plan);
    FAIL("must throw");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kRuntime);
    CHECK(error.message().find("320 tokens") != std::string::npos);
    CHECK(error.hint().find("--memory at least 112 MB") != std::string::npos);
  }
  plan.memory_bytes = 50'000'000;  // less than the weights
  CHECK_THROWS_AS(PlanKvBlocks(plan), Error);
  plan.memory_bytes = uint64_t{1} << 50;  // more than there is: refused, unless so much is of no use
  CHECK(PlanKvBlocks(plan) == 11 * 12);
  plan.num_slots = 100'000'000;
  CHECK_THROWS_WITH(PlanKvBlocks(plan), Catch::Contains("of memory is available"));
  plan.num_slots = 10;
  plan.memory_bytes = 0;
  CHECK(PlanKvBlocks(plan) > 0);
  plan.expected_positions = 0;  // then for the model's whole context
  plan.memory_bytes = 2'000'000'000;
  CHECK_THROWS_AS(PlanKvBlocks(plan), Error);
}

}  // namespace
}  // namespace april::rollout
