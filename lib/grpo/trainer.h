// One update: forward, losses, backward, AdamW.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "grpo/adamw.h"
#include "grpo/batch.h"
#include "grpo/method.h"
#include "grpo/metrics.h"
#include "grpo/reference.h"
#include "grpo/state.h"
#include "kernels/kernels.h"
#include "kernels/memory.h"
#include "kernels/thread_pool.h"
#include "model/policy.h"
#include "model/training.h"

namespace april::grpo {

struct TrainerOptions {
  Method method;
  OptimizerOptions optimizer;
  int64_t micro_batch_tokens = 8192;
  uint64_t activation_bytes = uint64_t{2} << 30;
  double peak_operations_per_second = 0;  ///< of the machine, for the metrics; 0: not known
};

struct UpdateResult {
  bool advanced = false;               ///< whether the optimiser moved
  std::optional<std::string> failure;  ///< a loss or gradient that is not finite: nothing that this update did may be kept
  Metrics metrics;
};

/// Holds the policy packed for training and the gradients. Not thread-safe; uses the pool inside.
class Trainer {
 public:
  /// `state` outlives the trainer and holds the weights to begin with. `reference` is the KL term's policy to begin with; null unless the
  /// method uses one.
  Trainer(TrainerOptions options, const kernels::Kernels& kernels, kernels::ThreadPool& pool, State* state,
          std::shared_ptr<const model::Policy> reference);

  /// Trains on the batch's groups; moves the state's weights, moments and optimiser steps, not its `step` and `version`. Neither micro-batch size nor
  /// number of threads changes a bit of the result.
  UpdateResult Update(const Batch& batch);
  Reference& reference() { return reference_; }
  /// Packs the newest weights for the next update, which otherwise does it itself. The state may be read meanwhile.
  void Prepare();

 private:
  struct MicroBatch;                                      ///< groups that go through the network together
  using GroupLogprobs = std::vector<std::vector<float>>;  ///< of every response token, one list a group

  MicroBatch Gather(std::span<const BatchGroup> groups, const std::vector<size_t>& indices) const;
  GroupLogprobs OldLogprobs(std::span<const BatchGroup> groups, Metrics* metrics);
  bool TrainGroups(std::span<const BatchGroup> groups, std::span<const std::vector<float>> old_logprobs, UpdateResult* result);
  /// The gradients of State::trainables(), once all micro-batches are through. Views: until the next Zero.
  std::vector<std::span<float>> CollectGradients();
  void TrainMicroBatch(const MicroBatch& micro, const ClaimTotals& totals, std::span<const std::vector<float>> old_logprobs, UpdateResult* result);

  TrainerOptions options_;
  const kernels::Kernels& kernels_;
  kernels::ThreadPool& pool_;
  State* state_;
  Optimizer optimizer_;
  std::vector<std::string> gradient_names_;  ///< of State::trainables()
  model::Gradients gradients_;               ///< of the parameters that are trained, or that the adapter's factors are merged into
  kernels::Memory factor_gradients_;         ///< with an adapter: one after the other
  model::TrainingPass pass_;
  std::shared_ptr<const model::Policy> policy_;
  Reference reference_;
  bool packed_ = false;  ///< policy_ is of the newest weights
};

}  // namespace april::grpo
