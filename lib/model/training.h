// Forward with saved activations, and the hand-written backward, over groups whose prompt is computed once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/policy.h"

namespace april::model {

/// One prompt and the responses that continue it. Views: the tokens outlive the pass.
struct TrainingGroup {
  std::span<const uint32_t> prompt;
  std::vector<std::span<const uint32_t>> responses;
};

/// Gradients of all parameters, f32, in the order of Parameters(config).
class Gradients {
 public:
  explicit Gradients(const Config& config);
  ~Gradients();
  Gradients(const Gradients&) = delete;
  Gradients& operator=(const Gradients&) = delete;
  void Zero();
  std::span<float> Tensor(size_t parameter);
  size_t size() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// One micro-batch at a time: Forward, then (optionally) Backward of the same groups.
class TrainingPass {
 public:
  TrainingPass(const Config& config, const kernels::Kernels& kernels, kernels::ThreadPool& pool);
  ~TrainingPass();
  TrainingPass(const TrainingPass&) = delete;
  TrainingPass& operator=(const TrainingPass&) = delete;

  /// Log-probabilities (nats, at `temperature`) of every response token of every response in order, concatenated: the recorded ones, bit for bit, when the
  /// policy is the one that sampled. `entropies` (full softmax, nats) is filled when not empty. Sizes must be the number of response tokens.
  /// `keep` saves what Backward needs.
  void Forward(const Policy& policy, std::span<const TrainingGroup> groups, double temperature, std::span<float> logprobs, std::span<float> entropies, bool keep);

  /// Adds d(loss)/d(parameters) to `gradients`, given d(loss)/d(logprob) and d(loss)/d(entropy) (may be empty) of each response token.
  /// Weight gradients are f32 sums over fixed kGradientTile-row tiles in claim order: groups of one claim may be cut into micro-batches anywhere between groups
  /// whose row counts were padded to tiles, without changing a bit.
  void Backward(const Policy& policy, std::span<const float> logprob_gradients, std::span<const float> entropy_gradients, Gradients* gradients);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace april::model
