#include "buffer/leasing.h"

#include <algorithm>
#include <compare>

#include "base/rng.h"
#include "buffer/admission.h"
#include "buffer/dropping.h"
#include "buffer/payloads.h"

namespace april::buffer {
namespace {

int64_t GroupTarget(const RunConfig& config) { return config.groups_per_step * (1 + config.run_ahead); }

/// Groups of all the claims that may be made now.
int64_t GroupsToClaim(const State& state) { return std::max<int64_t>(0, GroupTarget(state.config()) - state.num_claimed()); }

/// New groups that the run's policies allow now.
int64_t GroupsToOpen(const State& state) {
  const int64_t limit = OpenGroupsLimit(state), to_claim = GroupsToClaim(state);
  if (to_claim > 0 && !IsPlain(state) && LookAhead(state, to_claim).nothing_else) return 0;
  return limit == std::numeric_limits<int64_t>::max() ? state.queue().num_groups() : limit - NumCountingGroups(state);
}

/// What comes first has the lowest.
struct Rank {
  int urgency = 0;
  uint64_t by_order = 0;
  uint64_t key = 0;
  auto operator<=>(const Rank&) const = default;
};

uint64_t ByOrder(const State& state, TakeOrder order, uint64_t key) {
  const RolloutMeta& rollout = state.rollout(key);
  const auto tokens = static_cast<uint64_t>(rollout.tokens);
  switch (order) {
    case TakeOrder::kOldest:
      return rollout.has_versions ? rollout.oldest : std::numeric_limits<uint64_t>::max();
    case TakeOrder::kLongest:
      return std::numeric_limits<uint64_t>::max() - tokens;
    case TakeOrder::kShortest:
      return tokens;
    case TakeOrder::kFifo:
      return 0;
    case TakeOrder::kRandom:
      return RandomBits(state.config().seed, RandomUse::kTakeOrder, rollout.uid, rollout.lease_epoch + uint64_t{1});
    case TakeOrder::kPartialsFirst:
      break;
  }
  return rollout.state == RolloutState::kPartial ? 0 : 1;
}

/// The queue's next group, opened.
OpenedGroup NextGroup(Store& store, int64_t place) {
  const RunConfig& config = store.state().config();
  const PromptQueue::Group next = store.state().queue().At(place);
  const record::Prompt prompt = store.ReadPrompt(next.prompt);
  OpenedGroup group{record::GroupId(config.run, prompt.prompt_id, next.epoch), next.prompt, next.epoch, {}};
  for (int64_t i = 0; i < config.group_size; ++i) group.uids.push_back(record::RolloutUid(config.run, prompt.prompt_id, next.epoch, i, 0));
  return group;
}

}  // namespace

int64_t GroupsWanted(const State& state, const std::set<uint64_t>& presumed) {
  const int64_t to_claim = GroupsToClaim(state);
  return to_claim == 0 ? 0 : NumMissing(state, to_claim, presumed);
}

int64_t RolloutsWanted(const State& state) { return std::max<int64_t>(0, state.config().in_flight - state.num_leased()); }

bool IsExhausted(const State& state) {
  const bool nothing_left =
      state.num_leased() == 0 && state.partial().empty() && state.queued().empty() && state.groups_admitted() == state.queue().num_groups();
  const int64_t per_step = state.config().groups_per_step;
  return nothing_left && state.num_claimed() == 0 && static_cast<int64_t>(LookAhead(state, per_step).takes.size()) < per_step;
}

std::vector<uint64_t> IssueOrder(const State& state, const LeaseRequest& request, size_t limit) {
  std::vector<uint64_t> keys;
  const int64_t to_claim = GroupsToClaim(state);
  const Outlook outlook = to_claim == 0 || IsPlain(state) ? Outlook{} : LookAhead(state, to_claim);
  const bool plain = outlook.awaited.empty() && state.overdue().empty();
  if (plain && request.order == TakeOrder::kPartialsFirst) {
    for (const std::set<uint64_t>* some : {&state.partial(), &state.queued()}) {
      for (auto key = some->begin(); key != some->end() && keys.size() < limit; ++key) keys.push_back(*key);
    }
    return keys;
  }
  std::vector<Rank> ranks;
  for (const std::set<uint64_t>* some : {&state.partial(), &state.queued()}) {
    for (const uint64_t key : *some) {
      const int urgency = state.overdue().contains(key) ? 0 : outlook.awaited.contains(AdmissionOf(key)) ? 1 : 2;
      if (urgency == 2 && outlook.nothing_else && !request.beyond_demand) continue;
      ranks.push_back({urgency, ByOrder(state, request.order, key), key});
    }
  }
  const auto middle = ranks.begin() + static_cast<std::ptrdiff_t>(std::min(limit, ranks.size()));
  std::partial_sort(ranks.begin(), middle, ranks.end());
  for (auto rank = ranks.begin(); rank != middle; ++rank) keys.push_back(rank->key);
  return keys;
}

std::vector<uint64_t> LeaseRollouts(Store& store, Batch& batch, const LeaseRequest& request) {
  const State& state = store.state();
  DropExpired(state, batch);
  LeaseEntry entry{request.lease, request.worker, request.request, request.hub, state.next_step(), {}, {}};
  int64_t room = request.max_rollouts, room_bytes = request.max_bytes;
  const auto add = [&](uint64_t uid, uint64_t epoch, int64_t prompt, int64_t tokens) {
    entry.rollouts.emplace_back(uid, epoch);
    --room;
    constexpr int64_t kRecordBytes = 4096, kPromptTokenBytes = 4, kTokenBytes = 16;
    room_bytes -= kRecordBytes + kPromptTokenBytes * state.queue().prompt(prompt).tokens + kTokenBytes * tokens;
  };
  for (const uint64_t key : IssueOrder(state, request, static_cast<size_t>(std::max<int64_t>(0, room)))) {
    if (room_bytes <= 0) break;
    const RolloutMeta& rollout = state.rollout(key);
    add(rollout.uid, rollout.lease_epoch + 1, state.group(AdmissionOf(key)).prompt, rollout.tokens);
  }
  int64_t may_open = request.beyond_demand ? state.queue().num_groups() : GroupsToOpen(state);
  for (int64_t place = state.groups_admitted(); room > 0 && room_bytes > 0 && may_open > 0 && place < state.queue().num_groups();
       ++place, --may_open) {
    OpenedGroup group = NextGroup(store, place);
    for (auto uid = group.uids.begin(); uid != group.uids.end() && room > 0 && room_bytes > 0; ++uid) add(*uid, 1, group.prompt, 0);
    entry.groups.push_back(std::move(group));
  }
  if (entry.rollouts.empty()) return {};
  batch.Add(entry);
  std::vector<uint64_t> keys;
  for (const auto& [uid, epoch] : entry.rollouts) keys.push_back(*state.FindRollout(uid));
  return keys;
}

int64_t ReleaseLease(const State& state, Batch& batch, uint64_t lease, const std::string& why) {
  const auto set = state.leases().find(lease);
  if (set == state.leases().end() || set->second.held.empty()) return 0;
  ReleaseEntry entry{lease, why, {}};
  for (const uint64_t key : set->second.held) entry.rollouts.push_back(state.rollout(key).uid);
  batch.Add(entry);
  return static_cast<int64_t>(entry.rollouts.size());
}

int64_t ReleaseWorker(const State& state, Batch& batch, const std::string& worker, uint64_t except, const std::string& why) {
  std::vector<uint64_t> leases;
  for (const auto& [lease, set] : state.leases()) {
    if (set.worker == worker && lease != except) leases.push_back(lease);
  }
  std::sort(leases.begin(), leases.end());
  int64_t released = 0;
  for (const uint64_t lease : leases) released += ReleaseLease(state, batch, lease, why);
  return released;
}

}  // namespace april::buffer
