// A rollout depends on nothing that runs beside it, on no interruption and on no thread count: equal tokens, equal bits of log-probabilities.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <map>

#include "base/error.h"
#include "base/rng.h"
#include "model/forward.h"
#include "model/policy.h"
#include "rollout/local_engine.h"
#include "rollout/sampler.h"
#include "rollout/scheduler.h"

namespace april::rollout {
namespace {

model::Config TinyConfig() {
  model::Config config;
  config.architecture = "LlamaForCausalLM";
  config.hidden = 64;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.intermediate = 96;
  config.vocab = 1100;  // more than one chunk
  config.max_positions = 512;
  config.tied_embeddings = true;
  return config;
}

/// `broken`: a tensor one of whose rows is NaN.
std::shared_ptr<const model::Policy> RandomPolicy(uint64_t seed, const kernels::Kernels& kernels, kernels::ThreadPool& pool,
                                                  const std::string& broken = "", bool tied = true) {
  model::Config config = TinyConfig();
  config.tied_embeddings = tied;
  std::vector<std::string> bytes;
  std::vector<weights::TensorView> views;
  const auto specs = model::Parameters(config);
  bytes.reserve(specs.size());
  uint64_t counter = 0;
  for (const auto& spec : specs) {
    weights::TensorView view;
    view.name = spec.name;
    view.shape = spec.shape;
    view.dtype = kernels.element_bytes == 2 ? weights::DType::kBf16 : weights::DType::kF32;
    const bool norm = spec.shape.size() == 1;
    const int64_t row_size = norm ? 1 : spec.shape.back();
    std::string data;
    for (int64_t i = 0; i < view.NumElements(); ++i) {
      const double uniform = RandomUnit(seed, RandomUse::kTest, 9, counter++) * 2 - 1;
      float value = static_cast<float>(norm ? 1 + 0.2 * uniform : 0.35 * uniform);
      if (spec.name == broken && i / row_size == std::min<int64_t>(500, spec.shape[0] - 1)) value = std::nanf("");
      if (kernels.element_bytes == 2) {
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        const uint16_t half = static_cast<uint16_t>(bits >> 16);
        data.append(reinterpret_cast<const char*>(&half), 2);
      } else {
        data.append(reinterpret_cast<const char*>(&value), 4);
      }
    }
    bytes.push_back(std::move(data));
    view.data = bytes.back().data();
    view.num_bytes = bytes.back().size();
    views.push_back(view);
  }
  return model::Policy::FromTensors(config, views, kernels, pool, false);
}

struct GivenPolicies : PolicySource {
  LoadedPolicy first;
  std::optional<LoadedPolicy> next;
  void ReadModel(const std::function<void(const std::string& path)>&) override {}
  LoadedPolicy First() override { return first; }
  std::optional<LoadedPolicy> Newer() override { return std::exchange(next, std::nullopt); }
  bool Changes() const override { return true; }
};

struct Kept : Sink {
  std::vector<record::Rollout> rollouts;
  void Write(const record::Record& record) override {
    if (const auto* rollout = std::get_if<record::Rollout>(&record)) rollouts.push_back(*rollout);
  }
  void Flush() override {}
};

std::vector<record::Rollout> Work(int64_t groups, int64_t size) {
  std::vector<record::Rollout> work;
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t index = 0; index < size; ++index) {
      record::Rollout rollout;
      rollout.run = "r";
      rollout.prompt_id = "p" + std::to_string(group);
      rollout.group_id = static_cast<uint64_t>(group);
      rollout.uid = static_cast<uint64_t>(group * 100 + index);
      rollout.index = index;
      rollout.group_size = size;
      const int64_t prompt_length = 3 + 29 * group;  // below, at and above block borders
      for (int64_t i = 0; i < prompt_length; ++i) rollout.prompt_tokens.push_back(static_cast<uint32_t>((7 * i + 31 * group + 5) % 1100));
      rollout.seed = 42;
      rollout.max_tokens = 20 + 6 * index;
      if (index % 3 == 1) rollout.sampling.top_k = 40;
      if (index % 3 == 2) rollout.sampling.temperature = 0.8;
      work.push_back(rollout);
    }
  }
  return work;
}

struct Setting {
  int64_t slots = 8;
  int threads = 1;
  int64_t prefill_rows = 64;
  bool share_prompts = true;
  bool keep_kv = false;
  uint64_t memory_bytes = 0;
  int64_t stop_every = 1 << 30;  // steps between interruptions
  int64_t new_weights_at = -1;   // step
  const char* kernels = "auto";
  kernels::Precision precision = kernels::Precision::kAuto;
};

struct Result {
  std::map<uint64_t, record::Rollout> rollouts;
  int64_t evictions = 0, runs = 0, prefill_rows = 0;
};

Result Generate(const Setting& setting, std::vector<record::Rollout> pending) {
  Result result;
  kernels::ThreadPool pool(setting.threads);
  const kernels::Kernels& kernels = kernels::ChooseKernels(setting.kernels, setting.precision);
  GivenPolicies policies;
  policies.first = {RandomPolicy(1, kernels, pool), {1, 111}};
  for (; !pending.empty(); ++result.runs) {
    REQUIRE(result.runs < 500);
    LocalEngineOptions options;
    options.num_slots = setting.slots;
    options.prefill_rows = setting.prefill_rows;
    options.share_prompts = setting.share_prompts;
    options.keep_kv = setting.keep_kv;
    options.expected_positions = 200;
    options.memory_bytes = setting.memory_bytes;
    const std::unique_ptr<Engine> engine = MakeLocalEngine(options, policies, pool);
    Kept out;
    ScheduleOptions schedule;
    schedule.stop_tokens = {2};
    int64_t steps = 0;
    schedule.stop_requested = [&] { return steps >= setting.stop_every; };
    Scheduler scheduler(schedule, *engine, out, nullptr);
    scheduler.set_observer([&] {
      steps = scheduler.counters().steps;
      if (steps == setting.new_weights_at) policies.next = {RandomPolicy(2, kernels, pool), {2, 222}};
    });
    for (const auto& rollout : pending) scheduler.Give(rollout);
    scheduler.Run();
    result.evictions += scheduler.counters().evictions;
    result.prefill_rows += scheduler.counters().prefill_rows;
    // Everything that was held is given back.
    CHECK(engine->load().kv_blocks_used <= 5 * 8);
    pending.clear();
    for (const auto& rollout : out.rollouts) {
      CHECK_NOTHROW(record::Validate(rollout));
      if (rollout.status == record::Status::kComplete) {
        CHECK(result.rollouts.emplace(rollout.uid, rollout).second);
      } else {
        pending.push_back(rollout);
      }
    }
  }
  return result;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

void CheckEqual(const Result& result, const Result& expected) {
  REQUIRE(result.rollouts.size() == expected.rollouts.size());
  for (const auto& [uid, rollout] : result.rollouts) {
    const record::Rollout& other = expected.rollouts.at(uid);
    INFO("uid " << uid);
    CHECK(rollout.tokens == other.tokens);
    CHECK(SameBits(rollout.logprobs, other.logprobs));
    CHECK(SameBits(rollout.sampled_logprobs, other.sampled_logprobs));
    CHECK(rollout.finish == other.finish);
  }
}

TEST_CASE("Same tokens and bits for any number in flight, threads, prefill chunk, shared or separate prompts") {
  const auto work = Work(4, 4);
  const Result expected = Generate({}, work);
  bool stopped = false, cut = false;
  for (const auto& [uid, rollout] : expected.rollouts) {
    CHECK(rollout.logprobs.size() == rollout.tokens.size());
    CHECK((rollout.sampled_logprobs.size() == rollout.tokens.size()) == (rollout.sampling.top_k > 0));
    (rollout.finish == record::Finish::kStop ? stopped : cut) = true;
  }
  CHECK(cut);
  for (const int64_t slots : {1, 7, 64}) CheckEqual(Generate({.slots = slots}, work), expected);
  CheckEqual(Generate({.slots = 16, .threads = 2}, work), expected);
  CheckEqual(Generate({.slots = 5, .threads = 3, .prefill_rows = 1}, work), expected);
  CheckEqual(Generate({.slots = 16, .prefill_rows = 1000}, work), expected);
  const Result separate = Generate({.slots = 16, .share_prompts = false}, work);
  CheckEqual(separate, expected);
  CHECK(separate.prefill_rows > 2 * Generate({.slots = 16}, work).prefill_rows);
}

TEST_CASE("Interrupted and resumed within a version equals uninterrupted") {
  const auto work = Work(3, 4);
  const Result expected = Generate({}, work);
  for (const int64_t stop_every : {3, 4, 13}) {
    for (const int64_t slots : {3, 12}) {
      const Result result = Generate({.slots = slots, .prefill_rows = 256, .stop_every = stop_every}, work);
      CHECK(result.runs > 1);
      CheckEqual(result, expected);
    }
  }
}

TEST_CASE("Eviction when memory is short changes nothing") {
  auto work = Work(3, 4);
  for (auto& rollout : work) rollout.max_tokens = 120;
  const Result expected = Generate({}, work);
  kernels::ThreadPool pool(1);
  const kernels::Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kAuto);
  const uint64_t weights = 2 * RandomPolicy(1, kernels, pool)->NumBytes();
  const uint64_t memory = weights + 12 * model::KvCache::BytesPerBlock(TinyConfig(), kernels);
  const Result result = Generate({.slots = 12, .memory_bytes = memory}, work);
  CHECK(result.evictions > 0);
  CheckEqual(result, expected);
  CHECK_THROWS_AS(Generate({.slots = 12, .memory_bytes = weights + 1000}, work), Error);
}

TEST_CASE("New weights with recomputed keys and values equal a resume under them; kept ones differ and say so") {
  auto work = Work(2, 3);
  for (auto& rollout : work) rollout.sampling = {};
  const Result changed = Generate({.slots = 6, .new_weights_at = 8}, work);
  // The same by hand: interrupted at the same token, resumed by an engine that knows only the new weights.
  for (const auto& [uid, rollout] : changed.rollouts) {
    REQUIRE(rollout.weight_versions.size() == 2);
    CHECK(rollout.weight_versions[1].version == 2);
    CHECK(rollout.segments.back().kv == "recomputed");
    record::Rollout partial = rollout;
    const int64_t cut = rollout.weight_versions[1].start;
    partial.tokens.resize(cut);
    partial.logprobs.resize(cut);
    partial.weight_versions.pop_back();
    partial.segments.pop_back();
    partial.status = record::Status::kPartial;
    partial.finish = record::Finish::kNone;
    kernels::ThreadPool pool(1);
    GivenPolicies policies;
    policies.first = {RandomPolicy(2, kernels::ChooseKernels("auto", kernels::Precision::kAuto), pool), {2, 222}};
    LocalEngineOptions options;
    options.num_slots = 1;
    options.expected_positions = 200;
    const auto engine = MakeLocalEngine(options, policies, pool);
    Kept out;
    ScheduleOptions schedule;
    schedule.stop_tokens = {2};
    Scheduler scheduler(schedule, *engine, out, nullptr);
    scheduler.Give(partial);
    scheduler.Run();
    REQUIRE(out.rollouts.size() == 1);
    CHECK(out.rollouts[0].tokens == rollout.tokens);
    CHECK(SameBits(out.rollouts[0].logprobs, rollout.logprobs));
    CHECK(out.rollouts[0].resumes == 1);
  }
  const Result kept = Generate({.slots = 6, .keep_kv = true, .new_weights_at = 8}, work);
  int differ = 0;
  for (const auto& [uid, rollout] : kept.rollouts) {
    CHECK(rollout.segments.back().kv == "kept");
    differ += rollout.tokens != changed.rollouts.at(uid).tokens || !SameBits(rollout.logprobs, changed.rollouts.at(uid).logprobs);
  }
  CHECK(differ == static_cast<int>(kept.rollouts.size()));
}

TEST_CASE("Recorded log-probabilities are those of one forward over the whole sequence") {
  const auto work = Work(2, 3);
  const Result result = Generate({.slots = 6}, work);
  kernels::ThreadPool pool(1);
  const kernels::Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kAuto);
  const auto policy = RandomPolicy(1, kernels, pool);
  const model::Config config = TinyConfig();
  for (const auto& item : result.rollouts) {
    const record::Rollout& rollout = item.second;
    std::vector<uint32_t> all = rollout.prompt_tokens;
    all.insert(all.end(), rollout.tokens.begin(), rollout.tokens.end());
    model::KvCache cache(config, kernels, 32);
    model::Forward forward(config, kernels, pool);
    model::Sequence sequence;
    REQUIRE(cache.Reserve(&sequence, static_cast<int64_t>(all.size())));
    std::vector<model::Row> rows;
    for (size_t i = 0; i + 1 < all.size(); ++i) rows.push_back({all[i], static_cast<int32_t>(i), &sequence, i + 1 >= rollout.prompt_tokens.size()});
    std::vector<float> logits(rollout.tokens.size() * static_cast<size_t>(config.vocab));
    forward.Run(*policy, cache, rows, logits.data());
    std::vector<float> logprobs;
    pool.Run([&](kernels::ThreadPool::Worker&) {
      for (size_t i = 0; i < rollout.tokens.size(); ++i) {
        const float* row = logits.data() + i * static_cast<size_t>(config.vocab);
        std::vector<kernels::ChunkSums> chunks(model::NumChunks(config.vocab));
        model::SumChunks(kernels, row, config.vocab, SamplingScale(rollout.sampling), chunks.data());
        const float lse = model::LogSumExp(kernels, chunks);
        logprobs.push_back(model::TokenLogprob(row, rollout.tokens[i], rollout.sampling.temperature, lse));
      }
    });
    CHECK(SameBits(logprobs, rollout.logprobs));
  }
}

/// What became of four rollouts, the second of which ends its prompt with token 500: the reason of each that failed.
std::vector<std::string> Failures(const std::string& broken, bool tied) {
  kernels::ThreadPool pool(1);
  const kernels::Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kAuto);
  GivenPolicies policies;
  policies.first = {RandomPolicy(1, kernels, pool, broken, tied), {1, 111}};
  LocalEngineOptions options;
  options.num_slots = 4;
  options.expected_positions = 100;
  const auto engine = MakeLocalEngine(options, policies, pool);
  Kept out;
  ScheduleOptions schedule;
  schedule.stop_tokens = {2};
  Scheduler scheduler(schedule, *engine, out, nullptr);
  auto work = Work(2, 2);
  work[1].prompt_tokens.back() = 500;
  for (const auto& rollout : work) scheduler.Give(rollout);
  scheduler.Run();
  std::vector<std::string> failures;
  for (const auto& rollout : out.rollouts) {
    if (rollout.status != record::Status::kFailed) continue;
    CHECK(rollout.finish == record::Finish::kError);
    if (broken == "model.embed_tokens.weight" && !tied) CHECK(rollout.uid == work[1].uid);
    failures.push_back(stream::Find(rollout.meta, "generation_error")->AsString());
  }
  return failures;
}

TEST_CASE("Logits that are not finite fail their rollout alone, and say in which layer it began") {
  CHECK(Failures("", false).empty());
  const std::string head = "the logits hold NaN or infinity under policy version 1, first in ";
  CHECK(Failures("model.embed_tokens.weight", false) == std::vector<std::string>{head + "the embedding of token 500"});
  CHECK(Failures("lm_head.weight", false) == std::vector<std::string>(4, head + "the last matrix"));
  for (int layer : {0, 1}) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".", place = "layer " + std::to_string(layer) + " of 0 to 1";
    for (const char* tensor : {"self_attn.v_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight"})
      CHECK(Failures(prefix + tensor, true) == std::vector<std::string>(4, head + place));
  }
}

}  // namespace
}  // namespace april::rollout
