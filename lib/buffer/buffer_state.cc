#include "buffer/buffer_state.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"

namespace april::buffer {
namespace {

std::string Describe(const RolloutMeta& rollout) { return "rollout " + HexU64(rollout.uid) + " (" + std::string(Name(rollout.state)) + ")"; }

}  // namespace

std::vector<uint64_t> GroupMeta::ScoredUids() const {
  std::vector<uint64_t> uids;
  for (const RolloutMeta& member : members) {
    if (member.state == RolloutState::kScored) uids.push_back(member.uid);
  }
  return uids;
}

void State::Apply(const DecodedEntry& decoded, Position at) {
  if (!initialised_ && !std::holds_alternative<InitEntry>(decoded.entry)) throw Error::Data("the journal does not begin with an init entry");
  const Entry& applied = decoded.entry;
  const bool of_snapshot =
      std::holds_alternative<SnapshotEntry>(applied) || std::holds_alternative<GroupEntry>(applied) || std::holds_alternative<MemberEntry>(applied);
  if (!of_snapshot) CheckSnapshot();
  std::visit([&](const auto& entry) { On(entry, decoded, at); }, applied);
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

std::optional<uint64_t> State::FindGroup(uint64_t group_id) const {
  const auto found = admissions_.find(group_id);
  return found == admissions_.end() ? std::nullopt : std::optional(found->second);
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
  if (group.state == GroupState::kOpen) {
    --num_open_;
    if (to == GroupState::kDropped) num_stalled_ -= group.AllEnded();
  }
  if (group.state == GroupState::kReady) ready_.erase(group.ready_order);
  if (group.state == GroupState::kClaimed) --num_claimed_;
  if (to == GroupState::kClaimed) ++num_claimed_;
  if (to == GroupState::kReady) {
    // An abandoned claim's groups come first again.
    if (group.state == GroupState::kOpen) group.ready_order = next_ready_order_++;
    ready_[group.ready_order] = admission;
    unclaimed_.insert(admission);
  } else {
    unclaimed_.erase(admission);
  }
  group.state = to;
}

void State::Summarise(GroupMeta& group) {
  group.num_ended = group.num_scored = 0;
  group.has_versions = false;
  group.oldest = group.newest = 0;
  float lowest = 0, highest = 0;
  for (const RolloutMeta& member : group.members) {
    const bool scored = member.state == RolloutState::kScored;
    if (scored) {
      lowest = group.num_scored == 0 ? member.reward : std::min(lowest, member.reward);
      highest = group.num_scored == 0 ? member.reward : std::max(highest, member.reward);
    }
    group.num_ended += member.Ended();
    group.num_scored += scored;
    if (!member.has_versions || (member.Ended() && !scored)) continue;
    group.oldest = group.has_versions ? std::min(group.oldest, member.oldest) : member.oldest;
    group.newest = group.has_versions ? std::max(group.newest, member.newest) : member.newest;
    group.has_versions = true;
  }
  constexpr float kEqual = 1e-6f;
  group.equal_rewards = highest - lowest <= kEqual;
}

void State::NoteOverdue(uint64_t key) {
  if (!config_.max_resumes) return;
  const RolloutMeta& rollout = Mutable(key);
  const bool unfinished = rollout.state == RolloutState::kLeased || rollout.state == RolloutState::kPartial;
  if (unfinished && rollout.resumes >= *config_.max_resumes && groups_.at(AdmissionOf(key)).state == GroupState::kOpen) {
    overdue_.insert(key);
  } else {
    overdue_.erase(key);
  }
}

void State::Settle(uint64_t admission) {
  GroupMeta& group = groups_.at(admission);
  const bool was_stalled = group.state == GroupState::kOpen && group.AllEnded();
  Summarise(group);
  if (group.state != GroupState::kOpen) return;
  num_stalled_ += group.AllEnded() - was_stalled;
  if (group.AllEnded() && group.num_scored >= config_.min_members) {
    --num_stalled_;
    Move(admission, GroupState::kReady);
  }
}

void State::RequireLease(const RolloutMeta& rollout, const record::Lease& lease) const {
  if (!rollout.IsLeasedBy(lease)) throw Error::Data(Describe(rollout) + " is changed under a lease that is not current");
}

void State::On(const InitEntry& entry, const DecodedEntry&, Position) {
  if (initialised_) throw Error::Data("a second init entry");
  config_ = entry.config;
  filter_ = config_.filter;
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
  unclaimed_.insert(admission);
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
    if (groups_.at(AdmissionOf(key)).state != GroupState::kOpen) throw Error::Data(Describe(Mutable(key)) + " is leased, but its group is not open");
    Move(key, RolloutState::kLeased);
    RolloutMeta& rollout = Mutable(key);
    rollout.lease_id = entry.lease;
    if (++rollout.lease_epoch != epoch) throw Error::Data(Describe(rollout) + " is leased with epoch " + std::to_string(epoch) + " out of turn");
    rollout.changed_ns = decoded.ns;
    set.held.insert(key);
    NoteOverdue(key);
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
  NoteOverdue(key);
  Settle(AdmissionOf(key));
}

void State::On(const ProgressEntry& entry, const DecodedEntry& decoded, Position at) {
  const uint64_t key = KeyOf(entry.uid);
  RolloutMeta& rollout = Mutable(key);
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
  NoteOverdue(key);
  Summarise(groups_.at(AdmissionOf(key)));
}

void State::On(const ReleaseEntry& entry, const DecodedEntry& decoded, Position) {
  for (const uint64_t uid : entry.rollouts) {
    const uint64_t key = KeyOf(uid);
    RolloutMeta& rollout = Mutable(key);
    if (rollout.state != RolloutState::kLeased || rollout.lease_id != entry.lease)
      throw Error::Data(Describe(rollout) + " is released by a lease that does not hold it");
    Move(key, rollout.tokens > 0 ? RolloutState::kPartial : RolloutState::kQueued);
    rollout.changed_ns = decoded.ns;
    NoteOverdue(key);
  }
}

void State::On(const SupersededEntry& entry, const DecodedEntry&, Position) {
  ++totals_.superseded;
  totals_.superseded_tokens += entry.tokens;
}

}  // namespace april::buffer
