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
#include "ranks/ranks.h"

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
  uint64_t optimizer_digest = 0;  ///< DigestOfOptimizer behind it, on rank 0; 0 after a failure
};

/// Holds the policy packed for training and the gradients. Not thread-safe; uses the pool inside.
class Trainer {
 public:
  /// `state` outlives the trainer and holds the weights to begin with, as `ranks` does. `reference` is the KL term's policy to begin with; null
  /// unless the method uses one.
  Trainer(TrainerOptions options, const kernels::Kernels& kernels, kernels::ThreadPool& pool, State* state,
          std::shared_ptr<const model::Policy> reference, ranks::Ranks& ranks);

  /// Trains on the batch's groups; moves the state's weights, moments and optimiser steps, not its `step` and `version`. Neither micro-batch size nor
  /// number of threads changes a bit of the result. All ranks call it with the same batch; each computes its share of the groups, and gradients are
  /// added up in the order of ranks, so that their number does change bits. The metrics are whole on rank 0 alone: times and memory are its own, all
  /// else is of all ranks.
  UpdateResult Update(const Batch& batch);
  Reference& reference() { return reference_; }
  /// Packs the newest weights for the next update, which otherwise does it itself. The state may be read meanwhile.
  void Prepare();

 private:
  struct MicroBatch;  ///< groups that go through the network together
  struct ForwardValues;
  struct TokenGradients;
  /// Groups of one optimiser step, the rank of each, and their old log-probabilities (none: the current ones).
  struct Part {
    std::span<const BatchGroup> groups;
    std::span<const int> owners;
    std::span<const std::vector<float>> old_logprobs;
  };
  using GroupLogprobs = std::vector<std::vector<float>>;  ///< of every response token, one list a group

  std::vector<std::vector<size_t>> MicroBatchesOf(const Part& part, int rank) const;
  MicroBatch Gather(std::span<const BatchGroup> groups, const std::vector<size_t>& indices) const;
  GroupLogprobs OldLogprobs(const Part& all, Metrics* metrics);
  bool TrainGroups(const Part& part, UpdateResult* result);
  void TrainMicroBatch(const MicroBatch& micro, const ClaimTotals& totals, const Part& part, ForwardValues* values, Metrics* metrics);
  TokenGradients Loss(const MicroBatch& micro, const ClaimTotals& totals, const Part& part, const ForwardValues& values, Metrics* metrics) const;
  void AddOtherRanks(const Part& part, const ClaimTotals& totals, std::vector<ForwardValues>* own, Metrics* metrics);
  /// The gradients of State::trainables(), once all micro-batches are through, in its own parts summed over ranks. Views: until the next Zero.
  std::vector<std::span<float>> CollectGradients();

  TrainerOptions options_;
  std::optional<uint64_t> optimizer_digest_;  ///< of the state as it is
  const kernels::Kernels& kernels_;
  kernels::ThreadPool& pool_;
  State* state_;
  ranks::Ranks& ranks_;
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
