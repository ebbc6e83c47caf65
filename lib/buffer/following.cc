#include "buffer/following.h"

#include <algorithm>
#include <set>

#include "base/bytes.h"
#include "base/error.h"
#include "buffer/payloads.h"
#include "buffer/verification.h"

namespace april::buffer {
namespace {

constexpr char kUnknown[] = "its rollout is not there";

std::string Why(const State& state, const PromptEntry& entry, const DecodedEntry&) {
  return state.queue().HasPrompt(entry.id) ? "the prompt is there already" : "";
}

std::string Why(const State& state, const LeaseEntry& entry, const DecodedEntry&) {
  std::set<uint64_t> opened;
  int64_t place = state.groups_admitted();
  for (const OpenedGroup& group : entry.groups) {
    if (place >= state.queue().num_groups()) return "it opens a group that the queue has not";
    const PromptQueue::Group next = state.queue().At(place++);
    if (next.prompt != group.prompt || next.epoch != group.epoch || static_cast<int64_t>(group.uids.size()) != state.config().group_size)
      return "it opens a group that is not the next one of the queue";
    for (const uint64_t uid : group.uids) {
      if (state.FindRollout(uid) || !opened.insert(uid).second) return "it opens a group that is open already";
    }
  }
  std::set<uint64_t> leased;
  for (const auto& [uid, epoch] : entry.rollouts) {
    if (!leased.insert(uid).second) return "it names a rollout twice";
    const auto key = state.FindRollout(uid);
    if (!key && !opened.contains(uid)) return kUnknown;
    const RolloutMeta meta = key ? state.rollout(*key) : RolloutMeta{};
    if (meta.state != RolloutState::kQueued && meta.state != RolloutState::kPartial) return "its rollout is " + std::string(Name(meta.state));
    if (key && state.group(AdmissionOf(*key)).state != GroupState::kOpen) return "its group is not open";
    if (meta.lease_epoch + 1 != epoch) return "a lease before it is lost";
  }
  return "";
}

std::string Why(const State& state, const RolloutEntry& entry, const DecodedEntry& decoded) {
  const auto key = state.FindRollout(entry.uid);
  if (!key) return kUnknown;
  const RolloutMeta& meta = state.rollout(*key);
  const GroupState group = state.group(AdmissionOf(*key)).state;
  if (group != GroupState::kOpen && group != GroupState::kReady) return "its group is " + std::string(Name(group));
  const auto rollout = DecodePayload<record::Rollout>(decoded.payload);
  const auto kept = static_cast<size_t>(meta.tokens);
  if (rollout.tokens.size() < kept || ExtendChain(0, rollout.tokens, rollout.logprobs, 0, kept) != meta.chain)
    return "it does not continue what the journal has of it";
  if (meta.state == RolloutState::kLeased) {
    const bool ends = entry.state != RolloutState::kQueued && entry.state != RolloutState::kLeased;
    return entry.lease && meta.IsLeasedBy(*entry.lease) && ends ? "" : "its lease is not current";
  }
  const bool finished = meta.state == RolloutState::kComplete || meta.state == RolloutState::kScored;
  return finished && entry.state == RolloutState::kScored && rollout.tokens.size() == kept ? "" : "its lease is lost";
}

std::string Why(const State& state, const ProgressEntry& entry, const DecodedEntry& decoded) {
  const auto key = state.FindRollout(entry.uid);
  if (!key) return kUnknown;
  const RolloutMeta& meta = state.rollout(*key);
  if (!meta.IsLeasedBy(entry.lease)) return "its lease is not current";
  const auto delta = DecodePayload<record::Progress>(decoded.payload);
  const bool continues = delta.start == meta.tokens && ExtendChain(meta.chain, delta.tokens, delta.logprobs, 0, delta.tokens.size()) == entry.chain;
  return continues ? "" : "what came before it is lost";
}

std::string Why(const State& state, const ReleaseEntry& entry, const DecodedEntry&) {
  std::set<uint64_t> released;
  for (const uint64_t uid : entry.rollouts) {
    const auto key = state.FindRollout(uid);
    if (!key || !released.insert(uid).second) return kUnknown;
    const RolloutMeta& meta = state.rollout(*key);
    if (meta.state != RolloutState::kLeased || meta.lease_id != entry.lease) return "its lease is not current";
  }
  return "";
}

std::string Why(const State& state, const ClaimEntry& entry, const DecodedEntry&) {
  if (entry.step != state.next_step()) return "a claim before it is lost";
  if (state.FindClaim(entry.claim) || state.WasAbandoned(entry.claim)) return "the claim is there already";
  std::set<uint64_t> claimed;
  for (const auto& [group_id, uids] : entry.groups) {
    const auto key = uids.empty() ? std::nullopt : state.FindRollout(uids.front());
    if (!key || !claimed.insert(group_id).second) return "one of its groups is not there";
    const GroupMeta& group = state.group(AdmissionOf(*key));
    if (group.group_id != group_id || group.state != GroupState::kReady) return "one of its groups is not ready";
    if (group.ScoredUids() != uids) return "one of its groups has other scored members";
  }
  return "";
}

std::string Why(const State& state, const CommitEntry& entry, const DecodedEntry&) {
  const ClaimMeta* claim = state.FindClaim(entry.claim);
  if (!claim || claim->step != entry.step) return "its claim is not there";
  if (claim->state == GroupState::kClaimed) return claim->step == state.first_uncommitted_step() ? "" : "the commit before it is lost";
  return claim->trained_version == entry.version && claim->trained_weights == entry.weights ? "" : "its claim is committed with other weights";
}

std::string Why(const State& state, const AbandonEntry& entry, const DecodedEntry&) {
  const ClaimMeta* claim = state.FindClaim(entry.claim);
  const bool newest = claim && claim->step + 1 == state.next_step() && claim->state == GroupState::kClaimed;
  return newest ? "" : "its claim is not the newest";
}

std::string Why(const State& state, const RewindEntry& entry, const DecodedEntry&) {
  const bool reachable = entry.to_step >= state.first_kept_step() && entry.to_step <= state.first_uncommitted_step();
  return reachable ? "" : "the step that it goes back to is not kept, or one before it is not committed";
}

std::string Why(const State& state, const DropEntry& entry, const DecodedEntry&) {
  std::set<uint64_t> dropped;
  for (const uint64_t group_id : entry.groups) {
    const auto admission = state.FindGroup(group_id);
    if (!admission || !dropped.insert(group_id).second) return "one of its groups is not there";
    const GroupState group = state.group(*admission).state;
    if (!MayBecome(group, GroupState::kDropped)) return "one of its groups is " + std::string(Name(group));
  }
  return "";
}

std::string Why(const State&, const PolicyEntry&, const DecodedEntry&) { return ""; }
std::string Why(const State&, const PlanEntry&, const DecodedEntry&) { return ""; }  // the queue itself knows whether all of its prompts are there
std::string Why(const State&, const SupersededEntry&, const DecodedEntry&) { return ""; }
/// What begins a journal follows on nothing.
template <typename Other>
std::string Why(const State&, const Other&, const DecodedEntry&) {
  return "it can only stand at a journal's beginning";
}

std::string Tokens(int64_t count) { return std::to_string(count) + " tokens"; }

std::string Describe(const InitEntry& entry) { return "init of run " + entry.config.run; }
std::string Describe(const PromptEntry& entry) { return "prompt " + entry.id; }
std::string Describe(const PlanEntry& entry) { return "addition of " + std::to_string(entry.prompts) + " prompts from " + entry.source; }
std::string Describe(const LeaseEntry& entry) {
  std::string text = "lease to " + entry.worker + ", opening " + std::to_string(entry.groups.size()) + " groups, of rollouts";
  for (const auto& [uid, epoch] : entry.rollouts) text += " " + HexU64(uid);
  return text;
}
std::string Describe(const RolloutEntry& entry) {
  return "rollout " + HexU64(entry.uid) + ": " + Tokens(entry.tokens) + ", " + std::string(Name(entry.state));
}
std::string Describe(const ProgressEntry& entry) { return "rollout " + HexU64(entry.uid) + ": progress to " + Tokens(entry.tokens); }
std::string Describe(const ReleaseEntry& entry) {
  std::string text = "release (" + entry.why + ") of rollouts";
  for (const uint64_t uid : entry.rollouts) text += " " + HexU64(uid);
  return text;
}
std::string Describe(const SupersededEntry& entry) { return "late record of rollout " + HexU64(entry.uid); }
std::string Describe(const ClaimEntry& entry) {
  return "claim " + entry.claim + " of step " + std::to_string(entry.step) + ", " + std::to_string(entry.groups.size()) + " groups";
}
std::string Describe(const CommitEntry& entry) { return "commit of claim " + entry.claim + ", step " + std::to_string(entry.step); }
std::string Describe(const AbandonEntry& entry) { return "abandoning claim " + entry.claim; }
std::string Describe(const RewindEntry& entry) { return "rewind to step " + std::to_string(entry.to_step) + ", checkpoint " + entry.checkpoint; }
std::string Describe(const DropEntry& entry) {
  std::string text = "drop (" + entry.why + ") of groups";
  for (const uint64_t group_id : entry.groups) text += " " + HexU64(group_id);
  return text;
}
std::string Describe(const PolicyEntry& entry) { return "filter " + std::string(Name(entry.filter)) + " from here on"; }
std::string Describe(const SnapshotEntry& entry) { return "snapshot of " + std::to_string(entry.admitted) + " groups"; }
std::string Describe(const GroupEntry& entry) { return "group " + HexU64(entry.group_id) + " of a snapshot"; }
std::string Describe(const MemberEntry& entry) {
  return "rollout " + HexU64(entry.rollout.uid) + " of a snapshot: " + Tokens(entry.rollout.tokens) + ", " + std::string(Name(entry.rollout.state));
}

}  // namespace

std::string WhyNotFollowing(const State& state, const DecodedEntry& decoded) {
  if (std::string wrong = CheckEntry(decoded); !wrong.empty()) return wrong;
  return std::visit([&](const auto& entry) { return Why(state, entry, decoded); }, decoded.entry);
}

std::string DescribeEntry(const DecodedEntry& decoded) {
  return std::visit([](const auto& entry) { return Describe(entry); }, decoded.entry);
}

}  // namespace april::buffer
