// A state as entries, and back: what a compacted journal begins with.
#include <algorithm>
#include <set>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "buffer/buffer_state.h"

namespace april::buffer {

SnapshotEntry State::Snapshot() const {
  SnapshotEntry entry{groups_admitted_, next_ready_order_, first_kept_step_, policy_version_, {}, {}, {}, totals_, {}, left_version_};
  if (filter_ != config_.filter) entry.filter = filter_;
  entry.abandoned.assign(abandoned_.begin(), abandoned_.end());
  std::sort(entry.abandoned.begin(), entry.abandoned.end());
  entry.claims.assign(claims_.begin(), claims_.end());
  for (const auto& [id, set] : leases_) entry.leases.push_back({id, set.worker, set.hub, set.since_ns, set.last_request, set.last_uids});
  std::sort(entry.leases.begin(), entry.leases.end(), [](const HeldLease& a, const HeldLease& b) { return a.lease < b.lease; });
  return entry;
}

GroupEntry State::SnapshotOf(uint64_t admission) const {
  const GroupMeta& group = groups_.at(admission);
  GroupEntry entry{admission, group.group_id, group.prompt, group.epoch, group.admitted_step, group.opened_ns, group.ready_order, group.state, 0, ""};
  if (const auto dropped = dropped_.find(admission); dropped != dropped_.end()) {
    entry.dropped_step = dropped->second.step;
    entry.why = dropped->second.why;
  }
  return entry;
}

MemberEntry State::SnapshotOf(uint64_t admission, size_t index) const {
  const RolloutMeta& meta = groups_.at(admission).members[index];
  MemberEntry entry;
  entry.rollout.uid = meta.uid;
  entry.rollout.lease = record::Lease{meta.lease_id, meta.lease_epoch};
  entry.rollout.state = meta.state;
  entry.rollout.tokens = meta.tokens;
  entry.rollout.chain = meta.chain;
  entry.rollout.finish = meta.finish;
  if (meta.has_reward) entry.rollout.reward = meta.reward;
  entry.rollout.reward_status = meta.has_reward ? "ok" : meta.ungraded ? "error" : "";
  entry.rollout.resumes = meta.resumes;
  if (meta.has_versions) entry.rollout.oldest = meta.oldest, entry.rollout.newest = meta.newest;
  entry.digest = meta.record_digest;
  entry.changed_ns = meta.changed_ns;
  return entry;
}

void State::On(const SnapshotEntry& entry, const DecodedEntry&, Position) {
  if (groups_admitted_ != 0) throw Error::Data("a snapshot stands behind groups");
  if (entry.admitted < 0 || entry.admitted > queue_.num_groups())
    throw Error::Data("a snapshot of " + std::to_string(entry.admitted) + " groups, but the queue has " + std::to_string(queue_.num_groups()));
  int64_t step = entry.first_step;
  for (const ClaimMeta& claim : entry.claims) {
    if (claim.step != step)
      throw Error::Data("claim " + claim.id + " of a snapshot is of step " + std::to_string(claim.step) + ", expected " + std::to_string(step));
    ++step;
  }
  unchecked_ = true;
  groups_admitted_ = entry.admitted;
  next_ready_order_ = entry.next_ready;
  first_kept_step_ = entry.first_step;
  policy_version_ = entry.version;
  abandoned_.insert(entry.abandoned.begin(), entry.abandoned.end());
  claims_.assign(entry.claims.begin(), entry.claims.end());
  for (const HeldLease& held : entry.leases) leases_[held.lease] = {held.worker, held.hub, held.since_ns, held.last_request, held.last_uids, {}};
  totals_ = entry.totals;
  filter_ = entry.filter.value_or(config_.filter);
  left_version_ = entry.left_version;
}

void State::On(const GroupEntry& entry, const DecodedEntry&, Position) {
  if (static_cast<int64_t>(entry.admission) >= groups_admitted_ || (!groups_.empty() && groups_.rbegin()->first >= entry.admission))
    throw Error::Data("group " + HexU64(entry.group_id) + " of a snapshot is out of order");
  if (entry.prompt < 0 || entry.prompt >= queue_.num_prompts())
    throw Error::Data("group " + HexU64(entry.group_id) + " of a snapshot is of prompt " + std::to_string(entry.prompt) + ", which is not there");
  GroupMeta& group = groups_.emplace_hint(groups_.end(), entry.admission, GroupMeta())->second;
  group.group_id = entry.group_id;
  group.prompt = entry.prompt;
  group.epoch = entry.epoch;
  group.admitted_step = entry.step;
  group.opened_ns = entry.opened_ns;
  group.ready_order = entry.ready_order;
  group.state = entry.state;
  admissions_[entry.group_id] = entry.admission;
  if (group.state == GroupState::kOpen) ++num_open_;
  if (group.state == GroupState::kReady && !ready_.emplace(group.ready_order, entry.admission).second)
    throw Error::Data("group " + HexU64(entry.group_id) + " of a snapshot became ready at the same place as another");
  if (group.state == GroupState::kClaimed) ++num_claimed_;
  if (group.state == GroupState::kOpen || group.state == GroupState::kReady) unclaimed_.insert(unclaimed_.end(), entry.admission);
  if (group.state == GroupState::kDropped) dropped_[entry.admission] = {entry.dropped_step, entry.why};
}

void State::On(const MemberEntry& entry, const DecodedEntry& decoded, Position at) {
  const RolloutEntry& rollout = entry.rollout;
  RolloutMeta meta;
  meta.uid = rollout.uid;
  if (!decoded.payload.empty()) meta.payload = at;
  meta.chain = rollout.chain;
  meta.record_digest = entry.digest;
  meta.changed_ns = entry.changed_ns;
  meta.tokens = static_cast<int32_t>(rollout.tokens);
  meta.resumes = static_cast<int32_t>(rollout.resumes);
  meta.finish = rollout.finish;
  meta.state = rollout.state;
  meta.has_reward = rollout.reward_status == "ok";
  meta.ungraded = !rollout.reward_status.empty() && !meta.has_reward;
  meta.reward = static_cast<float>(rollout.reward.value_or(0));
  meta.has_versions = rollout.oldest.has_value();
  meta.oldest = static_cast<uint32_t>(rollout.oldest.value_or(0));
  meta.newest = static_cast<uint32_t>(rollout.newest.value_or(0));
  if (rollout.lease) meta.lease_epoch = static_cast<uint32_t>(rollout.lease->epoch);
  if (rollout.lease && meta.state == RolloutState::kLeased) meta.lease_id = rollout.lease->id;
  AddMember(std::move(meta));
}

void State::CheckSnapshot() {
  if (!std::exchange(unchecked_, false)) return;
  const auto place = [](GroupState state) { return state == GroupState::kConsumed ? 0 : state == GroupState::kTrained ? 1 : 2; };
  std::set<uint64_t> named;
  int last = 0;
  for (const ClaimMeta& claim : claims_) {
    const bool known = claim.state == GroupState::kConsumed || claim.state == GroupState::kTrained || claim.state == GroupState::kClaimed;
    if (!known || place(claim.state) < last)
      throw Error::Data("claim " + claim.id + " of a snapshot is " + std::string(Name(claim.state)) + " behind one that is not so far");
    last = place(claim.state);
    for (const uint64_t admission : claim.groups) {
      const auto group = groups_.find(admission);
      if (group == groups_.end() || group->second.state != claim.state || !named.insert(admission).second)
        throw Error::Data("claim " + claim.id + " of a snapshot names group " + std::to_string(admission) +
                          ", which is not there, or not the claim's");
    }
  }
  for (const auto& [admission, group] : groups_) {
    if (static_cast<int64_t>(group.members.size()) != config_.group_size)
      throw Error::Data("group " + HexU64(group.group_id) + " of a snapshot has " + std::to_string(group.members.size()) + " members");
    const bool of_claim = group.state == GroupState::kConsumed || group.state == GroupState::kTrained || group.state == GroupState::kClaimed;
    if (of_claim != named.contains(admission))
      throw Error::Data("group " + HexU64(group.group_id) + " of a snapshot is " + std::string(Name(group.state)) + ", but no claim names it");
  }
}

void State::AddMember(RolloutMeta added) {
  if (groups_.empty() || static_cast<int64_t>(groups_.rbegin()->second.members.size()) >= config_.group_size)
    throw Error::Data("rollout " + HexU64(added.uid) + " of a snapshot belongs to no group");
  auto& [admission, group] = *groups_.rbegin();
  const uint64_t key = MakeKey(admission, group.members.size());
  group.members.reserve(static_cast<size_t>(config_.group_size));
  const RolloutMeta& meta = group.members.emplace_back(std::move(added));
  if (!keys_.emplace(meta.uid, key).second) throw Error::Data("rollout " + HexU64(meta.uid) + " stands twice in a snapshot");
  // Keys come in ascending order.
  if (group.state == GroupState::kOpen && meta.state == RolloutState::kQueued) queued_.insert(queued_.end(), key);
  if (group.state == GroupState::kOpen && meta.state == RolloutState::kPartial) partial_.insert(partial_.end(), key);
  if (meta.state == RolloutState::kLeased) {
    const auto set = leases_.find(meta.lease_id);
    if (set == leases_.end()) throw Error::Data("rollout " + HexU64(meta.uid) + " of a snapshot has a lease that is not there");
    set->second.held.insert(key);
    ++num_leased_;
  }
  NoteOverdue(key);
  if (static_cast<int64_t>(group.members.size()) < config_.group_size) return;
  Summarise(group);
  if (group.state == GroupState::kOpen && group.AllEnded()) ++num_stalled_;
}

}  // namespace april::buffer
