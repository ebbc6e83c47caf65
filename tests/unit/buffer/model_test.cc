// A slow, obvious buffer and the real one get the same random operations, with reopenings, compactions and losses of power, and never differ.
#include <catch2/catch.hpp>

#include "buffer_model.h"

namespace april {
namespace {

buffer::RunConfig ConfigOf(uint64_t seed) {
  if (seed % 4 > 0) return test::BufferModel::WithPolicies(seed);
  buffer::RunConfig config = test::SmallConfig();
  config.retain_steps = seed % 8 == 0 ? 1 : 1000;
  return config;
}

void RunModel(uint64_t first_seed, uint64_t last_seed) {
  constexpr int kOperations = 500;
  test::BufferModel::Counts counts;
  for (uint64_t seed = first_seed; seed <= last_seed; ++seed) {
    test::BufferModel model(seed, ConfigOf(seed));
    for (uint64_t step = 0; step < kOperations; ++step) {
      INFO("seed " << seed << ", operation " << step);
      // From any operation on files on, so that transactions, rotations and compactions are all cut somewhere.
      if (!model.MayLosePower() && RandomBits(seed, RandomUse::kTest, 1, step) % 32 == 0)
        model.LosePowerAt(model.operations() + 1 + static_cast<int64_t>(RandomBits(seed, RandomUse::kTest, 2, step) % 16));
      model.Step();
      model.Compare();
      if (step % 100 == 99) model.CompareTokens();
    }
    INFO("seed " << seed);
    model.Audit();
    counts += model.counts();
  }
  const auto runs = static_cast<int64_t>(last_seed - first_seed);
  CHECK(counts.losses > runs);
  CHECK(counts.undone > runs / 2);
  CHECK(counts.claims > 5 * runs);
  CHECK(counts.rewinds > runs);
  CHECK(counts.refused > runs);
  CHECK(counts.waits > runs);
  CHECK(counts.filtered > runs / 4);
  CHECK(counts.stale > runs / 2);
  CHECK(counts.certain_only > runs / 2);
}

TEST_CASE("random operations leave the real buffer and the obvious one equal") { RunModel(1, 20); }
TEST_CASE("100,000 of them", "[slow][heavy]") { RunModel(21, 200); }

TEST_CASE("power may go behind any operation on files, and nothing that was acknowledged is lost", "[heavy]") {
  constexpr int kOperations = 120;
  const auto run = [](uint64_t seed, int64_t lose_at) {
    test::BufferModel model(seed, ConfigOf(seed));
    const int64_t begin = model.operations();
    if (lose_at > 0) model.LosePowerAt(begin + lose_at);
    for (int step = 0; step < kOperations; ++step) {
      INFO("seed " << seed << ", power lost behind file operation " << lose_at << ", operation " << step);
      model.Step();
      model.Compare();
    }
    INFO("seed " << seed << ", power lost behind file operation " << lose_at);
    model.CompareTokens();
    model.Audit();
    return model.operations() - begin;
  };
  for (const uint64_t seed : {101, 102, 103, 104}) {
    const int64_t operations = run(seed, 0);
    for (int64_t at = 1; at <= operations; ++at) run(seed, at);
  }
}

}  // namespace
}  // namespace april
