// A slow, obvious buffer: everything in plain vectors, every question answered by looking at all of it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "buffer/run_config.h"
#include "record/records.h"

namespace april::test {

struct ReferenceBuffer {
  struct Rollout {
    record::Rollout now;  // with all journaled tokens
    std::string state = "queued";
    uint64_t lease = 0, leases = 0;
    bool ungraded = false;
    bool Ended() const { return state == "scored" || state == "failed" || (state == "complete" && ungraded); }
  };
  struct Group {
    std::vector<Rollout> members;
    std::string state = "open";
    int64_t ready_order = -1;
  };
  buffer::RunConfig config;
  int64_t num_prompts = 0;
  std::vector<Group> groups;
  std::vector<std::vector<size_t>> claims;  // by step: indices of groups
  std::vector<std::string> claim_states;
  int64_t next_ready = 0;

  Rollout* Find(uint64_t uid) {
    for (Group& group : groups) {
      for (Rollout& rollout : group.members) {
        if (rollout.now.uid == uid) return &rollout;
      }
    }
    return nullptr;
  }
  Group& GroupOf(uint64_t uid) {
    for (Group& group : groups) {
      for (Rollout& rollout : group.members) {
        if (rollout.now.uid == uid) return group;
      }
    }
    throw std::logic_error("no such rollout");
  }
  std::vector<uint64_t> Take(int64_t count, uint64_t lease) {
    std::vector<Rollout*> taken;
    for (const char* state : {"partial", "queued"}) {
      for (Group& group : groups) {
        if (group.state == "dropped") continue;
        for (Rollout& rollout : group.members) {
          if (rollout.state == state && static_cast<int64_t>(taken.size()) < count) taken.push_back(&rollout);
        }
      }
    }
    std::vector<uint64_t> uids;
    for (Rollout* rollout : taken) uids.push_back(rollout->now.uid);
    while (static_cast<int64_t>(uids.size()) < count && static_cast<int64_t>(groups.size()) < num_prompts) {
      Group group;
      for (int64_t i = 0; i < config.group_size; ++i) {
        Rollout rollout;
        rollout.now.uid = record::RolloutUid(config.run, "p" + std::to_string(groups.size()), 0, i, 0);
        group.members.push_back(rollout);
        if (static_cast<int64_t>(uids.size()) < count) uids.push_back(rollout.now.uid);
      }
      groups.push_back(group);
    }
    for (const uint64_t uid : uids) {
      Find(uid)->state = "leased";
      Find(uid)->lease = lease;
      ++Find(uid)->leases;
    }
    return uids;
  }
  void Release(uint64_t lease) {
    for (Group& group : groups) {
      for (Rollout& rollout : group.members) {
        if (rollout.state == "leased" && rollout.lease == lease) rollout.state = rollout.now.tokens.empty() ? "queued" : "partial";
      }
    }
  }
  void Settle(Group& group) {
    int64_t ended = 0, scored = 0;
    for (const Rollout& rollout : group.members) {
      ended += rollout.Ended();
      scored += rollout.state == "scored";
    }
    if (group.state == "open" && ended == config.group_size && scored >= config.min_members) {
      group.state = "ready";
      group.ready_order = next_ready++;
    }
  }
  /// A record under a lease; only the current one may change anything.
  void Put(const record::Rollout& record) {
    Rollout& rollout = *Find(record.uid);
    Group& group = GroupOf(record.uid);
    const bool current = rollout.state == "leased" && record.lease && rollout.lease == record.lease->id && rollout.leases == record.lease->epoch;
    const bool ok = record.reward && record.reward->status == "ok";
    if (!current) {
      const bool finished = rollout.state == "complete" || rollout.state == "scored";
      const bool unclaimed = group.state == "open" || group.state == "ready";
      if (finished && unclaimed && ok && record.tokens == rollout.now.tokens)
        rollout.state = "scored", rollout.now = record, rollout.ungraded = false;
      Settle(group);
      return;
    }
    rollout.now = record;
    if (record.status == record::Status::kFailed) rollout.state = "failed";
    if (record.status == record::Status::kComplete) rollout.state = ok ? "scored" : "complete", rollout.ungraded = record.reward && !ok;
    if (record.status == record::Status::kPartial) rollout.state = "partial";
    if (record.status == record::Status::kQueued) rollout.state = "queued";
    Settle(group);
  }
  std::vector<size_t> Ready() const {
    std::vector<size_t> ready;
    for (size_t i = 0; i < groups.size(); ++i) {
      if (groups[i].state == "ready") ready.push_back(i);
    }
    std::sort(ready.begin(), ready.end(), [&](size_t a, size_t b) { return groups[a].ready_order < groups[b].ready_order; });
    return ready;
  }
  bool Claim(int64_t count) {
    if (!claims.empty() && claim_states.back() == "claimed") return false;
    std::vector<size_t> ready = Ready();
    if (static_cast<int64_t>(ready.size()) < count) return false;
    ready.resize(static_cast<size_t>(count));
    for (const size_t index : ready) groups[index].state = "claimed";
    claims.push_back(ready);
    claim_states.push_back("claimed");
    return true;
  }
  void Commit(size_t step, bool with_checkpoint) {
    claim_states[step] = "trained";
    for (size_t i = 0; i <= step; ++i) {
      if (with_checkpoint) claim_states[i] = "consumed";
      for (const size_t group : claims[i]) groups[group].state = claim_states[i];
    }
  }
  /// The newest claim, unless it is committed.
  bool Abandon() {
    if (claims.empty() || claim_states.back() != "claimed") return false;
    for (const size_t group : claims.back()) groups[group].state = "ready";
    claims.pop_back();
    claim_states.pop_back();
    return true;
  }
  /// An open or ready group: what is leased of it ends.
  void Drop(size_t index) {
    Group& group = groups[index];
    group.state = "dropped";
    for (Rollout& rollout : group.members) {
      if (rollout.state == "leased") rollout.state = rollout.now.tokens.empty() ? "queued" : "partial";
    }
  }
};

}  // namespace april::test
