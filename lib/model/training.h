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
  /// `wanted`, one for each parameter, or empty: all. The others' tensors are empty; they take no memory, and what only they need is not computed.
  explicit Gradients(const Config& config, const std::vector<bool>& wanted = {});
  ~Gradients();
  Gradients(const Gradients&) = delete;
  Gradients& operator=(const Gradients&) = delete;
  void Zero(kernels::ThreadPool& pool);
  /// Complete after the last Backward of a claim. What looking tokens up adds to the embedding's gradient is summed by itself, in row order, and
  /// joins here: otherwise a tied embedding's sum would depend on where micro-batches end. So take tensors when all micro-batches are through.
  std::span<float> Tensor(size_t parameter);
  size_t size() const;

  /// For the backward pass: the tensor without lookups, and the sums of the looked-up rows, one place a token ("slot") in order of first appearance.
  std::span<float> Pending(size_t parameter);
  std::vector<size_t> LookupSlots(std::span<const uint32_t> tokens);
  float* Lookup(size_t slot);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// One micro-batch at a time: Forward, then (optionally) Backward of the same groups.
///   Memory  What Backward needs is kept up to `activation_bytes`; of the layers beyond that only the input is kept and the rest computed again: same
///           bits. Where all inputs are too much, some layers' are kept and the others' come from one more forward: of n layers at least about
///           2 sqrt(n) inputs (Chen et al., arXiv 1604.06174, section 4.1).
///           Beside it about 40 KiB a row of working memory at 576 hidden units; for each response also 8 bytes a row of its prompt and
///           column of keys.
class TrainingPass {
 public:
  TrainingPass(const Config& config, const kernels::Kernels& kernels, kernels::ThreadPool& pool, uint64_t activation_bytes = uint64_t{2} << 30);
  ~TrainingPass();
  TrainingPass(const TrainingPass&) = delete;
  TrainingPass& operator=(const TrainingPass&) = delete;

  /// Log-probabilities (nats, at `temperature`) of every response token of every response in order, concatenated: the recorded ones, bit for bit,
  /// when the policy is the one that sampled. `entropies` (full softmax, nats) is filled when not empty. Sizes must be the number of response tokens.
  /// `keep` saves what Backward needs; entropies must be asked for when Backward will be given their gradients. A value is not finite when a logit is
  /// not. A group's prompt has at least one token; a response may be empty. Throws Incompatible naming a token beyond the vocabulary.
  void Forward(const Policy& policy, std::span<const TrainingGroup> groups, double temperature, std::span<float> logprobs, std::span<float> entropies,
               bool keep);

  /// Adds d(loss)/d(parameters) to `gradients`, given d(loss)/d(logprob) and d(loss)/d(entropy) (may be empty) of each response token.
  /// What is exact: tiles of kGradientTile rows start anew with each group, each is one f32 chain from zero, and tiles are added in claim order. So a
  /// claim may be cut into micro-batches anywhere between groups, on any number of threads, without changing a bit of the gradients. A group is never
  /// cut. The policy was made with for_training.
  void Backward(const Policy& policy, std::span<const float> logprob_gradients, std::span<const float> entropy_gradients, Gradients* gradients);

 private:
  friend class BackwardPass;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace april::model
