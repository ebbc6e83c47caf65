// Numbers of one update, for a person, for --metrics and for the step record. What each key means stands in formats/metrics.md.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "grpo/batch.h"
#include "grpo/math.h"

namespace april::grpo {

struct PhaseSeconds {
  double forward = 0, backward = 0, optimizer = 0, publish = 0, checkpoint = 0;
  double wait = 0;   ///< for the claim
  double clock = 0;  ///< since the session began, at the step's publication
};

/// Parts of the network whose gradients are measured apart.
enum class Module { kEmbedding, kAttention, kMlp, kNorms, kHead };
constexpr size_t kNumModules = 5;
/// By the tensor's Hugging Face name.
Module ModuleOf(const std::string& tensor);

class Metrics {
 public:
  /// Rewards, lengths and staleness of everything that takes part, skipped groups included.
  void AddBatch(const Batch& batch);
  /// One trained sequence after its forward pass. `current` are the recomputed log-probabilities of its trained tokens, `entropies` those of the
  /// distributions that they come from.
  void AddSequence(const Method& method, const TrainingSequence& sequence, std::span<const double> current, std::span<const double> old,
                   std::span<const double> entropies, const SequenceTerms& terms);
  /// One optimiser step's gradient: its norm, and the sum of squares of each tensor.
  void AddGradient(double norm, std::span<const std::string> names, std::span<const double> tensor_squares);
  /// Loss and norms so far are sums over the optimiser steps that had something to train: makes them means.
  void FinishParts();

  double loss = 0, lr = 0;
  int64_t forward_tokens = 0;             ///< rows through the network: prompts once a group, and responses
  double matrix_operations = 0;           ///< of the whole update
  double peak_operations_per_second = 0;  ///< the machine's; 0: not known
  PhaseSeconds seconds;

  double reward_mean() const;
  double grad_norm() const { return grad_norm_; }
  double truncated_share() const;
  double stale_share() const;
  double tokens_per_second() const;
  double matrix_operations_per_second() const;

  /// Names carry their units; shares are of 1. Means over nothing are left out.
  Json ToJson() const;
  /// "reward 0.412, entropy 1.21, …": the line that a terminal shows, what matters most first, since a narrow one cuts it.
  std::string Line() const;

 private:
  double UpdateSeconds() const { return seconds.forward + seconds.backward + seconds.optimizer; }
  void AddRollouts(Json* json) const;
  void AddTokens(Json* json) const;
  void AddWork(Json* json) const;

  int64_t num_groups_ = 0, num_zero_groups_ = 0, num_sequences_ = 0, num_length_finish_ = 0, num_response_tokens_ = 0;
  int64_t num_continued_ = 0;  ///< rollouts that were interrupted once at least: by newer weights, or to be resumed from the buffer
  double reward_sum_ = 0, reward_squares_ = 0, advantage_sum_ = 0, advantage_squares_ = 0, advantage_min_ = 0, advantage_max_ = 0;
  std::map<int64_t, int64_t> tokens_by_age_, masked_by_age_;  ///< masked: kept from the policy loss by a choice of the method
  struct ByAge {
    int64_t num_tokens = 0, num_clipped = 0, num_bounded = 0;
    double weight_sum = 0, ratio_sum = 0, ratio_squares = 0;
  };
  std::map<int64_t, ByAge> trained_by_age_;

  int64_t num_tokens_ = 0;  ///< trained
  int64_t num_clipped_low_ = 0, num_clipped_high_ = 0;
  double weight_sum_ = 0, weight_squares_ = 0, ratio_sum_ = 0, ratio_squares_ = 0;  ///< ratio: current / behaviour
  double entropy_ = 0, kl_reference_ = 0, kl_behaviour_k1_ = 0, kl_behaviour_k3_ = 0;
  std::vector<double> log_ratios_, behaviour_log_ratios_;  ///< of each trained token
  bool has_reference_ = false;
  double grad_norm_ = 0;
  int64_t num_gradients_ = 0;  ///< optimiser steps so far
  std::array<double, kNumModules> module_norms_{};
  std::array<bool, kNumModules> has_module_{};
  int64_t num_compared_ = 0, num_differing_ = 0;
  double largest_difference_ = 0;
};

/// Resident memory of this process now and at most, in bytes.
struct MemoryUse {
  uint64_t now = 0, peak = 0;
};
MemoryUse ReadMemoryUse();

}  // namespace april::grpo
