// Several ranks train as one does: the same gradients but for the order of additions, the same bits each time, any number of ranks after another.
#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "../ranks/several_ranks.h"
#include "base/error.h"
#include "fixtures.h"
#include "grpo/batch.h"
#include "grpo/follower.h"
#include "grpo/session.h"
#include "grpo/sharding.h"
#include "grpo/state_digest.h"
#include "grpo/trainer.h"
#include "kernels/kernels.h"
#include "weights/safetensors.h"

using namespace april;
using namespace april::grpo;

namespace {

struct RanksRig {
  RanksRig() { WriteTinyModel(scratch / "model"); }
  SessionOptions Options(const std::string& name) const {
    SessionOptions options;
    options.from = scratch / (name + "/checkpoints");
    options.publish = scratch / (name + "/weights");
    options.model = scratch / "model";
    options.checkpoint_every = 1;
    options.keep = 20;
    options.optimizer.lr = 1e-2;
    options.precision = "f32";
    options.matrix_peak = 1;
    return options;
  }
  ScratchDirectory scratch;
};

/// Eight groups of four of different lengths, one of them without a gradient.
Claim MakeClaimOf(int64_t step) {
  std::vector<std::vector<record::Rollout>> groups;
  for (uint64_t g = 0; g < 8; ++g) {
    std::vector<record::Rollout> rollouts;
    for (int64_t i = 0; i < 4; ++i) {
      const auto position = static_cast<int64_t>(g);
      rollouts.push_back(MakeRollout(static_cast<uint64_t>(step) * 10 + g + 1, i, 5 + (7 * position + 3 * i) % 11,
                                     g == 3 ? 1.0 : static_cast<double>((i + position) % 3), static_cast<uint64_t>(step)));
    }
    groups.push_back(std::move(rollouts));
  }
  return MakeClaim(step, std::move(groups));
}

/// Trains claims up to `end`; returns rank 0's reports.
std::vector<StepReport> Train(int num_ranks, const SessionOptions& options, int64_t end,
                              const std::function<Claim(int64_t step)>& claim_of = MakeClaimOf) {
  std::vector<StepReport> reports;
  const auto failures = ranks::RunRanks(num_ranks, [&](const ranks::Place& place) {
    std::shared_ptr<ranks::Ranks> all = ranks::Ranks::Join(place, WorkOf(options));
    if (!all->IsFirst()) {
      Follower follower(options, 1, *all);
      while (follower.Next()) continue;
      return;
    }
    Session session(options, 1, all);
    session.CheckHeader(TestHeader());
    while (session.step() < end) {
      reports.push_back(session.Train(claim_of(session.step())));
      session.Settle(&reports.back());
    }
    session.Dismiss(false);
  });
  for (const std::string& failure : failures) {
    if (!failure.empty()) throw std::runtime_error(failure);
  }
  return reports;
}

std::string CheckpointFile(const SessionOptions& options, int64_t step, const std::string& name) {
  char directory[32];
  std::snprintf(directory, sizeof directory, "step-%08lld/", static_cast<long long>(step));
  return JoinPath(options.from, directory + name);
}
std::string Bytes(const std::string& path) { return ReadFile(SystemFiles(), path); }

/// By tensor: the norm of the difference, divided by the norm.
double LargestDifference(const std::string& path, const std::string& other, const std::string& prefix) {
  const weights::SafetensorsFile a(path), b(other);
  double largest = 0;
  REQUIRE(a.tensors().size() == b.tensors().size());
  for (size_t i = 0; i < a.tensors().size(); ++i) {
    if (!a.tensors()[i].name.starts_with(prefix)) continue;
    const auto *x = static_cast<const float*>(a.tensors()[i].data), *y = static_cast<const float*>(b.tensors()[i].data);
    double difference = 0, norm = 0;
    for (int64_t k = 0; k < a.tensors()[i].NumElements(); ++k) {
      const double d = static_cast<double>(x[k]) - static_cast<double>(y[k]);
      difference += d * d;
      norm += static_cast<double>(x[k]) * static_cast<double>(x[k]);
    }
    largest = std::max(largest, std::sqrt(difference) / (std::sqrt(norm) + 1e-30));
  }
  return largest;
}

}  // namespace

TEST_CASE("two and three ranks agree with one, and twice the same ranks give the same bits") {
  RanksRig rig;
  SessionOptions plain = rig.Options("plain");
  std::vector<int> sizes = {2};
  SECTION("the default method") { sizes = {2, 3}; }
  SECTION("with a reference policy") {
    plain.method.kl = "k3";
    plain.method.kl_coef = 0.1;
  }
  SECTION("with a reference policy that the policy takes the place of") {
    plain.method.kl = "k3";
    plain.method.kl_coef = 0.1;
    plain.method.ref_reset = "every:1";
  }
  SECTION("in the machine's own precision") { plain.precision = "auto"; }
  SECTION("two optimiser steps a claim") { plain.method.optimizer_steps = 2; }
  SECTION("an adapter") {
    plain.adapter.rank = 4;
    sizes = {2, 3};
  }
  const auto named = [&](const std::string& name) {
    SessionOptions options = plain;
    options.from = rig.scratch / (name + "/checkpoints");
    options.publish = rig.scratch / (name + "/weights");
    return options;
  };
  // WorkOf compares paths, too: each run has its own.
  const SessionOptions one = named("one");
  const auto alone = Train(1, one, 2);
  for (const int num_ranks : sizes) {
    const SessionOptions first = named("first" + std::to_string(num_ranks)), second = named("second" + std::to_string(num_ranks));
    const auto reports = Train(num_ranks, first, 2);
    Train(num_ranks, second, 2);
    for (const int64_t step : {1, 2}) {
      for (const char* file : {"optimizer.safetensors", "model.safetensors"}) {
        CHECK(Bytes(CheckpointFile(first, step, file)) == Bytes(CheckpointFile(second, step, file)));
      }
    }
    // The first moment is a tenth of the gradient after one step. The README states this bound.
    const double gradient =
        LargestDifference(CheckpointFile(one, 1, "optimizer.safetensors"), CheckpointFile(first, 1, "optimizer.safetensors"), "first_moment.");
    INFO("largest difference of a gradient tensor between 1 and " << num_ranks << " ranks: " << gradient);
    CHECK(gradient < 1e-6);
    const char* weights = plain.adapter.rank > 0 ? "adapter/adapter_model.safetensors" : "optimizer.safetensors";
    const char* prefix = plain.adapter.rank > 0 ? "" : "master.";
    CHECK(LargestDifference(CheckpointFile(one, 2, weights), CheckpointFile(first, 2, weights), prefix) < 1e-4);
    // Rank 0's numbers are those of all.
    CHECK(reports[0].num_trained == alone[0].num_trained);
    CHECK(reports[0].step.outcomes == alone[0].step.outcomes);
    const auto operations = [](const Json& metrics) {
      return metrics.at("matrix_gflops").get<double>() *
             (metrics.at("forward_s").get<double>() + metrics.at("backward_s").get<double>() + metrics.at("optimizer_s").get<double>());
    };
    CHECK(operations(reports[0].metrics) == Approx(operations(alone[0].metrics)).epsilon(1e-6));
    for (const auto& [key, value] : alone[0].metrics.items()) {
      INFO(key);
      if (key.ends_with("_s") || key.find("memory") != std::string::npos || key.find("per_s") != std::string::npos ||
          key.find("gflops") != std::string::npos || key == "peak_share")
        continue;
      REQUIRE(reports[0].metrics.contains(key));
      if (value.is_number_float()) CHECK(reports[0].metrics[key].get<double>() == Approx(value.get<double>()).epsilon(1e-5));
      if (value.is_number_integer()) CHECK(reports[0].metrics[key] == value);
    }
  }
}

TEST_CASE("another number of ranks goes on from a checkpoint, which does not show how many wrote it") {
  RanksRig rig;
  const int64_t lora = GENERATE(0, 4);
  for (const auto& [before, after] : {std::pair(2, 1), std::pair(1, 2), std::pair(2, 3)}) {
    const std::string name = std::to_string(before) + "-" + std::to_string(after);
    SessionOptions options = rig.Options(name), same = rig.Options(name + "-same");
    options.adapter.rank = same.adapter.rank = lora;
    Train(before, options, 1);
    Train(before, same, 1);
    CHECK(Bytes(CheckpointFile(options, 1, "optimizer.safetensors")) == Bytes(CheckpointFile(same, 1, "optimizer.safetensors")));
    CHECK(Train(after, options, 2).size() == 1);
    CHECK(Train(before, same, 2).size() == 1);
    CHECK(LargestDifference(CheckpointFile(options, 2, "optimizer.safetensors"), CheckpointFile(same, 2, "optimizer.safetensors"), "first_moment.") <
          1e-4);
  }
}

TEST_CASE("a loss that is not finite on one rank stops the step on all, and nothing is saved") {
  RanksRig rig;
  SessionOptions options = rig.Options("infinite");
  options.method.old = "behaviour";
  // A response of rank 1's first group is worse than its group, and its recorded probability is next to nothing: the ratio is infinite.
  const Claim plain = MakeClaimOf(0);
  const Batch batch = MakeBatch(plain, ParseMethod(options.method), {64, 128, 0, 0, ""});
  const std::vector<int> owners = AssignGroups(batch.groups, 3);
  size_t group = 0;
  while (group < owners.size() && (owners[group] != 1 || batch.groups[group].skipped)) ++group;
  REQUIRE(group < owners.size());
  const std::vector<TrainingSequence>& sequences = batch.groups[group].sequences;
  const auto worse = std::ranges::find_if(sequences, [](const TrainingSequence& sequence) { return sequence.advantage < 0; });
  REQUIRE(worse != sequences.end());
  const uint64_t uid = worse->rollout->uid;
  const auto spoilt = [uid](int64_t step) {
    Claim claim = MakeClaimOf(step);
    for (ClaimGroup& members : claim.groups) {
      for (record::Rollout& rollout : members.rollouts) {
        if (rollout.uid == uid) std::ranges::fill(rollout.logprobs, -1e30f);
      }
    }
    return claim;
  };
  CHECK_THROWS_WITH(Train(3, options, 1, spoilt), Catch::StartsWith("1 step 0 is not applied: the loss is not a finite number"));
  CHECK(!SystemFiles().Exists(CheckpointFile(options, 1, "manifest.json")));
  CHECK(SystemFiles().Exists(options.from + "/failed-claim-claim0.stream"));
}

TEST_CASE("rank 0's wait for a slower rank is time of the backward pass") {
  RanksRig rig;
  const Claim claim = MakeClaimOf(0);
  double backward_s = 0;
  const auto failures = ranks::RunRanks(2, [&](const ranks::Place& place) {
    const auto all = ranks::Ranks::Join(place, {});
    const auto files = weights::ModelFiles::Open(rig.scratch / "model");
    const kernels::Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kF32);
    kernels::ThreadPool pool(1);
    State state(model::Config::FromJson(files->config()), Adapter{}, *all);
    LoadModel(all->IsFirst() ? files.get() : nullptr, &state, 0, pool, *all);
    state.RoundAndShare(*all, pool, /*is_rounded=*/true);
    Trainer trainer({ParseMethod({}), {}}, kernels, pool, &state, nullptr, *all);
    const Batch batch = MakeBatch(claim, ParseMethod({}), {64, 128, 0, 0, ""});
    all->Broadcast("");  // both have come so far
    if (place.rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    const UpdateResult result = trainer.Update(batch);
    if (all->IsFirst()) backward_s = result.metrics.seconds.backward;
    all->Finish();
  });
  CHECK(failures == std::vector<std::string>(2));
  CHECK(backward_s > 0.3);  // the rest is what rank 0 did itself meanwhile
}

TEST_CASE("masters and moments are spread in whole chunks, and come together again") {
  Json json = TinyConfig();
  json["vocab_size"] = 5000;  // an embedding of three chunks
  const auto config = model::Config::FromJson(json);
  kernels::ThreadPool pool(1);
  State whole(config);
  std::vector<std::vector<float>> values;
  for (size_t view = 0; view < whole.OptimizerViews().size(); ++view) {
    const std::span<float> part = whole.OptimizerPart(view);
    for (size_t i = 0; i < part.size(); ++i) part[i] = static_cast<float>(RandomUnit(1, RandomUse::kTest, view, i));
    values.emplace_back(part.begin(), part.end());
  }
  whole.Round(pool);
  kernels::ThreadPool two_threads(2);
  const auto alone = ranks::Ranks::Alone();
  const uint64_t digest = DigestOfOptimizer(&whole, pool, *alone);
  CHECK(DigestOfOptimizer(&whole, two_threads, *alone) == digest);
  for (const auto& values_of : {&State::Master, &State::FirstMoment, &State::SecondMoment}) {
    float& value = (whole.*values_of)(0)[70'000];  // of the embedding's second chunk
    const float before = std::exchange(value, value + 1);
    CHECK(DigestOfOptimizer(&whole, pool, *alone) != digest);
    value = before;
  }
  for (const int num_ranks : {2, 3, 40}) {  // 40: more than there are chunks
    std::vector<size_t> owned(static_cast<size_t>(num_ranks), 0);
    const auto failures = ranks::RunRanks(num_ranks, [&](const ranks::Place& place) {
      const auto ranks = ranks::Ranks::Join(place, {});
      kernels::ThreadPool own_pool(1);
      State state(config, Adapter{}, *ranks);
      for (size_t view = 0; view < values.size(); ++view) Scatter(&state, view, ranks->IsFirst() ? values[view].data() : nullptr, *ranks);
      state.RoundAndShare(*ranks, own_pool, /*is_rounded=*/false);
      const uint64_t seen = DigestOfOptimizer(&state, own_pool, *ranks);
      if (ranks->IsFirst() && seen != digest) throw Error::Data("another digest");
      for (size_t i = 0; i < state.parameters().size(); ++i) {
        if (!std::ranges::equal(state.Rounded(i), whole.Rounded(i))) throw Error::Data("other weights in " + state.parameters()[i].name);
        owned[static_cast<size_t>(place.rank)] += state.Master(i).size();
      }
      for (size_t view = 0; view < values.size(); ++view) {
        std::vector<float> back;
        Collect(state, view, *ranks, [&](const void* data, uint64_t num_bytes) {
          const auto* begin = static_cast<const float*>(data);
          back.insert(back.end(), begin, begin + num_bytes / sizeof(float));
        });
        if (ranks->IsFirst() && back != values[view]) throw Error::Data("other values in view " + std::to_string(view));
      }
      ranks->Finish();
    });
    CHECK(failures == std::vector<std::string>(static_cast<size_t>(num_ranks)));
    size_t all = 0, largest = 0;
    for (const size_t size : owned) {
      all += size;
      largest = std::max(largest, size);
    }
    size_t expected = 0;
    for (size_t i = 0; i < whole.trainables().size(); ++i) expected += whole.Size(i);
    CHECK(all == expected);
    CHECK(largest <= expected / static_cast<size_t>(num_ranks) + 65536);
  }
}

TEST_CASE("groups go to the rank with the fewest tokens, the longest first; those without work weigh nothing") {
  std::vector<std::vector<record::Rollout>> rollouts;
  const std::vector<int64_t> lengths = {10, 40, 20, 20, 30};
  for (size_t g = 0; g < lengths.size(); ++g) {
    std::vector<record::Rollout> group;
    for (int64_t i = 0; i < 2; ++i) group.push_back(MakeRollout(4 * (g + 1), i, lengths[g], g == 1 ? 0 : static_cast<double>(i)));
    rollouts.push_back(std::move(group));
  }
  const Claim claim = MakeClaim(0, std::move(rollouts));
  const Batch batch = MakeBatch(claim, ParseMethod({}), {64, 1024, 0, 0, ""});
  CHECK(AssignGroups(batch.groups, 1) == std::vector<int>{0, 0, 0, 0, 0});
  CHECK(AssignGroups(batch.groups, 2) == std::vector<int>{0, 0, 1, 1, 0});
}
