#include "buffer/leasing.h"

#include <algorithm>

#include "buffer/payloads.h"

namespace april::buffer {
namespace {

int64_t GroupTarget(const RunConfig& config) { return config.groups_per_step * (1 + config.run_ahead); }

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

int64_t GroupsWanted(const State& state) {
  const int64_t waiting = static_cast<int64_t>(state.ready().size()) + state.num_claimed();
  return std::max<int64_t>(0, GroupTarget(state.config()) - waiting);
}

int64_t RolloutsWanted(const State& state) { return std::max<int64_t>(0, state.config().in_flight - state.num_leased()); }

bool IsExhausted(const State& state) {
  const bool nothing_left =
      state.num_leased() == 0 && state.partial().empty() && state.queued().empty() && state.groups_admitted() == state.queue().num_groups();
  return nothing_left && state.num_claimed() == 0 && static_cast<int64_t>(state.ready().size()) < state.config().groups_per_step;
}

std::vector<uint64_t> LeaseRollouts(Store& store, Batch& batch, const LeaseRequest& request) {
  const State& state = store.state();
  LeaseEntry entry{request.lease, request.worker, request.request, request.hub, state.next_step(), {}, {}};
  int64_t room = request.max_rollouts, room_bytes = request.max_bytes;
  const auto add = [&](uint64_t uid, uint64_t epoch, int64_t prompt, int64_t tokens) {
    entry.rollouts.emplace_back(uid, epoch);
    --room;
    constexpr int64_t kRecordBytes = 4096, kPromptTokenBytes = 4, kTokenBytes = 16;
    room_bytes -= kRecordBytes + kPromptTokenBytes * state.queue().prompt(prompt).tokens + kTokenBytes * tokens;
  };
  for (const std::set<uint64_t>* keys : {&state.partial(), &state.queued()}) {
    for (auto key = keys->begin(); key != keys->end() && room > 0 && room_bytes > 0; ++key) {
      const RolloutMeta& rollout = state.rollout(*key);
      add(rollout.uid, rollout.lease_epoch + 1, state.group(AdmissionOf(*key)).prompt, rollout.tokens);
    }
  }
  const bool limited = state.config().Synchronous() && !request.beyond_demand;
  int64_t may_open = limited ? GroupTarget(state.config()) - state.NumViableGroups() : state.queue().num_groups();
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
