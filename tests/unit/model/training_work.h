// What the tests of training share: groups of random tokens, and a whole training pass over them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "model/training.h"
#include "tiny_model.h"

namespace april::model {

inline constexpr double kTemperature = 0.8;

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

inline const std::vector<std::vector<int64_t>> kLengths = {{40, 30, 1, 64}, {5, 17}, {64, 33, 90}, {1, 9, 2}, {130, 3, 40}};

inline std::vector<float> RandomGradients(size_t count, uint64_t id) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(RandomUnit(3, RandomUse::kTest, id, i) * 2 - 1));
  return values;
}

struct Result {
  std::vector<float> logprobs, entropies;
  std::vector<std::vector<float>> gradients;
};

/// All groups, `per_batch` at a time.
inline Result Train(const Config& config, const kernels::Kernels& kernels, const Work& work, size_t per_batch, int threads, uint64_t activation_bytes,
                    const std::vector<bool>& wanted = {}) {
  kernels::ThreadPool pool(threads);
  const auto policy = TinyPolicy(config, TinyParameters(config, ElementType(kernels)), kernels, pool, true);
  TrainingPass pass(config, kernels, pool, activation_bytes);
  Gradients gradients(config, wanted);
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

}  // namespace april::model
