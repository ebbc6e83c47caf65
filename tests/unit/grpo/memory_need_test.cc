// What a trainer asks for before it reads a model.
#include "grpo/memory_need.h"

#include <catch2/catch.hpp>

#include "fixtures.h"
#include "grpo/state.h"

using namespace april;
using namespace april::grpo;

TEST_CASE(
    "training takes 12 bytes a parameter for masters and moments, 2 for what is published, 4 for gradients, two packed copies, and an f32 set one to "
    "pack from") {
  const auto config = model::Config::FromJson(TinyConfig());
  uint64_t size = 0;
  const State state(config);
  for (const weights::TensorView& view : state.RoundedViews()) size += static_cast<uint64_t>(view.NumElements());
  const kernels::Kernels& f32 = kernels::ChooseKernels("portable", kernels::Precision::kF32);
  MethodOptions options;
  CHECK(MemoryNeed(config, {}, ParseMethod(options), f32, 1) == size * (12 + 2 + 4 + 8 + 4));
  CHECK(MemoryNeed(config, {}, ParseMethod(options), f32, 2) == size * (6 + 2 + 4 + 8 + 4));
  options.kl = "k3";
  CHECK(MemoryNeed(config, {}, ParseMethod(options), f32, 1) == size * (12 + 2 + 4 + 12 + 4));

  AdapterOptions lora;
  lora.rank = 2;
  lora.targets = "q";
  options.kl = "off";
  const Adapter adapter = MakeAdapter(lora, config);
  const uint64_t matrices = 2 * 32 * 32, factors = 2 * 2 * (32 + 32);  // two layers' q_proj of 32 x 32
  CHECK(MemoryNeed(config, adapter, ParseMethod(options), f32, 1) == size * (2 + 8 + 4) + matrices * (2 + 4) + factors * 12);
}
