#include "buffer/ledger.h"

#include <bit>

#include "base/error.h"
#include "base/rng.h"
#include "buffer/ledger_words.h"

namespace april::buffer {
namespace {

/// formats/buffer.md, "Entries": what a response of these tokens is called.
uint64_t Chain(uint64_t chain, const std::vector<uint32_t>& tokens, const std::vector<float>& logprobs, size_t count) {
  for (size_t i = 0; i < count; ++i) chain = Mix64(chain ^ (tokens[i] | static_cast<uint64_t>(std::bit_cast<uint32_t>(logprobs[i])) << 32));
  return chain;
}

}  // namespace

void Ledger::Read(const DecodedEntry& decoded, const Complain& complain) {
  complain_ = &complain;
  const bool first = std::holds_alternative<InitEntry>(decoded.entry);
  Require(first != initialised_, first ? "a second init entry" : "an entry before the init entry");
  if (snapshot_ && !std::holds_alternative<GroupEntry>(decoded.entry) && !std::holds_alternative<MemberEntry>(decoded.entry)) CloseSnapshot();
  try {
    std::visit([&](const auto& entry) { On(entry, decoded); }, decoded.entry);
  } catch (const Error& error) {
    complain(error.message());
  }
}

void Ledger::Finish(const Complain& complain) {
  complain_ = &complain;
  if (snapshot_) CloseSnapshot();
}

Ledger::Rollout* Ledger::Find(uint64_t uid) {
  const auto found = rollouts_.find(uid);
  Require(found != rollouts_.end(), Of(uid) + "named, but never opened");
  return found == rollouts_.end() ? nullptr : &found->second;
}

void Ledger::On(const InitEntry& entry, const DecodedEntry&) {
  config_ = entry.config;
  initialised_ = true;
}

void Ledger::On(const PromptEntry& entry, const DecodedEntry& decoded) {
  pending_[entry.add].push_back(entry.id);
  const record::Record record = record::DecodeRecord(decoded.payload);
  const auto* prompt = std::get_if<record::Prompt>(&record);
  Require(prompt && prompt->prompt_id == entry.id && static_cast<int64_t>(prompt->prompt_tokens.size()) == entry.tokens,
          "prompt " + entry.id + ": its record is of another prompt");
}

void Ledger::On(const PlanEntry& entry, const DecodedEntry&) {
  const std::vector<std::string> ids = std::move(pending_[entry.add]);
  pending_.erase(entry.add);
  Require(static_cast<int64_t>(ids.size()) == entry.prompts,
          "a plan of " + Number(entry.prompts) + " prompts stands behind " + Number(static_cast<int64_t>(ids.size())));
  queue_.Add(ids, entry.epochs, entry.shuffle);
}

void Ledger::Open(const OpenedGroup& opened) {
  const bool known = queue_.At(opened_++) == std::pair(opened.prompt, opened.epoch);
  Require(known, OfGroup(opened.group_id) + "of prompt " + Number(opened.prompt) + ", epoch " + Number(opened.epoch) +
                     " is not the next one of the queue: it was opened before, or another one was left out");
  Require(groups_.emplace(opened.group_id, Group{opened.prompt, opened.epoch, opened.uids, "", false, false}).second,
          OfGroup(opened.group_id) + "opened twice");
  Require(static_cast<int64_t>(opened.uids.size()) == config_.group_size, OfGroup(opened.group_id) + "has another size than the run's groups");
  for (size_t i = 0; i < opened.uids.size(); ++i) {
    Rollout rollout;
    rollout.group_id = opened.group_id;
    Require(rollouts_.emplace(opened.uids[i], rollout).second, Of(opened.uids[i]) + "opened twice");
    const bool ours =
        known && opened.uids[i] == record::RolloutUid(config_.run, queue_.prompt_id(opened.prompt), opened.epoch, static_cast<int64_t>(i), 0);
    Require(ours || !known, Of(opened.uids[i]) + "is not the hash of its run, prompt, epoch and index");
  }
}

void Ledger::On(const LeaseEntry& entry, const DecodedEntry&) {
  for (const OpenedGroup& group : entry.groups) Open(group);
  for (const auto& [uid, epoch] : entry.rollouts) {
    Rollout* rollout = Find(uid);
    if (!rollout) continue;
    Require(rollout->state == RolloutState::kQueued || rollout->state == RolloutState::kPartial,
            Of(uid) + "leased while it is " + std::string(Name(rollout->state)));
    Require(!groups_[rollout->group_id].dropped, Of(uid) + "leased, but its group was dropped");
    ++rollout->leases;
    Require(epoch == rollout->leases, Of(uid) + "lease epoch " + std::to_string(epoch) + ", expected " + std::to_string(rollout->leases));
    rollout->lease = entry.lease;
    rollout->state = RolloutState::kLeased;
  }
}

void Ledger::CheckPayload(const RolloutEntry& entry, std::string_view payload, const Rollout& before) const {
  const record::Record record = record::DecodeRecord(payload);
  const auto* rollout = std::get_if<record::Rollout>(&record);
  Require(rollout && rollout->uid == entry.uid, Of(entry.uid) + "its entry has the record of something else");
  if (!rollout) return;
  Require(
      static_cast<int64_t>(rollout->tokens.size()) == entry.tokens,
      Of(entry.uid) + "its record has " + Number(static_cast<int64_t>(rollout->tokens.size())) + " tokens, its entry says " + Number(entry.tokens));
  Require(Chain(0, rollout->tokens, rollout->logprobs, rollout->tokens.size()) == entry.chain,
          Of(entry.uid) + "its record's tokens or log-probabilities are not those that its entry names");
  const auto kept = static_cast<size_t>(before.tokens);
  Require(kept <= rollout->tokens.size() && Chain(0, rollout->tokens, rollout->logprobs, kept) == before.chain,
          Of(entry.uid) + "its record does not begin with the " + Number(before.tokens) + " tokens that were journaled before: they are lost");
}

void Ledger::On(const RolloutEntry& entry, const DecodedEntry& decoded) {
  Rollout* rollout = Find(entry.uid);
  if (!rollout) return;
  CheckPayload(entry, decoded.payload, *rollout);
  const auto group = groups_.find(rollout->group_id);
  Require(group != groups_.end() && group->second.claim.empty(), Of(entry.uid) + "changed while a claim names its group");
  Require(group == groups_.end() || !group->second.dropped, Of(entry.uid) + "changed, but its group was dropped");
  if (rollout->state == RolloutState::kLeased) {
    Require(entry.lease && entry.lease->id == rollout->lease && entry.lease->epoch == rollout->leases, Of(entry.uid) + "changed under an old lease");
  } else {
    const bool rescored = (rollout->state == RolloutState::kComplete || rollout->state == RolloutState::kScored) &&
                          entry.state == RolloutState::kScored && entry.tokens == rollout->tokens;
    Require(rescored, Of(entry.uid) + "changed without a lease, from " + std::string(Name(rollout->state)) + " to " + std::string(Name(entry.state)));
  }
  journaled_tokens_ += entry.tokens - rollout->tokens;
  rollout->tokens = entry.tokens;
  rollout->chain = entry.chain;
  rollout->state = entry.state;
  rollout->ungraded = !entry.reward_status.empty() && entry.reward_status != "ok";
  rollout->lease = 0;
}

void Ledger::On(const ProgressEntry& entry, const DecodedEntry& decoded) {
  Rollout* rollout = Find(entry.uid);
  if (!rollout) return;
  Require(rollout->state == RolloutState::kLeased && entry.lease.id == rollout->lease && entry.lease.epoch == rollout->leases,
          Of(entry.uid) + "progress under a lease that is not current");
  const record::Record record = record::DecodeRecord(decoded.payload);
  const auto* delta = std::get_if<record::Progress>(&record);
  Require(delta && delta->uid == entry.uid && delta->start == rollout->tokens &&
              rollout->tokens + static_cast<int64_t>(delta->tokens.size()) == entry.tokens,
          Of(entry.uid) + "progress to " + Number(entry.tokens) + " tokens does not continue the " + Number(rollout->tokens) + " that are journaled");
  Require(!delta || Chain(rollout->chain, delta->tokens, delta->logprobs, delta->tokens.size()) == entry.chain,
          Of(entry.uid) + "progress has other tokens or log-probabilities than its entry names");
  journaled_tokens_ += entry.tokens - rollout->tokens;
  rollout->tokens = entry.tokens;
  rollout->chain = entry.chain;
}

void Ledger::On(const ReleaseEntry& entry, const DecodedEntry&) {
  for (const uint64_t uid : entry.rollouts) {
    Rollout* rollout = Find(uid);
    if (!rollout) continue;
    Require(rollout->state == RolloutState::kLeased && rollout->lease == entry.lease, Of(uid) + "released by a lease that does not hold it");
    rollout->state = rollout->tokens > 0 ? RolloutState::kPartial : RolloutState::kQueued;
    rollout->lease = 0;
  }
}

void Ledger::On(const SupersededEntry& entry, const DecodedEntry&) { superseded_.Add(entry.tokens); }

void Ledger::On(const ClaimEntry& entry, const DecodedEntry&) {
  const std::string of = "claim " + entry.claim + ": ";
  Require(entry.step == next_step_, of + "of step " + Number(entry.step) + ", expected " + Number(next_step_));
  Require(claims_.emplace(entry.claim, Claim{entry.step, entry.groups, false, false, false, 0, 0}).second, of + "made twice");
  steps_[entry.step] = entry.claim;
  next_step_ = entry.step + 1;
  ++num_claims_;
  for (const auto& [group_id, uids] : entry.groups) {
    const auto group = groups_.find(group_id);
    Require(group != groups_.end(), of + "names group " + HexU64(group_id) + ", which was never opened");
    if (group == groups_.end()) continue;
    Require(group->second.claim.empty(), of + "names group " + HexU64(group_id) + ", which claim " + group->second.claim + " has");
    Require(!group->second.dropped, of + "names group " + HexU64(group_id) + ", which was dropped");
    group->second.claim = entry.claim;
    std::vector<uint64_t> scored;
    bool ended = true;
    for (const uint64_t uid : group->second.uids) {
      ended = ended && rollouts_[uid].Ended();
      if (rollouts_[uid].state == RolloutState::kScored) scored.push_back(uid);
    }
    Require(ended && static_cast<int64_t>(scored.size()) >= config_.min_members, of + "names group " + HexU64(group_id) + ", which was not ready");
    Require(scored == uids, of + "does not name just the scored members of group " + HexU64(group_id));
  }
}

void Ledger::Commit(Claim& claim, const std::string& id) {
  claim.committed = true;
  ++num_commits_;
  for (const auto& [group_id, uids] : claim.groups) {
    Group& group = groups_[group_id];
    Require(group.claim == id && !group.committed, OfGroup(group_id) + "trained by claim " + id + ", though claim " + group.claim + " has it");
    group.committed = true;
    for (const uint64_t uid : uids) Require(++rollouts_[uid].trained == 1, Of(uid) + "trained twice, the second time by claim " + id);
  }
}

void Ledger::On(const CommitEntry& entry, const DecodedEntry&) {
  const std::string of = "commit of step " + Number(entry.step) + ": ";
  const auto found = claims_.find(entry.claim);
  Require(found != claims_.end() && found->second.step == entry.step && !found->second.abandoned,
          of + "there is no claim " + entry.claim + " of that step");
  if (found == claims_.end()) return;
  Claim& claim = found->second;
  if (claim.committed) {
    Require(claim.version == entry.version && claim.weights == entry.weights, of + "the second one, and it has other weights");
  } else {
    const auto before = steps_.find(entry.step - 1);
    Require(before == steps_.end() || claims_[before->second].committed, of + "before that of the step before it");
    claim.version = entry.version;
    claim.weights = entry.weights;
    version_ = entry.version;
    Commit(claim, entry.claim);
  }
  if (!entry.checkpoint) return;
  for (auto& [id, consumed] : claims_) {
    if (consumed.step > entry.step || !consumed.committed || consumed.consumed) continue;
    consumed.consumed = true;
    for (const auto& [group_id, uids] : consumed.groups) groups_[group_id].consumed = true;
  }
}

void Ledger::On(const AbandonEntry& entry, const DecodedEntry&) {
  const auto found = claims_.find(entry.claim);
  const bool newest = found != claims_.end() && found->second.step + 1 == next_step_ && !found->second.committed && !found->second.abandoned;
  Require(newest, "claim " + entry.claim + ": abandoned, but it is not the newest uncommitted one");
  if (!newest) return;
  found->second.abandoned = true;
  for (const auto& [group_id, uids] : found->second.groups) groups_[group_id].claim.clear();
  steps_.erase(found->second.step);
  next_step_ = found->second.step;
}

void Ledger::On(const RewindEntry& entry, const DecodedEntry&) {
  const std::string of = "rewind to step " + Number(entry.to_step) + ": ";
  Require(entry.to_step <= next_step_, of + "the next step is only " + Number(next_step_));
  const auto before = steps_.find(entry.to_step - 1);
  Require(before == steps_.end() || claims_[before->second].committed, of + "the step before it is not committed");
  for (int64_t step = entry.to_step; step < next_step_; ++step) {
    const auto found = steps_.find(step);
    Require(found != steps_.end(), of + "the groups of step " + Number(step) + " are no longer kept");
    if (found == steps_.end()) continue;
    Claim& claim = claims_[found->second];
    for (const auto& [group_id, uids] : claim.groups) {
      Group& group = groups_[group_id];
      group.claim.clear();
      group.committed = group.consumed = false;
      for (const uint64_t uid : uids) rollouts_[uid].trained = 0;
    }
    claim.abandoned = true;
    claim.committed = claim.consumed = false;
    steps_.erase(found);
  }
  next_step_ = entry.to_step;
  version_ = entry.version;
}

void Ledger::On(const DropEntry& entry, const DecodedEntry&) {
  for (const uint64_t group_id : entry.groups) {
    const auto group = groups_.find(group_id);
    const bool may = group != groups_.end() && group->second.claim.empty() && !group->second.dropped;
    Require(may, OfGroup(group_id) + "dropped, but it was never opened, or a claim names it, or it was dropped before");
    if (!may) continue;
    group->second.dropped = entry.why;
    for (const uint64_t uid : group->second.uids) {
      Rollout& rollout = rollouts_[uid];
      if (rollout.state != RolloutState::kLeased) continue;
      rollout.state = rollout.tokens > 0 ? RolloutState::kPartial : RolloutState::kQueued;
      rollout.lease = 0;
    }
  }
}

}  // namespace april::buffer
