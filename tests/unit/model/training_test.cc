// Scoring gives the recorded log-probabilities, and neither it nor the backward pass depends on how the work is cut.
#include "model/training.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "model/forward.h"
#include "model/layer_pass.h"
#include "row_log_sum_exp.h"
#include "training_work.h"

namespace april::model {
namespace {

TEST_CASE("micro-batches, threads and recomputation change no bit", "[heavy]") {
  const Config config = TinyConfig(GENERATE("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"));
  auto lengths = kLengths;
  lengths.insert(lengths.end(), {{9, 0, 1}, {6}});  // responses without rows of their own, and none at all
  const Work work(config, lengths);
  for (const kernels::Precision precision : {kernels::Precision::kF32, kernels::Precision::kBf16}) {
    const kernels::Kernels& kernels = kernels::ChooseKernels("auto", precision);
    const Result whole = Train(config, kernels, work, work.groups.size(), 2, uint64_t{1} << 30);
    struct Cut {
      size_t per_batch;
      int threads;
      uint64_t bytes;
    };
    for (const Cut& cut : {Cut{1, 2, uint64_t{1} << 30}, Cut{2, 1, uint64_t{1} << 30}, Cut{5, 1, 0}, Cut{3, 2, 0}, Cut{5, 2, 3000000}}) {
      INFO(kernels.name << ", " << cut.per_batch << " groups at a time on " << cut.threads << " threads in " << cut.bytes << " bytes");
      const Result seen = Train(config, kernels, work, cut.per_batch, cut.threads, cut.bytes);
      CHECK(std::memcmp(seen.logprobs.data(), whole.logprobs.data(), whole.logprobs.size() * 4) == 0);
      CHECK(std::memcmp(seen.entropies.data(), whole.entropies.data(), whole.entropies.size() * 4) == 0);
      size_t different = 0;
      for (size_t i = 0; i < whole.gradients.size(); ++i) {
        different += std::memcmp(seen.gradients[i].data(), whole.gradients[i].data(), whole.gradients[i].size() * 4) != 0;
      }
      CHECK(different == 0);
    }
  }
}

TEST_CASE("logits that are kept, all or some, change no bit", "[heavy]") {
  const Config config = TinyConfig();
  const Work work(config, std::vector<std::vector<int64_t>>(10, {3, 20, 9}));  // ten tiles of targets: two parts of the backward pass
  const kernels::Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kAuto);
  const Result none = Train(config, kernels, work, work.groups.size(), 2, 0);
  for (uint64_t bytes = uint64_t{1} << 18; bytes < uint64_t{1} << 23; bytes += bytes / 8) {
    INFO(bytes << " bytes for activations");
    const Result seen = Train(config, kernels, work, work.groups.size(), 2, bytes);
    size_t different = 0;
    for (size_t i = 0; i < none.gradients.size(); ++i) {
      different += std::memcmp(seen.gradients[i].data(), none.gradients[i].data(), none.gradients[i].size() * 4) != 0;
    }
    CHECK(different == 0);
  }
}

TEST_CASE("layers whose inputs are not kept compute them again, to the same bits") {
  Config config = TinyConfig();
  config.layers = 11;
  const Work work(config, {{40, 30, 1}, {5, 17}});
  const kernels::Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kAuto);
  const Result kept = Train(config, kernels, work, 2, 2, uint64_t{1} << 30);
  const ActivationLayout whole{config, kernels, 90, true};
  Activations unused;
  const uint64_t layer = whole.Place(nullptr, &unused), input = 90 * static_cast<uint64_t>(config.hidden) * sizeof(float);
  for (const uint64_t bytes : {uint64_t{0}, layer + 7 * input, layer + 11 * input}) {  // 6, 7 and 11 inputs: of every third, second and each layer
    INFO(bytes << " bytes for activations");
    const Result seen = Train(config, kernels, work, 2, 2, bytes);
    CHECK(seen.logprobs == kept.logprobs);
    for (size_t i = 0; i < kept.gradients.size(); ++i)
      CHECK(std::memcmp(seen.gradients[i].data(), kept.gradients[i].data(), kept.gradients[i].size() * 4) == 0);
  }
}

/// Samples `count` tokens after the prompt from recorded uniform numbers, as a generator would, and returns their log-probabilities.
std::vector<float> Generate(const Policy& policy, KvCache& cache, Forward& forward, std::span<const uint32_t> prompt, uint64_t id, size_t count,
                            std::vector<uint32_t>* tokens) {
  const kernels::FlushDenormals flush;
  const Config& config = policy.config();
  std::vector<float> logits(static_cast<size_t>(config.vocab)), p(logits.size()), logprobs;
  Sequence sequence;
  REQUIRE(cache.Reserve(&sequence, static_cast<int64_t>(prompt.size() + count)));
  std::vector<Row> rows;
  for (size_t i = 0; i < prompt.size(); ++i) rows.push_back({prompt[i], static_cast<int32_t>(i), &sequence, i + 1 == prompt.size()});
  while (tokens->size() < count) {
    forward.Run(policy, cache, rows, logits.data());
    const float log_sum_exp = RowLogSumExp(policy.kernels(), logits.data(), config.vocab, kTemperature);
    double left = RandomUnit(5, RandomUse::kTest, id, tokens->size());
    uint32_t token = 0;
    for (; token + 1 < config.vocab; ++token) {
      left -= std::exp(static_cast<double>(TokenLogprob(logits.data(), token, kTemperature, log_sum_exp)));
      if (left < 0) break;
    }
    tokens->push_back(token);
    logprobs.push_back(TokenLogprob(logits.data(), token, kTemperature, log_sum_exp));
    rows = {{token, static_cast<int32_t>(sequence.length), &sequence, true}};
  }
  cache.Release(&sequence);
  return logprobs;
}

TEST_CASE("scoring gives the generator's log-probabilities, bit for bit") {
  const Config config = TinyConfig(GENERATE("LlamaForCausalLM", "Qwen3ForCausalLM"));
  for (const kernels::Kernels* kernels : kernels::AvailableKernels()) {
    INFO(config.architecture << ", " << kernels->name);
    kernels::ThreadPool pool(2);
    const auto policy = TinyPolicy(config, TinyParameters(config, ElementType(*kernels)), *kernels, pool);
    KvCache cache(config, *kernels, 100);
    Forward forward(config, *kernels, pool);
    std::vector<std::vector<uint32_t>> prompts, responses;
    std::vector<float> recorded;
    for (const size_t length : {1, 31, 32, 45}) {
      prompts.push_back(RandomTokens(config, length, static_cast<int64_t>(length)));
      for (const size_t count : {1, 20, 70}) {
        responses.emplace_back();
        const std::vector<float> logprobs = Generate(*policy, cache, forward, prompts.back(), responses.size(), count, &responses.back());
        recorded.insert(recorded.end(), logprobs.begin(), logprobs.end());
      }
    }
    std::vector<TrainingGroup> groups;
    for (size_t i = 0; i < prompts.size(); ++i) groups.push_back({prompts[i], {responses[3 * i], responses[3 * i + 1], responses[3 * i + 2]}});
    TrainingPass pass(config, *kernels, pool);
    for (const bool keep : {false, true}) {
      std::vector<float> scored(recorded.size());
      pass.Forward(*policy, groups, kTemperature, scored, {}, keep);
      CHECK(std::memcmp(scored.data(), recorded.data(), recorded.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("gradients that are not wanted are empty, and the others have the bits that they have among all") {
  for (const bool tied : {true, false}) {
    Config config = TinyConfig();
    config.tied_embeddings = tied;
    config.attention_bias = config.qk_norm = true;
    const kernels::Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kAuto);
    const Work work(config, kLengths);
    const Result all = Train(config, kernels, work, 2, 2, uint64_t{1} << 30);
    const size_t count = all.gradients.size();
    for (const size_t modulus : {2, 3, 5}) {
      std::vector<bool> wanted;
      for (size_t i = 0; i < count; ++i) wanted.push_back(i % modulus == 1);
      const Result some = Train(config, kernels, work, 2, 2, uint64_t{1} << 30, wanted);
      for (size_t i = 0; i < count; ++i) CHECK(some.gradients[i] == (wanted[i] ? all.gradients[i] : std::vector<float>()));
    }
  }
}

TEST_CASE("work that cannot be trained on is refused") {
  const Config config = TinyConfig();
  const kernels::Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kAuto);
  kernels::ThreadPool pool(1);
  const auto policy = TinyPolicy(config, TinyParameters(config, ElementType(kernels)), kernels, pool);
  TrainingPass pass(config, kernels, pool);
  const std::vector<uint32_t> prompt{1, 2, 3}, response{4, 5}, foreign{4, static_cast<uint32_t>(config.vocab)};
  std::vector<float> two(2);
  const TrainingGroup good{prompt, {response}}, bad{prompt, {foreign}}, empty{{}, {response}};
  CHECK_THROWS_AS(pass.Forward(*policy, {&bad, 1}, 1, two, {}, false), Error);
  CHECK_THROWS_AS(pass.Forward(*policy, {&empty, 1}, 1, two, {}, false), Error);
  CHECK_THROWS_AS(pass.Forward(*policy, {&good, 1}, 1, std::span(two).first(1), {}, false), Error);
  Gradients gradients(config);
  CHECK_THROWS_AS(pass.Backward(*policy, two, {}, &gradients), Error);
  pass.Forward(*policy, {&good, 1}, 1, two, {}, true);
  CHECK_THROWS_AS(pass.Backward(*policy, two, {}, &gradients), Error);  // not packed for training
}

}  // namespace
}  // namespace april::model
