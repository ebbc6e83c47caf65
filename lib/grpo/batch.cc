#include "grpo/batch.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "grpo/number_text.h"

namespace april::grpo {
namespace {

[[noreturn]] void Reject(const record::Rollout& rollout, const std::string& why, const std::string& hint = {}) {
  const std::string way_out = "`partial-buffer show -s DIR " + HexU64(rollout.uid) +
                              "` shows it; `partial-buffer abandon -s DIR CLAIM`, then `partial-buffer drop -s DIR --reason TEXT " +
                              HexU64(rollout.group_id) + "` leaves its group out";
  throw Error::Data("rollout " + HexU64(rollout.uid) + " (prompt " + rollout.prompt_id + ", index " + std::to_string(rollout.index) + "): " + why,
                    hint.empty() ? way_out : hint);
}

void CheckRollout(const record::Rollout& rollout, const ClaimGroup& group, const BatchLimits& limits, const Method& method) {
  if (rollout.status != record::Status::kComplete) Reject(rollout, "is not complete, and cannot be trained on");
  if (rollout.tokens.empty()) Reject(rollout, "has no response tokens");
  if (rollout.logprobs.size() != rollout.tokens.size()) {
    Reject(rollout, std::to_string(rollout.logprobs.size()) + " log-probabilities for " + std::to_string(rollout.tokens.size()) + " response tokens",
           "every generated token needs the log-probability that it was sampled with; generate the rollout again");
  }
  if (rollout.prompt_tokens.empty()) Reject(rollout, "has no prompt tokens");
  if (rollout.prompt_tokens != group.rollouts.front().prompt_tokens) Reject(rollout, "its prompt is not the one of its group");
  const auto length = static_cast<int64_t>(rollout.prompt_tokens.size() + rollout.tokens.size());
  if (length > limits.max_positions) {
    Reject(rollout, std::to_string(length) + " tokens, and the model has " + std::to_string(limits.max_positions) + " positions");
  }
  for (const auto* tokens : {&rollout.prompt_tokens, &rollout.tokens}) {
    for (const uint32_t token : *tokens) {
      if (token >= static_cast<uint64_t>(limits.vocab)) {
        Reject(rollout, "token " + std::to_string(token) + " is outside the model's vocabulary of " + std::to_string(limits.vocab));
      }
    }
  }
  for (const record::Segment& segment : rollout.segments) {
    if (segment.kind != "generated") continue;
    if (segment.temperature <= 0) Reject(rollout, "was sampled at temperature " + NumberText(segment.temperature) + ", which is for evaluation only");
    const bool truncated = segment.top_k > 0 || segment.top_p < 1 || segment.min_p > 0;
    if (truncated && !method.accept_truncated_sampling) {
      Reject(rollout,
             "was sampled with top_k " + std::to_string(segment.top_k) + ", top_p " + NumberText(segment.top_p) + ", min_p " +
                 NumberText(segment.min_p) + ": its tokens come from another distribution than the trained one",
             "generate without truncation, or accept the difference with --truncated-sampling ignore");
    }
  }
}

double Temperature(const record::Rollout& rollout) {
  std::optional<double> temperature;
  for (const record::Segment& segment : rollout.segments) {
    if (segment.kind != "generated") continue;
    if (temperature && *temperature != segment.temperature) Reject(rollout, "its segments were sampled at different temperatures");
    temperature = segment.temperature;
  }
  return temperature.value_or(rollout.sampling.temperature);
}

/// Why the rollout's reward cannot be used; "" when it can.
std::string UnusableReward(const record::Rollout& rollout) {
  if (rollout.status == record::Status::kFailed || rollout.finish == record::Finish::kError) return "failed";
  if (!rollout.reward) return "no-reward";
  if (rollout.reward->status != "ok") return "reward-" + rollout.reward->status;
  return std::isfinite(rollout.reward->value) ? "" : "reward-not-finite";
}

bool Masked(const record::Rollout& rollout, const std::optional<record::PerTokenArray>& mask, size_t index) {
  if (!mask) return false;
  const auto offset = static_cast<int64_t>(index) - mask->start;
  if (offset < 0 || offset >= static_cast<int64_t>(mask->data.size())) Reject(rollout, "its loss_mask does not cover token " + std::to_string(index));
  return mask->data[static_cast<size_t>(offset)] == 0;
}

/// Generated tokens whose loss_mask (1 where there is none) is not 0, less those that the method filters out.
void FindTrainedTokens(const record::Rollout& rollout, const Method& method, const BatchLimits& limits, TrainingSequence* sequence) {
  std::optional<record::PerTokenArray> mask;
  if (const auto found = rollout.per_token.find("loss_mask"); found != rollout.per_token.end()) {
    mask = found->second;
    if (mask->dtype != "u8") Reject(rollout, "its loss_mask has dtype " + mask->dtype + ", expected u8");
  }
  std::vector<uint8_t> comparable(rollout.tokens.size(), 0);
  for (const record::Segment& segment : rollout.segments) {
    if (segment.kernels != limits.kernels || segment.engine != "local" || segment.kv == "kept") continue;
    for (int64_t i = segment.start; i < segment.start + segment.len; ++i) comparable[static_cast<size_t>(i)] = 1;
  }
  for (const record::WeightSpan& span : rollout.weight_versions) {
    if (span.version > limits.trainer_version) {
      Reject(rollout,
             "was sampled under policy version " + std::to_string(span.version) + ", and the trainer is at " + std::to_string(limits.trainer_version),
             "the newest whole checkpoint is older than the buffer expects: take the buffer back: partial-buffer rewind -s DIR --to "
             "CHECKPOINTS/step-… names that checkpoint");
    }
    for (int64_t i = span.start; i < span.end; ++i) {
      const auto token = static_cast<size_t>(i);
      if (Masked(rollout, mask, token)) continue;
      const bool same_weights = span.version == limits.trainer_version && span.weights == limits.trainer_weights;
      // The same number with other weights: of a course that a rewind left.
      const auto staleness = static_cast<int32_t>(std::max<uint64_t>(limits.trainer_version - span.version, same_weights ? 0 : 1));
      if (!method.token_filter->keeps(staleness)) {
        sequence->filtered.push_back(staleness);
        continue;
      }
      sequence->trained.push_back(static_cast<int32_t>(i));
      sequence->behaviour.push_back(static_cast<double>(rollout.logprobs[token]));
      sequence->staleness.push_back(staleness);
      sequence->same_forward.push_back(comparable[token] != 0 && same_weights);
    }
  }
}

/// The group's members that take part; the others' outcomes are set.
BatchGroup MakeGroup(const ClaimGroup& claim_group, const Method& method, const BatchLimits& limits, Batch* batch) {
  std::vector<const record::Rollout*> members;
  for (const record::Rollout& rollout : claim_group.rollouts) members.push_back(&rollout);
  std::stable_sort(members.begin(), members.end(),
                   [](const auto* a, const auto* b) { return std::pair(a->index, a->attempt) < std::pair(b->index, b->attempt); });

  BatchGroup group;
  group.claim_group = &claim_group;
  const size_t first_outcome = batch->outcomes.size();
  for (const record::Rollout* rollout : members) {
    const std::string unusable = UnusableReward(*rollout);
    batch->outcomes.emplace_back(rollout->uid, unusable.empty() ? "trained" : "excluded:" + unusable);
    if (!unusable.empty()) continue;
    CheckRollout(*rollout, claim_group, limits, method);
    TrainingSequence sequence;
    sequence.rollout = rollout;
    FindTrainedTokens(*rollout, method, limits, &sequence);
    const double temperature = Temperature(*rollout);
    if (!group.sequences.empty() && temperature != group.temperature) Reject(*rollout, "was sampled at another temperature than its group");
    group.temperature = temperature;
    group.sequences.push_back(std::move(sequence));
  }
  if (group.sequences.size() < 2) {
    for (size_t i = first_outcome; i < batch->outcomes.size(); ++i) {
      if (batch->outcomes[i].second == "trained") batch->outcomes[i].second = "excluded:group-too-small";
    }
    group.sequences.clear();
  }
  return group;
}

/// Advantages of all groups; those that get no gradient are skipped.
void SetAdvantages(const Method& method, Batch* batch) {
  std::vector<std::vector<double>> rewards;
  for (const BatchGroup& group : batch->groups) {
    rewards.emplace_back();
    for (const TrainingSequence& sequence : group.sequences) rewards.back().push_back(sequence.rollout->reward->value);
  }
  const auto advantages = Advantages(*method.advantage, *method.spread, rewards);
  for (size_t g = 0; g < advantages.size(); ++g) {
    BatchGroup& group = batch->groups[g];
    group.zero_advantage = group.skipped = true;
    for (size_t i = 0; i < advantages[g].size(); ++i) {
      TrainingSequence& sequence = group.sequences[i];
      group.zero_advantage &= advantages[g][i] == 0;
      sequence.policy_masked = method.mask_truncated && sequence.rollout->finish == record::Finish::kLength;
      sequence.advantage = sequence.policy_masked ? 0 : advantages[g][i];
      if (!sequence.trained.empty() && (sequence.advantage != 0 || method.HasOtherTerms())) group.skipped = false;
    }
    group.skipped &= method.skip_zero_advantage;
  }
}

/// Outcomes are in the order of the groups and, within one, of its members.
void RelabelSkipped(Batch* batch) {
  auto outcome = batch->outcomes.begin();
  for (const BatchGroup& group : batch->groups) {
    for (const TrainingSequence& sequence : group.sequences) {
      while (outcome->first != sequence.rollout->uid) ++outcome;
      if (group.skipped) outcome->second = "skipped";
    }
  }
}

/// Two members divided by their own spread are always the same distance apart, which a user should know.
void WarnOfPairs(const Claim& claim, const Method& method) {
  if (method.spread_was_chosen || method.spread->over_claim || method.spread == &FindRule(SpreadRules(), "adv-std", "none")) return;
  const bool has_pairs = std::any_of(claim.groups.begin(), claim.groups.end(), [](const ClaimGroup& group) { return group.group.expected == 2; });
  if (!has_pairs) return;
  log::WarnOnce("grpo.pairs",
                "the groups have 2 members: divided by their own spread their advantages are +-0.71, however far the rewards are apart "
                "(choose: --adv-std unbiased, population for +-1, none or batch for advantages that grow with the distance)");
}

}  // namespace

int64_t BatchGroup::NumTokens() const {
  auto count = static_cast<int64_t>(claim_group->rollouts.front().prompt_tokens.size());
  for (const TrainingSequence& sequence : sequences) count += static_cast<int64_t>(sequence.rollout->tokens.size());
  return count;
}

Batch MakeBatch(const Claim& claim, const Method& method, const BatchLimits& limits) {
  std::vector<const ClaimGroup*> claim_groups;
  for (const ClaimGroup& group : claim.groups) claim_groups.push_back(&group);
  std::stable_sort(claim_groups.begin(), claim_groups.end(), [](const auto* a, const auto* b) { return a->group.group_id < b->group.group_id; });
  WarnOfPairs(claim, method);
  Batch batch;
  for (const ClaimGroup* claim_group : claim_groups) {
    BatchGroup group = MakeGroup(*claim_group, method, limits, &batch);
    if (!group.sequences.empty()) batch.groups.push_back(std::move(group));
  }
  SetAdvantages(method, &batch);
  RelabelSkipped(&batch);
  for (const auto& [uid, outcome] : batch.outcomes)
    ++(outcome == "trained" ? batch.num_trained : outcome == "skipped" ? batch.num_skipped : batch.num_excluded);
  return batch;
}

ClaimTotals Totals(std::span<const BatchGroup> groups) {
  ClaimTotals totals;
  for (const BatchGroup& group : groups) {
    totals.num_sequences += static_cast<int64_t>(group.sequences.size());
    for (const TrainingSequence& sequence : group.sequences) {
      totals.num_tokens += sequence.NumCounted();
      totals.budget_tokens = std::max(totals.budget_tokens, sequence.rollout->max_tokens);
    }
  }
  return totals;
}

std::vector<int> AssignGroups(std::span<const BatchGroup> groups, int num_ranks) {
  std::vector<int> owners(groups.size(), 0);
  if (num_ranks == 1) return owners;
  std::vector<int64_t> costs;
  std::vector<size_t> order;
  for (size_t i = 0; i < groups.size(); ++i) {
    costs.push_back(groups[i].skipped ? 0 : groups[i].NumTokens());
    order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return costs[a] > costs[b]; });
  std::vector<int64_t> loads(static_cast<size_t>(num_ranks), 0);
  for (const size_t index : order) {
    const auto least = std::min_element(loads.begin(), loads.end());  // of equal ones the first
    owners[index] = static_cast<int>(least - loads.begin());
    *least += costs[index];
  }
  return owners;
}

std::vector<std::vector<size_t>> MicroBatches(std::span<const BatchGroup> groups, int64_t budget_tokens, std::span<const int> owners, int owner) {
  std::vector<std::vector<size_t>> result;
  int64_t num_tokens = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (owners[i] != owner || groups[i].skipped) continue;
    const bool joins =
        !result.empty() && num_tokens + groups[i].NumTokens() <= budget_tokens && groups[result.back().front()].temperature == groups[i].temperature;
    if (!joins) {
      result.emplace_back();
      num_tokens = 0;
    }
    result.back().push_back(i);
    num_tokens += groups[i].NumTokens();
  }
  return result;
}

}  // namespace april::grpo
