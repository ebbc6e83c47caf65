// Scoring gives the recorded log-probabilities; the hand-written backward gives autograd's gradients; and neither depends on how the work is cut.
#include "model/training.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "model/forward.h"
#include "reference_model.h"
#include "tiny_model.h"

namespace april::model {
namespace {

constexpr double kTemperature = 0.8;

/// Groups of random tokens: prompts and responses of many lengths, on and off block and tile boundaries.
struct Work {
  Work(const Config& config, const std::vector<std::vector<int64_t>>& lengths) {
    uint64_t id = 100;
    for (const std::vector<int64_t>& group : lengths) {
      for (const int64_t length : group) tokens.push_back(RandomTokens(config, id++, length));
    }
    size_t next = 0;
    for (const std::vector<int64_t>& group : lengths) {
      TrainingGroup& added = groups.emplace_back();
      added.prompt = tokens[next++];
      for (size_t i = 1; i < group.size(); ++i) added.responses.push_back(tokens[next++]);
    }
  }
  static size_t Targets(std::span<const TrainingGroup> some) {
    size_t count = 0;
    for (const TrainingGroup& group : some) {
      for (const auto& response : group.responses) count += response.size();
    }
    return count;
  }

  std::vector<std::vector<uint32_t>> tokens;
  std::vector<TrainingGroup> groups;
};

const std::vector<std::vector<int64_t>> kLengths = {{40, 30, 1, 64}, {5, 17}, {64, 33, 90}, {1, 9, 2}, {130, 3, 40}};

std::vector<float> RandomGradients(size_t count, uint64_t id) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(RandomUnit(3, RandomUse::kTest, id, i) * 2 - 1));
  return values;
}

struct Result {
  std::vector<float> logprobs, entropies;
  std::vector<std::vector<float>> gradients;
};

/// All groups, `per_batch` at a time.
Result Train(const Config& config, const kernels::Kernels& kernels, const Work& work, size_t per_batch, int threads, uint64_t activation_bytes) {
  kernels::ThreadPool pool(threads);
  const auto policy = TinyPolicy(config, TinyParameters(config, ElementType(kernels)), kernels, pool, true);
  TrainingPass pass(config, kernels, pool, activation_bytes);
  Gradients gradients(config);
  gradients.Zero(pool);
  Result result;
  const std::vector<float> g = RandomGradients(Work::Targets(work.groups), 1), e = RandomGradients(Work::Targets(work.groups), 2);
  for (size_t first = 0; first < work.groups.size(); first += per_batch) {
    const std::span batch = std::span(work.groups).subspan(first, std::min(per_batch, work.groups.size() - first));
    const size_t begin = result.logprobs.size(), count = Work::Targets(batch);
    result.logprobs.resize(begin + count);
    result.entropies.resize(begin + count);
    pass.Forward(*policy, batch, kTemperature, std::span(result.logprobs).subspan(begin), std::span(result.entropies).subspan(begin), true);
    pass.Backward(*policy, std::span(g).subspan(begin, count), std::span(e).subspan(begin, count), &gradients);
  }
  for (size_t i = 0; i < gradients.size(); ++i) result.gradients.emplace_back(gradients.Tensor(i).begin(), gradients.Tensor(i).end());
  return result;
}

double RelativeError(const std::vector<float>& seen, const at::Tensor& expected) {
  const at::Tensor tensor = at::from_blob(const_cast<float*>(seen.data()), {static_cast<int64_t>(seen.size())}, at::kFloat).to(at::kDouble);
  return ((tensor - expected.reshape({-1})).norm() / expected.norm()).item<double>();
}

TEST_CASE("gradients are autograd's") {
  const Config config = TinyConfig(GENERATE("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"));
  const Work work(config, kLengths);
  for (const kernels::Precision precision : {kernels::Precision::kF32, kernels::Precision::kBf16}) {
    const kernels::Kernels& kernels = kernels::ChooseKernels("auto", precision);
    const Result seen = Train(config, kernels, work, work.groups.size(), 2, uint64_t{1} << 30);
    const ReferenceModel reference(config, TinyParameters(config, ElementType(kernels)));
    const std::vector<float> g = RandomGradients(seen.logprobs.size(), 1), e = RandomGradients(seen.logprobs.size(), 2);
    at::Tensor loss = at::zeros({}, at::kDouble);
    std::vector<double> logprobs, entropies;
    size_t next = 0;
    for (const TrainingGroup& group : work.groups) {
      for (const auto& response : group.responses) {
        std::vector<uint32_t> tokens(group.prompt.begin(), group.prompt.end());
        tokens.insert(tokens.end(), response.begin(), response.end());
        const at::Tensor all = (reference.Logits(tokens) / kTemperature).log_softmax(-1);
        for (size_t i = 0; i < response.size(); ++i, ++next) {
          const at::Tensor row = all[static_cast<int64_t>(group.prompt.size() + i) - 1];
          const at::Tensor logprob = row[response[i]], entropy = -(row.exp() * row).sum();
          loss = loss + logprob * g[next] + entropy * e[next];
          logprobs.push_back(logprob.item<double>());
          entropies.push_back(entropy.item<double>());
        }
      }
    }
    loss.backward();
    // bf16: rounding of activations, in a network whose random weights amplify it.
    const double bound = precision == kernels::Precision::kF32 ? 1e-5 : 5e-2;
    INFO(config.architecture << ", " << kernels.name);
    CHECK(RelativeError(seen.logprobs, at::tensor(logprobs, at::kDouble)) < bound);
    CHECK(RelativeError(seen.entropies, at::tensor(entropies, at::kDouble)) < bound);
    const std::vector<ParameterSpec> specs = Parameters(config);
    double worst = 0;
    for (size_t i = 0; i < specs.size(); ++i) {
      INFO(specs[i].name);
      const double error = RelativeError(seen.gradients[i], reference.parameters()[i].grad());
      CHECK(error < bound);
      worst = std::max(worst, error);
    }
    std::printf("%s, %s: gradients off by at most %.1e of their norm\n", config.architecture.c_str(), kernels.name, worst);
  }
}

TEST_CASE("micro-batches, threads and recomputation change no bit") {
  const Config config = TinyConfig(GENERATE("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"));
  const Work work(config, kLengths);
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
    float maximum = 0;
    const float log_sum_exp = LogSumExp(policy.kernels(), logits.data(), config.vocab, kTemperature, &maximum, nullptr);
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
