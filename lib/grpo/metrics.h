// Numbers of one update, for a person, for --metrics and for the step record.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/json.h"
#include "grpo/batch.h"
#include "grpo/math.h"

namespace april::grpo {

struct PhaseSeconds {
  double forward = 0, backward = 0, optimizer = 0, publish = 0, checkpoint = 0;
};

class Metrics {
 public:
  /// Rewards, lengths and staleness of everything that takes part, skipped groups included.
  void AddBatch(const Batch& batch);
  /// One trained sequence after its forward pass. `current` are the recomputed log-probabilities of its trained tokens.
  void AddSequence(const Method& method, const TrainingSequence& sequence, std::span<const double> current, std::span<const double> old,
                   const SequenceTerms& terms);

  double loss = 0, grad_norm = 0, lr = 0;
  int64_t forward_tokens = 0;  ///< rows through the network: prompts once a group, and responses
  PhaseSeconds seconds;

  int64_t num_groups() const { return num_groups_; }
  double reward_mean() const;
  double truncated_share() const;
  int64_t num_trained_tokens() const { return num_tokens_; }
  double stale_share() const;

  /// Names carry their units; shares are of 1. Means over nothing are left out.
  Json ToJson() const;
  /// "reward 0.412, 2731 tokens, …": the line that a terminal shows.
  std::string Line() const;

 private:
  int64_t num_groups_ = 0, num_zero_groups_ = 0, num_sequences_ = 0, num_length_finish_ = 0, num_response_tokens_ = 0;
  int64_t num_continued_ = 0;  ///< rollouts that were interrupted once at least: by newer weights, or to be resumed from the buffer
  double reward_sum_ = 0, reward_squares_ = 0;
  std::map<int64_t, int64_t> tokens_by_age_;

  int64_t num_tokens_ = 0;  ///< trained
  int64_t num_clipped_low_ = 0, num_clipped_high_ = 0, num_capped_ = 0;
  double weight_sum_ = 0, weight_squares_ = 0, kl_reference_ = 0, kl_behaviour_k1_ = 0, kl_behaviour_k3_ = 0;
  bool has_reference_ = false;
  int64_t num_compared_ = 0, num_differing_ = 0;
  double largest_difference_ = 0;
};

/// Resident memory of this process now and at most, in bytes.
struct MemoryUse {
  uint64_t now = 0, peak = 0;
};
MemoryUse ReadMemoryUse();

}  // namespace april::grpo
