// The random operations of the model: each on the obvious buffer and on the real one.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <iterator>

#include "buffer/admission.h"
#include "buffer/claiming.h"
#include "buffer/compaction.h"
#include "buffer/dropping.h"
#include "buffer/putting.h"
#include "buffer/rewinding.h"
#include "buffer_model.h"

namespace april::test {
namespace {

std::vector<record::WeightSpan> Merged(const std::vector<record::WeightSpan>& spans) {
  std::vector<record::WeightSpan> merged;
  for (const record::WeightSpan& span : spans) {
    if (!merged.empty() && merged.back().version == span.version && merged.back().end == span.start) {
      merged.back().end = span.end;
    } else {
      merged.push_back(span);
    }
  }
  return merged;
}

}  // namespace

void BufferModel::Operate() {
  const uint64_t choice = Draw(100);
  if (choice < 2) {
    Settle();  // it needs the lock that collected transactions hold
    buffer::Compact(files_, clock_, kModelDirectory);
  } else if (choice < 4) {
    Settle();
    Reopen();
  } else if (choice < 8) {
    AddSome();
  } else if (choice < 26) {
    TakeSome();
  } else if (choice < 61) {
    PutSome();
  } else if (choice < 64) {
    PutStale();
  } else if (choice < 71) {
    ReleaseOne();
  } else if (choice < 81) {
    ClaimSome();
  } else if (choice < 89) {
    CommitSome();
  } else if (choice < 90) {
    CommitUndone();
  } else if (choice < 92) {
    AbandonNewest();
  } else if (choice < 93) {
    DropOne();
  } else if (choice < 95) {
    RewindSome();
  } else {
    RescoreOne();
  }
}

void BufferModel::Transact(const std::function<void(buffer::Batch&)>& body, buffer::Wait wait) {
  bool changes = false;
  const auto noted = [&](buffer::Batch& batch) {
    body(batch);
    changes = !batch.empty();
  };
  store_->Transact(noted, wait);
  must_last_ = must_last_ || promise_ == Promise::kAtOnce || (changes && wait == buffer::Wait::kNo);
}

buffer::PutCounts BufferModel::PutAll(const std::vector<record::Record>& records) {
  buffer::PutCounts counts;
  std::set<uint64_t> leases;
  const auto put = [&](buffer::Batch& batch) {
    for (const record::Record& record : records) buffer::PutRecord(*store_, batch, record::EncodeRecord(record), &counts, &leases);
  };
  Transact(put, buffer::Wait::kAsLongAsAllowed);
  return counts;
}

void BufferModel::AddSome() {
  if (reference_.num_prompts > static_cast<int64_t>(reference_.groups.size()) + 8) return;
  const auto count = static_cast<int64_t>(1 + Draw(6));
  reference_.num_prompts += count;
  AddPrompts(*store_, count);
  must_last_ = true;
}

void BufferModel::TakeSome() {
  buffer::LeaseRequest request;
  request.lease = ++workers_.next_lease;
  request.worker = "w";
  request.max_rollouts = std::min(static_cast<int64_t>(1 + Draw(4)), std::max<int64_t>(1, buffer::RolloutsWanted(state())));
  request.beyond_demand = Draw(8) == 0;
  const size_t order = Draw(2) == 0 ? 0 : Draw(std::size(buffer::kTakeOrderNames));
  request.order = static_cast<buffer::TakeOrder>(order);
  counts_.certain_only += buffer::LookAhead(state(), std::max<int64_t>(1, reference_.ToClaim())).nothing_else;
  const auto expected = reference_.Take(request.max_rollouts, request.lease, std::string(buffer::kTakeOrderNames[order]), request.beyond_demand);
  std::vector<uint64_t> keys;
  Transact([&](buffer::Batch& batch) { keys = buffer::LeaseRollouts(*store_, batch, request); }, buffer::Wait::kAsLongAsAllowed);
  std::vector<uint64_t> taken;
  for (const uint64_t key : keys) {
    workers_.held.push_back(store_->ReadRollout(key));
    taken.push_back(workers_.held.back().uid);
    REQUIRE(workers_.held.back().tokens == reference_.Find(taken.back())->now.tokens);
  }
  INFO("by the order " << buffer::kTakeOrderNames[order]);
  REQUIRE(taken == expected);
}

/// That a generator may have: the newest published one, one of the two before, or, after a rewind, one of the course that was left.
uint64_t BufferModel::SomeVersion() {
  if (reference_.left_version > 0 && Draw(4) == 0) return reference_.left_version;
  const uint64_t newest = reference_.version.value_or(0) + reference_.claims.size() - reference_.FirstUncommitted();
  return newest - std::min<uint64_t>(newest, Draw(3));
}

record::Rollout BufferModel::Outcome(record::Rollout rollout) {
  const auto tokens = static_cast<int64_t>(Draw(6));
  rollout = Generate(std::move(rollout), tokens, SomeVersion());
  rollout.weight_versions = Merged(rollout.weight_versions);
  switch (Draw(14)) {
    case 0:
    case 4:
    case 5:
      return rollout;
    case 1:
      return Failed(std::move(rollout));
    case 2:
      return Complete(std::move(rollout));
    case 3:
      return Scored(std::move(rollout), 0, "error");
    default:
      return Scored(std::move(rollout), static_cast<double>(Draw(2)));
  }
}

void BufferModel::PutSome() {
  if (workers_.held.empty()) return;
  const size_t index = Draw(workers_.held.size());
  record::Rollout& held = workers_.held[index];
  std::vector<record::Record> records;
  for (uint64_t deltas = Draw(3); deltas > 0; --deltas) {
    const auto tokens = static_cast<int64_t>(1 + Draw(4));
    const record::Rollout next = Generate(held, tokens, SomeVersion());
    records.push_back(Delta(held, next));
    ReferenceBuffer::Rollout& expected = *reference_.Find(held.uid);
    if (expected.state == "leased" && expected.lease == held.lease->id && expected.leases == held.lease->epoch) {
      expected.now = next;
      expected.now.weight_versions = Merged(next.weight_versions);
    }
    held = next;
    held.weight_versions = Merged(held.weight_versions);
    // The journal's own segments are those of one lease; the reference does not compare them.
  }
  if (Draw(3) > 0) {
    const record::Rollout outcome = Outcome(held);
    records.push_back(outcome);
    if (Draw(4) == 0) records.push_back(outcome);
    reference_.Put(outcome);
    workers_.finished.push_back(outcome);
    workers_.held.erase(workers_.held.begin() + static_cast<std::ptrdiff_t>(index));
  }
  const buffer::PutCounts counts = PutAll(records);
  INFO(counts.first_reject);
  REQUIRE(counts.rejected == 0);
}

/// What comes under an old lease may only score a finished response again.
void BufferModel::PutStale() {
  if (workers_.finished.empty()) return;
  const record::Rollout old = workers_.finished[Draw(workers_.finished.size())];
  reference_.Put(old);
  PutAll({old});
}

void BufferModel::RescoreOne() {
  if (workers_.finished.empty()) return;
  // Of those that came lately: most of the others are trained.
  record::Rollout rollout = workers_.finished[workers_.finished.size() - 1 - Draw(std::min<size_t>(workers_.finished.size(), 12))];
  if (rollout.status != record::Status::kComplete) return;
  rollout = Scored(std::move(rollout), static_cast<double>(Draw(100)) / 4);
  reference_.Put(rollout);
  PutAll({rollout});
}

void BufferModel::ReleaseOne() {
  if (workers_.next_lease == 0) return;
  const uint64_t lease = workers_.next_lease - Draw(std::min<uint64_t>(workers_.next_lease, 8));
  reference_.Release(lease);
  Transact([&](buffer::Batch& batch) { buffer::ReleaseLease(state(), batch, lease, "ended"); }, buffer::Wait::kAsLongAsAllowed);
}

void BufferModel::ClaimSome() {
  const auto count = static_cast<int64_t>(1 + Draw(3));
  // A trainer that asks for another filter than the run's changes it for all claims to come, whether it gets its own or not.
  const std::string filter = Draw(8) > 0 ? "" : Draw(2) == 0 ? "none" : "nonzero-std";
  if (!filter.empty()) reference_.filter = *buffer::ParseFilter(filter);
  const bool expected = reference_.MakeClaim(count);
  std::string waits_for;
  Transact([&](buffer::Batch& batch) {
    buffer::SetFilter(state(), batch, filter);
    waits_for = buffer::MakeClaim(state(), batch, count, std::nullopt);
  });
  INFO(waits_for);
  REQUIRE(waits_for.empty() == expected);
  counts_.claims += expected;
  counts_.waits += !expected && state().ready().size() >= static_cast<size_t>(count);
  if (!expected) return;
  std::vector<uint64_t> groups = state().FindClaim(state().next_step() - 1)->groups;
  std::sort(groups.begin(), groups.end());
  std::vector<uint64_t> takes(reference_.claims.back().groups.begin(), reference_.claims.back().groups.end());
  std::sort(takes.begin(), takes.end());
  REQUIRE(groups == takes);
}

void BufferModel::CommitSome() {
  const int64_t step = state().first_uncommitted_step();
  if (step == state().next_step()) return;
  record::Step record;
  record.claim = state().FindClaim(step)->id;
  record.step = step;
  record.version = static_cast<uint64_t>(step) + 1;
  if (Draw(3) == 0) record.checkpoint = "c";
  reference_.Commit(static_cast<size_t>(step), record.checkpoint.has_value());
  bool is_new = false;
  Transact([&](buffer::Batch& batch) { is_new = buffer::CommitStep(state(), batch, record); });
  REQUIRE(is_new);
}

/// What a trainer says late of a claim that was given back or undone changes nothing.
void BufferModel::CommitUndone() {
  if (reference_.undone.empty()) return;
  record::Step record;
  record.claim = reference_.undone[Draw(reference_.undone.size())];
  record.step = state().first_uncommitted_step();
  record.version = static_cast<uint64_t>(record.step) + 1;
  const bool refused = IsRefused([&] { Transact([&](buffer::Batch& batch) { buffer::CommitStep(state(), batch, record); }); });
  REQUIRE(refused);
  ++counts_.refused;
}

void BufferModel::RewindSome() {
  // Near the newest step, so that a run comes further; one beyond it too.
  const auto step = std::max<int64_t>(0, state().next_step() + 1 - static_cast<int64_t>(Draw(5)));
  const buffer::RewindTarget target{"c", step, static_cast<uint64_t>(step)};
  const auto rewind = [&] { Transact([&](buffer::Batch& batch) { buffer::Rewind(state(), batch, target); }); };
  if (step < static_cast<int64_t>(reference_.first_kept) || step > static_cast<int64_t>(reference_.FirstUncommitted())) {
    const bool refused = IsRefused(rewind);  // not within an assertion, which would take a loss of power for itself
    REQUIRE(refused);
    ++counts_.refused;
    return;
  }
  counts_.rewinds += step < state().next_step();
  for (int64_t undone = step; undone < state().next_step(); ++undone) reference_.undone.push_back(state().FindClaim(undone)->id);
  reference_.Rewind(static_cast<size_t>(step), target.version);
  rewind();
}

void BufferModel::DropOne() {
  std::vector<uint64_t> droppable;  // by admission
  for (const auto& [admission, group] : state().groups()) {
    if (group.state == buffer::GroupState::kOpen || group.state == buffer::GroupState::kReady) droppable.push_back(admission);
  }
  if (droppable.empty()) return;
  const uint64_t admission = droppable[Draw(droppable.size())];
  const uint64_t group_id = state().group(admission).group_id;
  reference_.Drop(admission, "test");
  int64_t dropped = 0;
  Transact([&](buffer::Batch& batch) { dropped = buffer::DropGroups(state(), batch, {group_id}, "test"); });
  REQUIRE(dropped == 1);
}

void BufferModel::AbandonNewest() {
  if (!reference_.Abandon()) return;
  const std::string id = state().FindClaim(state().next_step() - 1)->id;
  reference_.undone.push_back(id);
  Transact([&](buffer::Batch& batch) { buffer::AbandonClaim(state(), batch, id, "test"); });
}

}  // namespace april::test
