// A buffer whose rollouts are all in one place: what the tests of policies, drops and rewinds begin with.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "buffer/claiming.h"
#include "buffer/compaction.h"
#include "buffer/dropping.h"
#include "buffer/rewinding.h"
#include "buffer_support.h"

namespace april::test {

using Admissions = std::set<uint64_t>;

/// A buffer whose rollouts are all in one place, by group.
struct Run : ScratchBuffer {
  explicit Run(const buffer::RunConfig& config, int64_t prompts = 16) : ScratchBuffer(config, prompts) {}

  std::map<uint64_t, record::Rollout> held;  ///< by key
  uint64_t lease = 0;

  size_t TakeAll(int64_t count = 100, buffer::TakeOrder order = buffer::TakeOrder::kPartialsFirst) { return TakeKeys(count, order).size(); }
  std::vector<uint64_t> TakeKeys(int64_t count = 100, buffer::TakeOrder order = buffer::TakeOrder::kPartialsFirst) {
    buffer::LeaseRequest request;
    request.lease = ++lease;
    request.worker = "w";
    request.max_rollouts = count;
    request.order = order;
    std::vector<uint64_t> keys;
    store->Transact([&](buffer::Batch& batch) { keys = buffer::LeaseRollouts(*store, batch, request); });
    for (const uint64_t key : keys) held[key] = store->ReadRollout(key);
    return keys;
  }
  record::Rollout& Held(uint64_t admission, uint64_t index) { return held.at(buffer::MakeKey(admission, index)); }
  void PutOne(const record::Rollout& rollout) {
    const auto counts = Put(*store, {rollout});
    INFO(counts.first_reject);
    REQUIRE(counts.accepted == 1);
  }
  void Finish(uint64_t admission, uint64_t version = 0, const std::vector<double>& rewards = {0, 1, 0}) {
    for (uint64_t i = 0; i < rewards.size(); ++i) {
      if (!state().group(admission).members[i].Ended()) PutOne(Scored(Generate(Held(admission, i), 2, version), rewards[i]));
    }
  }
  /// All members come back with a token of this version.
  void Interrupt(uint64_t admission, uint64_t version) {
    for (uint64_t i = 0; i < 3; ++i) PutOne(Generate(Held(admission, i), 1, version));
  }
  std::string Claim(int64_t groups = 2) {
    std::string waits_for;
    store->Transact([&](buffer::Batch& batch) { waits_for = buffer::MakeClaim(state(), batch, groups, std::nullopt); });
    return waits_for;
  }
  Admissions ClaimedBy(int64_t step) const {
    const auto& groups = state().FindClaim(step)->groups;
    return {groups.begin(), groups.end()};
  }
  record::Step StepFor(int64_t index, bool checkpoint = false) const {
    record::Step step;
    step.claim = state().FindClaim(index)->id;
    step.step = index;
    step.version = static_cast<uint64_t>(index) + 1;
    step.weights = 1000 + static_cast<uint64_t>(index);
    if (checkpoint) step.checkpoint = "step-" + std::to_string(index + 1);
    return step;
  }
  void Commit(const record::Step& step) {
    store->Transact([&](buffer::Batch& batch) { buffer::CommitStep(state(), batch, step); });
  }
  void Commit(bool checkpoint = false) { Commit(StepFor(state().first_uncommitted_step(), checkpoint)); }
  int64_t Drop(const Admissions& admissions, const std::string& why) {
    std::vector<uint64_t> ids;
    for (const uint64_t admission : admissions) ids.push_back(state().group(admission).group_id);
    int64_t dropped = 0;
    store->Transact([&](buffer::Batch& batch) { dropped = buffer::DropGroups(state(), batch, ids, why); });
    return dropped;
  }
  void Rewind(int64_t step, uint64_t version) {
    store->Transact([&](buffer::Batch& batch) { buffer::Rewind(state(), batch, {"step-" + std::to_string(step), step, version}); });
  }
  std::string Id(uint64_t admission) const { return HexU64(state().group(admission).group_id); }
  int64_t DroppedFor(const std::string& why) const {
    const auto found = state().totals().dropped_groups.find(why);
    return found == state().totals().dropped_groups.end() ? 0 : found->second;
  }
  void CompactAndReopen() {
    store.reset();
    buffer::Compact(SystemFiles(), clock, directory);
    Reopen();
  }
};

inline buffer::RunConfig With(void (*change)(buffer::RunConfig&)) {
  buffer::RunConfig config = SmallConfig();
  change(config);
  return config;
}

}  // namespace april::test
