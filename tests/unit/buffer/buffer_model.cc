#include "buffer_model.h"

#include <catch2/catch.hpp>

#include "buffer/claiming.h"
#include "buffer/compaction.h"
#include "buffer/dropping.h"

namespace april::test {
namespace {

constexpr const char* kDirectory = "run/buffer";

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

BufferModel::BufferModel(uint64_t seed, int64_t retain_steps) : seed_(seed) {
  reference_.config = SmallConfig();
  reference_.config.retain_steps = retain_steps;
  reference_.config.max_tokens = 1 << 20;
  buffer::Store::Init(files_, clock_, kDirectory, reference_.config);
  Reopen();
}

void BufferModel::Reopen() {
  store_.reset();
  buffer::StoreOptions options;
  options.journal.segment_bytes = 20'000;  // several segments in one test
  options.index_bytes = 3'000;             // and the index written often
  store_ = std::make_unique<buffer::Store>(files_, clock_, kDirectory, options);
}

void BufferModel::Step() {
  clock_.now_ns += 1'000'000;
  if (!MayLosePower()) return Operate();
  const ReferenceBuffer reference = reference_;
  const Workers workers = workers_;
  try {
    Operate();
  } catch (const PowerLost&) {
    ++losses_;
    store_.reset();
    files_.Restart(Draw(4) == 0 ? 0 : 1 + Draw(1 << 30));
    Reopen();
    if (!Difference().empty()) {
      reference_ = reference;
      workers_ = workers;
    }
    Compare();
    CompareTokens();
  }
}

void BufferModel::Operate() {
  const uint64_t choice = Draw(100);
  if (choice < 2) {
    buffer::Compact(files_, clock_, kDirectory);
  } else if (choice < 4) {
    Reopen();
  } else if (choice < 8) {
    AddSome();
  } else if (choice < 26) {
    TakeSome();
  } else if (choice < 62) {
    PutSome();
  } else if (choice < 68) {
    PutStale();
  } else if (choice < 74) {
    ReleaseOne();
  } else if (choice < 84) {
    ClaimSome();
  } else if (choice < 92) {
    CommitSome();
  } else if (choice < 94) {
    AbandonNewest();
  } else if (choice < 95) {
    DropOne();
  } else {
    RescoreOne();
  }
}

std::string BufferModel::Difference() const {
  if (state().queue().num_prompts() != reference_.num_prompts) return "prompts";
  if (state().groups_admitted() != static_cast<int64_t>(reference_.groups.size())) return "groups that were admitted";
  if (state().next_step() != static_cast<int64_t>(reference_.claims.size())) return "claims";
  for (const auto& [admission, group] : state().groups()) {
    const ReferenceBuffer::Group& expected = reference_.groups[admission];
    if (buffer::Name(group.state) != expected.state) return "the state of group " + std::to_string(admission);
    for (size_t i = 0; i < group.members.size(); ++i) {
      const buffer::RolloutMeta& member = group.members[i];
      const ReferenceBuffer::Rollout& other = expected.members[i];
      const bool has_reward = other.now.reward && other.now.reward->status == "ok";
      if (member.uid != other.now.uid || buffer::Name(member.state) != other.state || member.lease_epoch != other.leases ||
          member.tokens != static_cast<int32_t>(other.now.tokens.size()) || member.has_reward != has_reward ||
          (has_reward && member.reward != static_cast<float>(other.now.reward->value))) {
        return "member " + std::to_string(i) + " of group " + std::to_string(admission) + ", " + std::string(buffer::Name(member.state)) +
               ", expected " + other.state;
      }
    }
  }
  const std::vector<size_t> ready = reference_.Ready();
  const bool same_order = state().ready().size() == ready.size() &&
                          std::equal(ready.begin(), ready.end(), state().ready().begin(), [](size_t a, const auto& b) { return a == b.second; });
  return same_order ? "" : "the order of the ready groups";
}

void BufferModel::Compare() const {
  const std::string difference = Difference();
  REQUIRE(difference == "");
}

void BufferModel::CompareTokens() {
  for (const auto& [admission, group] : state().groups()) {
    for (size_t i = 0; i < group.members.size(); ++i) {
      const record::Rollout rollout = store_->ReadRollout(buffer::MakeKey(admission, i));
      const record::Rollout& expected = reference_.groups[admission].members[i].now;
      REQUIRE(rollout.tokens == expected.tokens);
      REQUIRE(rollout.logprobs == expected.logprobs);
      REQUIRE(rollout.weight_versions == expected.weight_versions);
    }
  }
}

void BufferModel::AddSome() {
  if (reference_.num_prompts > static_cast<int64_t>(reference_.groups.size()) + 8) return;
  const auto count = static_cast<int64_t>(1 + Draw(6));
  reference_.num_prompts += count;
  AddPrompts(*store_, count);
}

void BufferModel::TakeSome() {
  const auto count = static_cast<int64_t>(1 + Draw(7));
  const uint64_t lease = ++workers_.next_lease;
  const auto expected = reference_.Take(count, lease);
  const auto taken = Take(*store_, count, lease);
  REQUIRE(taken.size() == expected.size());
  for (size_t i = 0; i < taken.size(); ++i) {
    REQUIRE(taken[i].uid == expected[i]);
    REQUIRE(taken[i].tokens == reference_.Find(expected[i])->now.tokens);
    workers_.held.push_back(taken[i]);
  }
}

record::Rollout BufferModel::Outcome(record::Rollout rollout) {
  const auto tokens = static_cast<int64_t>(Draw(6));
  rollout = Generate(std::move(rollout), tokens, Draw(3) + static_cast<uint64_t>(state().next_step()));
  rollout.weight_versions = Merged(rollout.weight_versions);
  switch (Draw(8)) {
    case 0:
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
    const record::Rollout next = Generate(held, tokens, Draw(2) + static_cast<uint64_t>(state().next_step()));
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
  const buffer::PutCounts counts = Put(*store_, records);
  INFO(counts.first_reject);
  REQUIRE(counts.rejected == 0);
}

/// What comes under an old lease may only score a finished response again.
void BufferModel::PutStale() {
  if (workers_.finished.empty()) return;
  const record::Rollout old = workers_.finished[Draw(workers_.finished.size())];
  reference_.Put(old);
  Put(*store_, {old});
}

void BufferModel::RescoreOne() {
  if (workers_.finished.empty()) return;
  record::Rollout rollout = workers_.finished[Draw(workers_.finished.size())];
  if (rollout.status != record::Status::kComplete) return;
  rollout = Scored(std::move(rollout), static_cast<double>(Draw(100)) / 4);
  reference_.Put(rollout);
  Put(*store_, {rollout});
}

void BufferModel::ReleaseOne() {
  if (workers_.next_lease == 0) return;
  const uint64_t lease = 1 + Draw(workers_.next_lease);
  reference_.Release(lease);
  store_->Transact([&](buffer::Batch& batch) { buffer::ReleaseLease(state(), batch, lease, "ended"); });
}

void BufferModel::ClaimSome() {
  const auto count = static_cast<int64_t>(1 + Draw(3));
  const bool expected = reference_.Claim(count);
  std::string waits_for;
  store_->Transact([&](buffer::Batch& batch) { waits_for = buffer::MakeClaim(state(), batch, count, std::nullopt); });
  REQUIRE(waits_for.empty() == expected);
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
  store_->Transact([&](buffer::Batch& batch) { is_new = buffer::CommitStep(state(), batch, record); });
  REQUIRE(is_new);
}

void BufferModel::DropOne() {
  std::vector<uint64_t> droppable;  // by admission
  for (const auto& [admission, group] : state().groups()) {
    if (group.state == buffer::GroupState::kOpen || group.state == buffer::GroupState::kReady) droppable.push_back(admission);
  }
  if (droppable.empty()) return;
  const uint64_t admission = droppable[Draw(droppable.size())];
  const uint64_t group_id = state().group(admission).group_id;
  reference_.Drop(admission);
  int64_t dropped = 0;
  store_->Transact([&](buffer::Batch& batch) { dropped = buffer::DropGroups(state(), batch, {group_id}, "test"); });
  REQUIRE(dropped == 1);
}

void BufferModel::AbandonNewest() {
  if (!reference_.Abandon()) return;
  const std::string id = state().FindClaim(state().next_step() - 1)->id;
  store_->Transact([&](buffer::Batch& batch) { buffer::AbandonClaim(state(), batch, id, "test"); });
}

}  // namespace april::test
