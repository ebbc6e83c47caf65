// What the ledger makes of everything that it read: formats/buffer.md, "Accounts".
#include "buffer/ledger.h"
#include "buffer/ledger_words.h"

namespace april::buffer {

Account Accounts::Dropped() const {
  Account sum;
  for (const auto& [why, account] : dropped) sum += account;
  return sum;
}

bool Accounts::Balance() const {
  Account sum = trained;
  sum += held;
  sum += Dropped();
  sum += superseded;
  return sum == journaled;
}

std::string Ledger::StateOf(const Group& group) const {
  if (group.dropped) return "dropped";
  if (group.consumed) return "consumed";
  if (group.committed) return "trained";
  if (!group.claim.empty()) return "claimed";
  int64_t scored = 0;
  for (const uint64_t uid : group.uids) {
    if (!rollouts_.at(uid).Ended()) return "open";
    scored += rollouts_.at(uid).state == RolloutState::kScored;
  }
  return scored >= config_.min_members ? "ready" : "open";
}

void Ledger::AddTo(Accounts& accounts, const Group& group) const {
  for (const uint64_t uid : group.uids) {
    const Rollout& rollout = rollouts_.at(uid);
    accounts.journaled.Add(rollout.tokens);
    if (group.dropped) {
      accounts.dropped[*group.dropped].Add(rollout.tokens);
    } else if (!group.committed) {
      accounts.held.Add(rollout.tokens);
    } else if (rollout.trained > 0) {
      accounts.trained.Add(rollout.tokens);
    } else {
      accounts.dropped[rollout.state == RolloutState::kFailed ? "failed" : "ungraded"].Add(rollout.tokens);
    }
  }
}

Accounts Ledger::Sum() const {
  Accounts sum;
  for (const auto& [group_id, group] : groups_) AddTo(sum, group);
  sum.trained += forgotten_.trained;
  for (const auto& [why, account] : forgotten_.dropped) sum.dropped[why] += account;
  sum.superseded = superseded_;
  // What the entries brought, not what the rollouts have in the end: the two sides of the account are found in different ways.
  sum.journaled.tokens = journaled_tokens_ + superseded_.tokens;
  sum.journaled.rollouts = opened_ * config_.group_size + superseded_.rollouts;
  return sum;
}

void Ledger::CompareGroup(const GroupMeta& theirs, const Complain& complain) const {
  const auto group = groups_.find(theirs.group_id);
  if (group == groups_.end()) return complain(OfGroup(theirs.group_id) + "the state has it, the entries do not");
  if (StateOf(group->second) != Name(theirs.state)) {
    complain(OfGroup(theirs.group_id) + "by its entries it is " + StateOf(group->second) + ", the state calls it " + std::string(Name(theirs.state)));
  }
  for (size_t i = 0; i < theirs.members.size(); ++i) {
    const RolloutMeta& member = theirs.members[i];
    const auto rollout = rollouts_.find(member.uid);
    if (rollout == rollouts_.end() || i >= group->second.uids.size() || group->second.uids[i] != member.uid) {
      complain(Of(member.uid) + "the state has it in another place than the entries");
      continue;
    }
    const Rollout& ours = rollout->second;
    if (ours.state != member.state || ours.tokens != member.tokens || ours.chain != member.chain || ours.leases != member.lease_epoch ||
        ours.lease != member.lease_id) {
      complain(Of(member.uid) + "by its entries it is " + std::string(Name(ours.state)) + " with " + Number(ours.tokens) + " tokens and " +
               std::to_string(ours.leases) + " leases, the state calls it " + std::string(Name(member.state)) + " with " + Number(member.tokens) +
               " tokens and " + std::to_string(member.lease_epoch) + " leases");
    }
  }
}

void Ledger::Compare(const State& state, const Complain& complain) const {
  for (const auto& [admission, group] : state.groups()) CompareGroup(group, complain);
  for (const auto& [group_id, group] : groups_) {
    const bool known = !group.uids.empty() && state.FindRollout(group.uids.front()).has_value();
    if (!known && !group.consumed && !group.dropped) complain(OfGroup(group_id) + "the entries have it, and no checkpoint; the state forgot it");
  }
  const auto expect = [&](const char* what, int64_t ours, int64_t theirs) {
    if (ours != theirs) complain(std::string(what) + ": " + Number(ours) + " by the entries, " + Number(theirs) + " by the state");
  };
  const Accounts sum = Sum();
  const Totals& totals = state.totals();
  expect("journaled tokens", journaled_tokens_, totals.journaled_tokens);
  expect("trained rollouts", sum.trained.rollouts, totals.trained_rollouts);
  expect("trained tokens", sum.trained.tokens, totals.trained_tokens);
  expect("superseded records", sum.superseded.rollouts, totals.superseded);
  expect("superseded tokens", sum.superseded.tokens, totals.superseded_tokens);
  expect("groups opened", opened_, state.groups_admitted());
  expect("next step", next_step_, state.next_step());
  if (version_ != state.policy_version()) complain("policy version: the entries and the state differ");
  std::map<std::string, Account> theirs;
  for (const auto& [why, dropped] : totals.dropped) theirs[why] = {dropped.rollouts, dropped.tokens};
  std::map<std::string, Account> ours = sum.dropped;
  std::erase_if(ours, [](const auto& item) { return item.second == Account{}; });
  std::erase_if(theirs, [](const auto& item) { return item.second == Account{}; });
  if (ours != theirs) complain("dropped: " + Describe(sum.Dropped()) + " by the entries; the state has other numbers or reasons");
}

}  // namespace april::buffer
