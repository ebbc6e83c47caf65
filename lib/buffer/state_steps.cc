// What claims, commits and what undoes them do to a state, and how groups leave it.
#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "buffer/buffer_state.h"

namespace april::buffer {
namespace {

/// Why a claim does not name this member of one of its groups.
std::string ReasonOf(const RolloutMeta& member) { return member.state == RolloutState::kFailed ? "failed" : "ungraded"; }

}  // namespace

void State::On(const ClaimEntry& entry, const DecodedEntry&, Position) {
  if (entry.step != next_step())
    throw Error::Data("claim " + entry.claim + " is of step " + std::to_string(entry.step) + ", expected " + std::to_string(next_step()));
  ClaimMeta claim{entry.claim, entry.step, entry.parent, entry.version, {}, GroupState::kClaimed, 0, 0, std::nullopt, 0};
  for (const auto& [group_id, uids] : entry.groups) {
    const auto admission = admissions_.find(group_id);
    if (admission == admissions_.end()) throw Error::Data("claim " + entry.claim + " names group " + HexU64(group_id) + ", which is not there");
    if (groups_.at(admission->second).ScoredUids() != uids)
      throw Error::Data("claim " + entry.claim + " does not name the scored members of group " + HexU64(group_id));
    Move(admission->second, GroupState::kClaimed);
    claim.groups.push_back(admission->second);
    claim.rollouts += static_cast<int64_t>(uids.size());
  }
  claims_.push_back(std::move(claim));
}

void State::On(const CommitEntry& entry, const DecodedEntry&, Position) {
  const ClaimMeta* found = FindClaim(entry.claim);
  if (!found || found->step != entry.step)
    throw Error::Data("a commit names claim " + entry.claim + " of step " + std::to_string(entry.step) + ", which is not there");
  ClaimMeta& claim = claims_[static_cast<size_t>(entry.step - first_kept_step_)];
  if (claim.state == GroupState::kClaimed) {
    if (claim.step != first_uncommitted_step()) throw Error::Data("claim " + entry.claim + " is committed before the one before it");
    for (const uint64_t admission : claim.groups) Move(admission, GroupState::kTrained);
    claim.state = GroupState::kTrained;
    claim.trained_version = entry.version;
    claim.trained_weights = entry.weights;
    policy_version_ = entry.version;
    if (*policy_version_ >= left_version_) left_version_ = 0;
    Train(claim);
  } else if (claim.trained_version != entry.version || claim.trained_weights != entry.weights) {
    throw Error::Data("claim " + entry.claim + " is committed again with other weights");
  }
  if (entry.checkpoint) Consume(entry.step, entry.checkpoint);
}

void State::Train(const ClaimMeta& claim) {
  for (const uint64_t admission : claim.groups) {
    ++totals_.trained_groups;
    for (const RolloutMeta& member : groups_.at(admission).members) {
      if (member.state != RolloutState::kScored) {
        totals_.dropped[ReasonOf(member)].Add(member.tokens);
        continue;
      }
      ++totals_.trained_rollouts;
      totals_.trained_tokens += member.tokens;
      totals_.trained_reward += member.reward;
      totals_.trained_lengths.Add(member.tokens);
      if (member.has_versions) ++totals_.trained_staleness[static_cast<int64_t>(claim.version.value_or(0)) - member.oldest];
    }
  }
}

void State::Untrain(const ClaimMeta& claim) {
  for (const uint64_t admission : claim.groups) {
    --totals_.trained_groups;
    for (const RolloutMeta& member : groups_.at(admission).members) {
      if (member.state != RolloutState::kScored) {
        Account& dropped = totals_.dropped[ReasonOf(member)];
        dropped = {dropped.rollouts - 1, dropped.tokens - member.tokens};
        continue;
      }
      --totals_.trained_rollouts;
      totals_.trained_tokens -= member.tokens;
      totals_.trained_reward -= member.reward;
      totals_.trained_lengths.Remove(member.tokens);
      if (!member.has_versions) continue;
      const auto count = totals_.trained_staleness.find(static_cast<int64_t>(claim.version.value_or(0)) - member.oldest);
      if (count == totals_.trained_staleness.end()) throw Error::Data("claim " + claim.id + " is undone, but the sums do not count its tokens");
      if (--count->second == 0) totals_.trained_staleness.erase(count);
    }
  }
}

void State::Consume(int64_t through_step, const std::optional<std::string>& checkpoint) {
  for (ClaimMeta& claim : claims_) {
    if (claim.step > through_step || claim.state != GroupState::kTrained) continue;
    claim.state = GroupState::kConsumed;
    claim.checkpoint = checkpoint;
    for (const uint64_t admission : claim.groups) Move(admission, GroupState::kConsumed);
  }
  Forget();
}

void State::Forget() {
  const int64_t keep_from = first_unconsumed_step() - config_.retain_steps;
  while (!claims_.empty() && claims_.front().step < keep_from && claims_.front().state == GroupState::kConsumed) {
    for (const uint64_t admission : claims_.front().groups) ForgetGroup(admission);
    claims_.pop_front();
    ++first_kept_step_;
  }
  std::erase_if(dropped_, [&](const auto& item) {
    if (item.second.step >= keep_from) return false;
    ForgetGroup(item.first);
    return true;
  });
}

void State::ForgetGroup(uint64_t admission) {
  const auto group = groups_.find(admission);
  if (group == groups_.end()) throw Error::Data("a claim names a group that is not there");
  for (const RolloutMeta& member : group->second.members) keys_.erase(member.uid);
  admissions_.erase(group->second.group_id);
  groups_.erase(group);
  ++totals_.forgotten_groups;
}

void State::On(const AbandonEntry& entry, const DecodedEntry&, Position) {
  if (claims_.empty() || claims_.back().id != entry.claim || claims_.back().state != GroupState::kClaimed) {
    throw Error::Data("claim " + entry.claim + " is abandoned, but is not the newest uncommitted one");
  }
  for (const uint64_t admission : claims_.back().groups) Move(admission, GroupState::kReady);
  claims_.pop_back();
  abandoned_.insert(entry.claim);
}

void State::On(const RewindEntry& entry, const DecodedEntry&, Position) {
  if (entry.to_step < first_kept_step_ || entry.to_step > first_uncommitted_step()) {
    throw Error::Data("a rewind to step " + std::to_string(entry.to_step) + ", but the steps that are kept and committed are " +
                      std::to_string(first_kept_step_) + " to " + std::to_string(first_uncommitted_step()));
  }
  // What the course that is left may have published: a version for every commit, and for claims whose commit did not arrive.
  left_version_ = std::max(left_version_, policy_version_.value_or(0) + static_cast<uint64_t>(next_step() - first_uncommitted_step()));
  const auto first = claims_.begin() + static_cast<std::ptrdiff_t>(entry.to_step - first_kept_step_);
  int64_t order = ready_.empty() ? 0 : std::min<int64_t>(0, ready_.begin()->first);
  for (auto claim = first; claim != claims_.end(); ++claim) order -= static_cast<int64_t>(claim->groups.size());
  for (auto claim = first; claim != claims_.end(); ++claim) {
    if (claim->state != GroupState::kClaimed) Untrain(*claim);
    abandoned_.insert(claim->id);
    for (const uint64_t admission : claim->groups) {
      groups_.at(admission).ready_order = order++;
      Move(admission, GroupState::kReady);
    }
  }
  claims_.erase(first, claims_.end());
  policy_version_ = entry.version;
  for (const uint64_t admission : unclaimed_) left_version_ = std::max<uint64_t>(left_version_, groups_.at(admission).newest);
  if (entry.version >= left_version_) left_version_ = 0;
}

void State::On(const DropEntry& entry, const DecodedEntry& decoded, Position) {
  for (const uint64_t group_id : entry.groups) {
    const auto admission = FindGroup(group_id);
    if (!admission) throw Error::Data("group " + HexU64(group_id) + " is dropped, which is not there");
    Move(*admission, GroupState::kDropped);
    dropped_[*admission] = {next_step(), entry.why};
    ++totals_.dropped_groups[entry.why];
    const std::vector<RolloutMeta>& members = groups_.at(*admission).members;
    for (size_t i = 0; i < members.size(); ++i) {
      const uint64_t key = MakeKey(*admission, i);
      RolloutMeta& member = Mutable(key);
      if (member.state == RolloutState::kLeased) {
        Move(key, member.tokens > 0 ? RolloutState::kPartial : RolloutState::kQueued);
        member.changed_ns = decoded.ns;
      }
      partial_.erase(key), queued_.erase(key), overdue_.erase(key);
      totals_.dropped[entry.why].Add(member.tokens);
    }
  }
}

void State::On(const PolicyEntry& entry, const DecodedEntry&, Position) { filter_ = entry.filter; }

}  // namespace april::buffer
