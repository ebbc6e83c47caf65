// A slow, obvious buffer and the real one get the same random operations, with reopenings, compactions and losses of power, and never differ.
#include <catch2/catch.hpp>

#include "buffer_model.h"

namespace april {
namespace {

void Run(uint64_t first_seed, uint64_t last_seed) {
  constexpr int kOperations = 500;
  int64_t losses = 0;
  for (uint64_t seed = first_seed; seed <= last_seed; ++seed) {
    test::BufferModel model(seed, /*retain_steps=*/seed % 2 == 0 ? 1 : 1000);
    for (uint64_t step = 0; step < kOperations; ++step) {
      INFO("seed " << seed << ", operation " << step);
      // From any operation on files on, so that transactions, rotations and compactions are all cut somewhere.
      if (!model.MayLosePower() && RandomBits(seed, RandomUse::kTest, 1, step) % 32 == 0)
        model.LosePowerAt(model.operations() + 1 + static_cast<int64_t>(RandomBits(seed, RandomUse::kTest, 2, step) % 16));
      model.Step();
      model.Compare();
      if (step % 100 == 99) model.CompareTokens();
    }
    losses += model.losses();
  }
  CHECK(losses > static_cast<int64_t>(last_seed - first_seed));
}

TEST_CASE("random operations leave the real buffer and the obvious one equal") { Run(1, 20); }
TEST_CASE("100,000 of them", "[slow][heavy]") { Run(21, 200); }

TEST_CASE("power may go behind any operation on files, and nothing that was acknowledged is lost", "[heavy]") {
  constexpr int kOperations = 120;
  const auto run = [](uint64_t seed, int64_t lose_at) {
    test::BufferModel model(seed, 1);
    const int64_t begin = model.operations();
    if (lose_at > 0) model.LosePowerAt(begin + lose_at);
    for (int step = 0; step < kOperations; ++step) {
      INFO("seed " << seed << ", power lost behind file operation " << lose_at << ", operation " << step);
      model.Step();
      model.Compare();
    }
    model.CompareTokens();
    return model.operations() - begin;
  };
  for (const uint64_t seed : {101, 102, 103}) {
    const int64_t operations = run(seed, 0);
    for (int64_t at = 1; at <= operations; ++at) run(seed, at);
  }
}

}  // namespace
}  // namespace april
