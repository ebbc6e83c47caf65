// A claim turned into what the update computes on: checked rollouts in one fixed order, with advantages, trained tokens and the reason of everything
// left out.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "grpo/claim.h"
#include "grpo/method.h"

namespace april::grpo {

/// What the model and the trainer allow.
struct BatchLimits {
  int64_t vocab = 0;
  int64_t max_positions = 0;
  uint64_t trainer_version = 0;  ///< policy version at the claim
  uint64_t trainer_weights = 0;  ///< their digest: after a rewind other weights may have had the same number
  std::string kernels;           ///< kernel set of the trainer, as segments name it
};

/// One rollout that takes part.
struct TrainingSequence {
  const record::Rollout* rollout = nullptr;
  double advantage = 0;
  bool policy_masked = false;         ///< it has no policy loss, whatever its reward: `advantage` is 0
  std::vector<int32_t> trained;       ///< response token indices that the loss sees, ascending
  std::vector<double> behaviour;      ///< recorded log-probability of each trained token
  std::vector<int32_t> staleness;     ///< of each trained token: trainer version - span version, at least 1 where the weights are not the trainer's
  std::vector<uint8_t> same_forward;  ///< of each trained token: whether the trainer's forward must give the recorded log-probability bit for bit
  std::vector<int32_t> filtered;      ///< staleness of each token that --token-filter keeps from the loss: it counts in the denominators alone

  int64_t NumCounted() const { return static_cast<int64_t>(trained.size() + filtered.size()); }
};

/// One group that takes part. Its sequences share the prompt and the temperature.
struct BatchGroup {
  const ClaimGroup* claim_group = nullptr;
  std::vector<TrainingSequence> sequences;  ///< by index in the group
  double temperature = 1;
  bool zero_advantage = false;  ///< all rewards are equal
  bool skipped = false;         ///< no token has a gradient
  int64_t NumTokens() const;    ///< prompt once, all responses
};

struct Batch {
  std::vector<BatchGroup> groups;                          ///< by group id; a group that was excluded as a whole is not here
  std::vector<std::pair<uint64_t, std::string>> outcomes;  ///< of every rollout of the claim, by (group id, index): trained, skipped, excluded:REASON
  int64_t num_trained = 0, num_skipped = 0, num_excluded = 0;  ///< rollouts; add up to the claim's
};

/// Checks every rollout against the limits and the method, leaves out what has no usable reward, and computes advantages.
///   Excluded (their group's mean does not see them): failed rollouts; rewards with status error or timeout, or not finite; members of a group with
///   fewer than two others left. Skipped: members of groups where no token has a gradient, unless the method trains them all the same.
///   Throws Data naming the rollout, seen and expected: what must not be trained on and is nobody's choice.
/// The batch points into the claim.
Batch MakeBatch(const Claim& claim, const Method& method, const BatchLimits& limits);

/// Denominators of the aggregation over these groups, zero-advantage ones included.
ClaimTotals Totals(std::span<const BatchGroup> groups);

/// Which rank computes each group: the longest first, each to the rank with the fewest tokens so far. The same on every rank.
std::vector<int> AssignGroups(std::span<const BatchGroup> groups, int num_ranks);

/// Whole groups of one owner in order, as many as fit `budget_tokens` (at least one), all at one temperature; skipped groups are passed over.
/// Returns indices into `groups`, one list per micro-batch.
std::vector<std::vector<size_t>> MicroBatches(std::span<const BatchGroup> groups, int64_t budget_tokens, std::span<const int> owners, int owner);

}  // namespace april::grpo
