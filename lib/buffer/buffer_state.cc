#include "buffer/buffer_state.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"

namespace april::buffer {
namespace {

std::string Describe(const RolloutMeta& rollout) { return "rollout " + HexU64(rollout.uid) + " (" + std::string(Name(rollout.state)) + ")"; }

}  // namespace

void State::Apply(const DecodedEntry& decoded, Position at) {
  if (!initialised_ && !std::holds_alternative<InitEntry>(decoded.entry)) throw Error::Data("the journal does not begin with an init entry");
  std::visit([&](const auto& entry) { On(entry, decoded, at); }, decoded.entry);
}

std::optional<uint64_t> State::FindRollout(uint64_t uid) const {
  const auto found = keys_.find(uid);
  return found == keys_.end() ? std::nullopt : std::optional(found->second);
}

uint64_t State::KeyOf(uint64_t uid) const {
  const auto key = FindRollout(uid);
  if (!key) throw Error::Data("an entry names rollout " + HexU64(uid) + ", which is not there");
  return *key;
}

int64_t State::num_groups(GroupState state) const {
  return std::count_if(groups_.begin(), groups_.end(), [state](const auto& item) { return item.second.state == state; });
}

int64_t State::first_uncommitted_step() const {
  for (const ClaimMeta& claim : claims_) {
    if (claim.state == GroupState::kClaimed) return claim.step;
  }
  return next_step();
}

int64_t State::first_unconsumed_step() const {
  for (const ClaimMeta& claim : claims_) {
    if (claim.state != GroupState::kConsumed) return claim.step;
  }
  return next_step();
}

const ClaimMeta* State::FindClaim(int64_t step) const {
  if (step < first_kept_step_ || step >= next_step()) return nullptr;
  return &claims_[static_cast<size_t>(step - first_kept_step_)];
}

const ClaimMeta* State::FindClaim(const std::string& id) const {
  const auto found = std::find_if(claims_.rbegin(), claims_.rend(), [&](const ClaimMeta& claim) { return claim.id == id; });
  return found == claims_.rend() ? nullptr : &*found;
}

void State::Move(uint64_t key, RolloutState to) {
  RolloutMeta& rollout = Mutable(key);
  if (!MayBecome(rollout.state, to)) throw Error::Data(Describe(rollout) + " may not become " + std::string(Name(to)));
  if (rollout.state == RolloutState::kQueued) queued_.erase(key);
  if (rollout.state == RolloutState::kPartial) partial_.erase(key);
  if (rollout.state == RolloutState::kLeased) {
    --num_leased_;
    const auto set = leases_.find(rollout.lease_id);
    set->second.held.erase(key);
    // A hub's set stays: a repeated request must be answered as before.
    if (set->second.held.empty() && !set->second.hub) leases_.erase(set);
    rollout.lease_id = 0;
  }
  if (to == RolloutState::kQueued) queued_.insert(key);
  if (to == RolloutState::kPartial) partial_.insert(key);
  if (to == RolloutState::kLeased) ++num_leased_;
  rollout.state = to;
}

void State::Move(uint64_t admission, GroupState to) {
  GroupMeta& group = groups_.at(admission);
  if (!MayBecome(group.state, to)) {
    throw Error::Data("group " + HexU64(group.group_id) + " (" + std::string(Name(group.state)) + ") may not become " + std::string(Name(to)));
  }
  if (group.state == GroupState::kOpen) --num_open_;
  if (group.state == GroupState::kReady) ready_.erase(group.ready_order);
  if (group.state == GroupState::kClaimed) --num_claimed_;
  if (to == GroupState::kClaimed) ++num_claimed_;
  if (to == GroupState::kReady) {
    // An abandoned claim's groups come first again.
    if (group.state == GroupState::kOpen) group.ready_order = next_ready_order_++;
    ready_[group.ready_order] = admission;
  }
  group.state = to;
}

void State::Settle(uint64_t admission) {
  GroupMeta& group = groups_.at(admission);
  const bool was_stalled = group.state == GroupState::kOpen && group.AllEnded();
  group.num_ended = group.num_scored = 0;
  for (const RolloutMeta& member : group.members) {
    group.num_ended += member.Ended();
    group.num_scored += member.state == RolloutState::kScored;
  }
  if (group.state != GroupState::kOpen) return;
  num_stalled_ += group.AllEnded() - was_stalled;
  if (group.AllEnded() && group.num_scored >= config_.min_members) {
    --num_stalled_;
    Move(admission, GroupState::kReady);
  }
}

void State::RequireLease(const RolloutMeta& rollout, const record::Lease& lease) const {
  if (rollout.state != RolloutState::kLeased || rollout.lease_id != lease.id || rollout.lease_epoch != lease.epoch) {
    throw Error::Data(Describe(rollout) + " is changed under a lease that is not current");
  }
}

void State::On(const InitEntry& entry, const DecodedEntry&, Position) {
  if (initialised_) throw Error::Data("a second init entry");
  config_ = entry.config;
  initialised_ = true;
}

void State::On(const PromptEntry& entry, const DecodedEntry&, Position at) {
  queue_.AddPrompt(entry.add, entry.id, {at, static_cast<int32_t>(entry.tokens)});
}

void State::On(const PlanEntry& entry, const DecodedEntry&, Position) { queue_.AddPlan(entry.add, entry.prompts, entry.epochs, entry.shuffle); }

void State::Open(const OpenedGroup& opened, const LeaseEntry& entry, int64_t ns) {
  if (groups_admitted_ >= queue_.num_groups()) throw Error::Data("a group is opened, but the queue is empty");
  const PromptQueue::Group expected = queue_.At(groups_admitted_);
  if (expected.prompt != opened.prompt || expected.epoch != opened.epoch || static_cast<int64_t>(opened.uids.size()) != config_.group_size) {
    throw Error::Data("group " + HexU64(opened.group_id) + " is not the next one of the queue");
  }
  const auto admission = static_cast<uint64_t>(groups_admitted_++);
  GroupMeta& group = groups_[admission];
  group.group_id = opened.group_id;
  group.prompt = opened.prompt;
  group.epoch = opened.epoch;
  group.admitted_step = entry.step;
  group.opened_ns = ns;
  group.members.resize(opened.uids.size());
  admissions_[opened.group_id] = admission;
  for (size_t i = 0; i < opened.uids.size(); ++i) {
    group.members[i].uid = opened.uids[i];
    group.members[i].changed_ns = ns;
    const uint64_t key = MakeKey(admission, i);
    if (!keys_.emplace(opened.uids[i], key).second) throw Error::Data("rollout " + HexU64(opened.uids[i]) + " is opened twice");
    queued_.insert(key);
  }
  ++num_open_;
}

void State::On(const LeaseEntry& entry, const DecodedEntry& decoded, Position) {
  for (const OpenedGroup& group : entry.groups) Open(group, entry, decoded.ns);
  LeaseSet& set = leases_[entry.lease];
  if (set.since_ns == 0) set.since_ns = decoded.ns;
  set.worker = entry.worker;
  set.hub = entry.hub;
  set.last_request = entry.request;
  set.last_uids.clear();
  for (const auto& [uid, epoch] : entry.rollouts) {
    const uint64_t key = KeyOf(uid);
    Move(key, RolloutState::kLeased);
    RolloutMeta& rollout = Mutable(key);
    rollout.lease_id = entry.lease;
    if (++rollout.lease_epoch != epoch) throw Error::Data(Describe(rollout) + " is leased with epoch " + std::to_string(epoch) + " out of turn");
    rollout.changed_ns = decoded.ns;
    set.held.insert(key);
    set.last_uids.push_back(uid);
  }
}

void State::On(const RolloutEntry& entry, const DecodedEntry& decoded, Position at) {
  const uint64_t key = KeyOf(entry.uid);
  RolloutMeta& rollout = Mutable(key);
  const GroupState group_state = groups_.at(AdmissionOf(key)).state;
  if (group_state != GroupState::kOpen && group_state != GroupState::kReady)
    throw Error::Data(Describe(rollout) + " is changed, but its group was claimed");
  const bool finished = rollout.state == RolloutState::kLeased;
  if (finished) {
    if (!entry.lease) throw Error::Data(Describe(rollout) + " is changed without a lease");
    RequireLease(rollout, *entry.lease);
    if (entry.state == RolloutState::kScored) Move(key, RolloutState::kComplete);
  } else if (entry.state != RolloutState::kScored) {
    throw Error::Data(Describe(rollout) + " may not become " + std::string(Name(entry.state)) + " without a lease");
  }
  Move(key, entry.state);
  totals_.journaled_tokens += entry.tokens - rollout.tokens;
  rollout.payload = at;
  rollout.deltas = {};
  rollout.chain = entry.chain;
  rollout.record_digest = Digest(decoded.payload);
  rollout.changed_ns = decoded.ns;
  rollout.tokens = static_cast<int32_t>(entry.tokens);
  rollout.resumes = static_cast<int32_t>(entry.resumes);
  rollout.finish = entry.finish;
  rollout.has_reward = entry.reward_status == "ok";
  rollout.ungraded = !entry.reward_status.empty() && entry.reward_status != "ok";
  rollout.reward = static_cast<float>(entry.reward.value_or(0));
  rollout.has_versions = entry.oldest.has_value();
  rollout.oldest = static_cast<uint32_t>(entry.oldest.value_or(0));
  rollout.newest = static_cast<uint32_t>(entry.newest.value_or(0));
  if (finished && entry.state != RolloutState::kQueued && entry.state != RolloutState::kPartial) {
    ++totals_.finished;
    totals_.resumes += rollout.resumes;
    totals_.sampled_lengths.Add(rollout.tokens);
  }
  Settle(AdmissionOf(key));
}

void State::On(const ProgressEntry& entry, const DecodedEntry& decoded, Position at) {
  RolloutMeta& rollout = Mutable(KeyOf(entry.uid));
  RequireLease(rollout, entry.lease);
  if (entry.tokens < rollout.tokens) throw Error::Data(Describe(rollout) + ": progress that does not continue it");
  totals_.journaled_tokens += entry.tokens - rollout.tokens;
  rollout.deltas.push_back(at);
  rollout.chain = entry.chain;
  rollout.record_digest = Digest(decoded.payload);
  rollout.changed_ns = decoded.ns;
  rollout.tokens = static_cast<int32_t>(entry.tokens);
  rollout.has_versions = entry.oldest.has_value();
  rollout.oldest = static_cast<uint32_t>(entry.oldest.value_or(0));
  rollout.newest = static_cast<uint32_t>(entry.newest.value_or(0));
}

void State::On(const ReleaseEntry& entry, const DecodedEntry& decoded, Position) {
  for (const uint64_t uid : entry.rollouts) {
    const uint64_t key = KeyOf(uid);
    RolloutMeta& rollout = Mutable(key);
    if (rollout.state != RolloutState::kLeased || rollout.lease_id != entry.lease)
      throw Error::Data(Describe(rollout) + " is released by a lease that does not hold it");
    Move(key, rollout.tokens > 0 ? RolloutState::kPartial : RolloutState::kQueued);
    rollout.changed_ns = decoded.ns;
  }
}

void State::On(const SupersededEntry& entry, const DecodedEntry&, Position) {
  ++totals_.superseded;
  totals_.superseded_tokens += entry.tokens;
}

void State::On(const ClaimEntry& entry, const DecodedEntry&, Position) {
  if (entry.step != next_step())
    throw Error::Data("claim " + entry.claim + " is of step " + std::to_string(entry.step) + ", expected " + std::to_string(next_step()));
  ClaimMeta claim{entry.claim, entry.step, entry.parent, entry.version, {}, GroupState::kClaimed, 0, 0, std::nullopt, 0};
  for (const auto& [group_id, uids] : entry.groups) {
    const auto admission = admissions_.find(group_id);
    if (admission == admissions_.end()) throw Error::Data("claim " + entry.claim + " names group " + HexU64(group_id) + ", which is not there");
    std::vector<uint64_t> scored;
    for (const RolloutMeta& member : groups_.at(admission->second).members) {
      if (member.state == RolloutState::kScored) scored.push_back(member.uid);
    }
    if (scored != uids) throw Error::Data("claim " + entry.claim + " does not name the scored members of group " + HexU64(group_id));
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
        totals_.dropped[member.state == RolloutState::kFailed ? "failed" : "ungraded"].Add(member.tokens);
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
    for (const uint64_t admission : claims_.front().groups) {
      const auto group = groups_.find(admission);
      for (const RolloutMeta& member : group->second.members) keys_.erase(member.uid);
      admissions_.erase(group->second.group_id);
      groups_.erase(group);
      ++totals_.forgotten_groups;
    }
    claims_.pop_front();
    ++first_kept_step_;
  }
}

void State::On(const AbandonEntry& entry, const DecodedEntry&, Position) {
  if (claims_.empty() || claims_.back().id != entry.claim || claims_.back().state != GroupState::kClaimed) {
    throw Error::Data("claim " + entry.claim + " is abandoned, but is not the newest uncommitted one");
  }
  for (const uint64_t admission : claims_.back().groups) Move(admission, GroupState::kReady);
  claims_.pop_back();
  abandoned_.insert(entry.claim);
}

}  // namespace april::buffer
