// How the ledger reads a snapshot: formats/buffer.md, "Compaction".
#include "buffer/ledger.h"
#include "buffer/ledger_words.h"

namespace april::buffer {

void Ledger::On(const SnapshotEntry& entry, const DecodedEntry&) {
  Require(groups_.empty() && opened_ == 0, "a snapshot stands behind groups");
  snapshot_ = entry;
  opened_ = entry.admitted;
  version_ = entry.version;
  next_step_ = entry.first_step + static_cast<int64_t>(entry.claims.size());
  superseded_ = {entry.totals.superseded, entry.totals.superseded_tokens};
  journaled_tokens_ = entry.totals.journaled_tokens;
  for (const std::string& claim : entry.abandoned) claims_[claim].abandoned = true;
  int64_t step = entry.first_step;
  for (const ClaimMeta& meta : entry.claims) {
    Require(meta.step == step++, "claim " + meta.id + ": not of the next step");
    const bool committed = meta.state != GroupState::kClaimed;
    claims_[meta.id] = {meta.step, {}, committed, meta.state == GroupState::kConsumed, false, meta.trained_version, meta.trained_weights};
    steps_[meta.step] = meta.id;
    num_claims_ += 1;
    num_commits_ += committed;
  }
  num_claims_ += entry.first_step;
  num_commits_ += entry.first_step;
}

void Ledger::On(const GroupEntry& entry, const DecodedEntry&) {
  Require(snapshot_.has_value(), OfGroup(entry.group_id) + "stands outside a snapshot");
  Require(queue_.At(static_cast<int64_t>(entry.admission)) == std::pair(entry.prompt, entry.epoch),
          OfGroup(entry.group_id) + "is not the one that the queue has in its place");
  Require(groups_.emplace(entry.group_id, Group{entry.prompt, entry.epoch, {}, "", false, false}).second,
          OfGroup(entry.group_id) + "twice in a snapshot");
  if (entry.state == GroupState::kDropped) groups_[entry.group_id].dropped = entry.why;
  snapshot_groups_[entry.admission] = entry.group_id;
  snapshot_states_[entry.group_id] = entry.state;
  snapshot_group_ = entry.group_id;
}

void Ledger::On(const MemberEntry& entry, const DecodedEntry& decoded) {
  const RolloutEntry& member = entry.rollout;
  Require(snapshot_.has_value() && groups_.contains(snapshot_group_), Of(member.uid) + "stands outside a snapshot");
  groups_[snapshot_group_].uids.push_back(member.uid);
  Require(!rollouts_.contains(member.uid), Of(member.uid) + "twice in a snapshot");
  Rollout& rollout = rollouts_[member.uid];
  rollout.group_id = snapshot_group_;
  if (decoded.payload.empty()) {
    Require(member.tokens == 0, Of(member.uid) + "the snapshot names " + Number(member.tokens) + " tokens, but has none of them");
  } else {
    CheckPayload(member, decoded.payload, rollout);
  }
  rollout.tokens = member.tokens;
  rollout.chain = member.chain;
  rollout.state = member.state;
  rollout.ungraded = !member.reward_status.empty() && member.reward_status != "ok";
  rollout.leases = member.lease ? member.lease->epoch : 0;
  rollout.lease = member.lease && member.state == RolloutState::kLeased ? member.lease->id : 0;
}

/// What the snapshot says of groups, claims and sums must agree; what it counts beyond its groups is forgotten.
void Ledger::CloseSnapshot() {
  const SnapshotEntry snapshot = std::move(*snapshot_);
  snapshot_.reset();
  for (const ClaimMeta& meta : snapshot.claims) {
    for (const uint64_t admission : meta.groups) {
      const auto found = snapshot_groups_.find(admission);
      Require(found != snapshot_groups_.end(), "claim " + meta.id + ": the snapshot lacks one of its groups");
      if (found == snapshot_groups_.end()) continue;
      Group& group = groups_[found->second];
      Require(group.claim.empty(), OfGroup(found->second) + "claims " + group.claim + " and " + meta.id + " of the snapshot have it");
      group.claim = meta.id;
      group.committed = meta.state != GroupState::kClaimed;
      group.consumed = meta.state == GroupState::kConsumed;
      std::vector<uint64_t> scored;
      for (const uint64_t uid : group.uids) {
        if (rollouts_[uid].state == RolloutState::kScored) scored.push_back(uid);
      }
      for (const uint64_t uid : scored) rollouts_[uid].trained = group.committed;
      claims_[meta.id].groups.emplace_back(found->second, std::move(scored));
    }
  }
  Accounts kept;
  for (const auto& [group_id, group] : groups_) {
    const std::string state = StateOf(group);
    Require(state == Name(snapshot_states_[group_id]), OfGroup(group_id) + "the snapshot calls it " + std::string(Name(snapshot_states_[group_id])) +
                                                           ", by its members and claims it is " + state);
    AddTo(kept, group);
  }
  const Totals& totals = snapshot.totals;
  forgotten_.trained = {totals.trained_rollouts - kept.trained.rollouts, totals.trained_tokens - kept.trained.tokens};
  for (const auto& [why, dropped] : totals.dropped) {
    const Account before = kept.dropped[why];
    forgotten_.dropped[why] = {dropped.rollouts - before.rollouts, dropped.tokens - before.tokens};
  }
  forgotten_groups_ = totals.forgotten_groups;
  Account forgotten = forgotten_.trained;
  forgotten += forgotten_.Dropped();
  forgotten_.journaled = forgotten;
  const Account& all = kept.journaled;
  Require(snapshot.admitted == static_cast<int64_t>(groups_.size()) + forgotten_groups_,
          "the snapshot counts " + Number(snapshot.admitted) + " groups, but has " + Number(static_cast<int64_t>(groups_.size())) + " and forgot " +
              Number(forgotten_groups_));
  Require(forgotten.rollouts == forgotten_groups_ * config_.group_size && forgotten_.trained.tokens >= 0,
          "the snapshot's sums leave " + Describe(forgotten) + " for " + Number(forgotten_groups_) + " forgotten groups");
  Require(totals.journaled_tokens == all.tokens + forgotten.tokens, "the snapshot counts " + Number(totals.journaled_tokens) +
                                                                        " journaled tokens, but holds " + Number(all.tokens) + " and forgot " +
                                                                        Number(forgotten.tokens));
}

}  // namespace april::buffer
