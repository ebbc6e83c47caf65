// One whole update against tests/parity/grpo_update_reference.py: loss, every gradient, every weight after AdamW.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "grpo/batch.h"
#include "grpo/trainer.h"
#include "kernels/kernels.h"
#include "reference.h"

using namespace april;
using namespace april::grpo;

namespace {

/// The script's weights: multiples of 2^-9, rounded to bf16.
void FillWeights(State* state, uint64_t salt, kernels::ThreadPool& pool) {
  for (size_t p = 0; p < state->parameters().size(); ++p) {
    auto values = state->Master(p);
    for (size_t i = 0; i < values.size(); ++i) {
      auto h = static_cast<uint32_t>((i + 1) * 2654435761u + (p + salt + 1) * 2246822519u);
      h ^= h >> 15;
      h *= 2654435769u;
      h ^= h >> 13;
      values[i] = (static_cast<float>(h % 255) - 127.0f) / 512.0f + (state->parameters()[p].shape.size() == 1 ? 1.0f : 0.0f);
    }
  }
  state->Round(pool);
  for (size_t p = 0; p < state->parameters().size(); ++p) {
    for (size_t i = 0; i < state->Master(p).size(); ++i) {
      const uint32_t bits = static_cast<uint32_t>(state->Rounded(p)[i]) << 16;
      std::memcpy(&state->Master(p)[i], &bits, 4);
    }
  }
}

/// The first tokens of each response are of version 0, the others of version 1.
void MakeStale(const Json& num_stale, Claim* claim) {
  for (size_t g = 0; g < claim->groups.size(); ++g) {
    for (size_t i = 0; i < claim->groups[g].rollouts.size(); ++i) {
      record::Rollout& rollout = claim->groups[g].rollouts[i];
      const auto end = static_cast<int64_t>(rollout.tokens.size());
      const auto stale = num_stale[g][i].get<int64_t>();
      rollout.weight_versions.clear();
      if (stale > 0) rollout.weight_versions.push_back({0, 0, 0, stale, {}});
      if (stale < end) rollout.weight_versions.push_back({1, 0, stale, end, {}});
    }
  }
}

void MakeTruncated(const Json& truncated, Claim* claim) {
  for (size_t g = 0; g < claim->groups.size(); ++g) {
    for (size_t i = 0; i < claim->groups[g].rollouts.size(); ++i) {
      if (truncated[g][i].get<bool>()) claim->groups[g].rollouts[i].finish = record::Finish::kLength;
    }
  }
}

}  // namespace

TEST_CASE("loss, gradients and new weights equal the f64 reference") {
  const Json reference = ReadReference("grpo_update_reference.json");
  const auto config = model::Config::FromJson(reference["config"]);
  const kernels::Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kF32);
  kernels::ThreadPool pool(1);
  for (const Json& expected : reference["cases"]) {
    State state(config), initial(config);
    FillWeights(&state, 0, pool);
    FillWeights(&initial, 1000, pool);
    std::vector<weights::TensorView> views;
    for (size_t p = 0; p < initial.parameters().size(); ++p) {
      views.push_back({initial.parameters()[p].name, weights::DType::kF32, initial.parameters()[p].shape, initial.Master(p).data(),
                       initial.Master(p).size_bytes()});
    }
    MethodOptions options;
    options.advantage = expected["advantage"];
    options.loss = expected["loss"];
    options.clip_low = expected["clip"][0].dump();
    options.clip_high = expected["clip"][1].dump();
    options.old = expected["old"];
    options.is_correction = expected["correction"];
    options.agg = expected["agg"];
    options.entropy_coef = expected["entropy"];
    options.kl_coef = expected["kl"];
    options.kl = options.kl_coef > 0 ? expected["kl_name"].get<std::string>() : "off";
    options.adv_std = expected["std"];
    options.token_filter = expected["filter"];
    options.mask_truncated = expected["mask_truncated"];
    TrainerOptions training;
    training.method = ParseMethod(options);
    training.optimizer.lr = reference["lr"];
    training.optimizer.weight_decay = reference["weight_decay"];
    training.optimizer.max_grad_norm = 0;
    const auto ranks = ranks::Ranks::Alone();
    Trainer trainer(training, kernels, pool, &state, model::Policy::FromTensors(config, views, kernels, pool, false), *ranks);
    Claim claim = ReferenceClaim(reference, expected["temperature"]);
    if (options.token_filter != "off") MakeStale(reference["stale"], &claim);
    if (options.mask_truncated) MakeTruncated(reference["truncated"], &claim);
    const uint64_t version = options.token_filter != "off" ? 1 : 0;
    const UpdateResult result = trainer.Update(MakeBatch(claim, training.method, {config.vocab, config.max_positions, version, 0, kernels.name}));

    REQUIRE(!result.failure);
    CHECK(result.metrics.loss == Approx(expected["value"].get<double>()).epsilon(1e-5).margin(1e-6));
    double worst = 0;
    for (size_t p = 0; p < state.parameters().size(); ++p) {
      const std::string& name = state.parameters()[p].name;
      INFO(name);
      const auto gradient = Unpack(expected["gradients"][name]);
      REQUIRE(gradient.size() == state.Master(p).size());
      const double error = RelativeError(state.FirstMoment(p), gradient, 10);  // AdamW's first mean is a tenth of the gradient
      worst = std::max(worst, error);
      CHECK(error < 1e-5);
      const auto weights = Unpack(expected["weights"][name]);
      for (size_t i = 0; i < weights.size(); ++i) {
        if (std::abs(gradient[i]) > 1e-5f)
          CHECK(std::abs(state.Master(p)[i] - weights[i]) < 1e-5f);  // a vanishing gradient has no sign to step along
      }
    }
    std::printf("%s: largest relative error of a gradient tensor: %.2e\n", training.method.Text().c_str(), worst);
  }
}
