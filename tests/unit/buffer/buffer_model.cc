#include "buffer_model.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <iterator>
#include <map>

#include "base/error.h"
#include "buffer/admission.h"
#include "buffer/audit.h"
#include "buffer/claiming.h"
#include "buffer/compaction.h"
#include "buffer/dropping.h"
#include "buffer/index_check.h"
#include "buffer/rewinding.h"

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

/// Whether it throws an Error: a loss of power is none.
template <typename Body>
bool IsRefused(Body body) {
  try {
    body();
    return false;
  } catch (const Error&) {
    return true;
  }
}

}  // namespace

BufferModel::Counts& BufferModel::Counts::operator+=(const Counts& other) {
  losses += other.losses, claims += other.claims, filtered += other.filtered, stale += other.stale;
  rewinds += other.rewinds, refused += other.refused, waits += other.waits, certain_only += other.certain_only;
  return *this;
}

buffer::RunConfig BufferModel::WithPolicies(uint64_t seed) {
  uint64_t draws = 0;
  const auto draw = [&](uint64_t below) { return static_cast<int64_t>(RandomBits(seed, RandomUse::kTest, 3, draws++) % below); };
  for (;;) {
    buffer::RunConfig config = SmallConfig();
    config.retain_steps = std::array{0, 1, 3, 1000}[static_cast<size_t>(draw(4))];
    config.in_flight = std::array{6, 9, 18}[static_cast<size_t>(draw(3))];
    config.min_members = 1 + draw(3);
    config.run_ahead = draw(3) == 0;
    if (const int64_t kind = draw(3); kind > 0)
      config.admission = {kind == 1 ? buffer::Admission::Kind::kAssigned : buffer::Admission::Kind::kWindow, draw(3) + (kind == 1 ? 0 : 2)};
    if (draw(2) == 0) config.max_staleness = draw(4);
    if (draw(2) == 0) config.max_resumes = draw(3);
    if (draw(3) == 0) config.filter = buffer::GroupFilter::kNonzeroStd;
    if (!IsRefused([&] { buffer::CheckPolicies(config); })) return config;
  }
}

BufferModel::BufferModel(uint64_t seed, const buffer::RunConfig& config) : seed_(seed) {
  reference_.config = config;
  reference_.config.max_tokens = 1 << 20;
  reference_.filter = config.filter;
  buffer::Store::Init(files_, clock_, kDirectory, reference_.config);
  Reopen();
}

BufferModel::Counts BufferModel::counts() const {
  Counts counts = counts_;
  for (const auto& [why, groups] : state().totals().dropped_groups) {
    if (why == "zero-std") counts.filtered = groups;
    if (why == "stale") counts.stale = groups;
  }
  return counts;
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
    ++counts_.losses;
    store_.reset();
    files_.Restart(Draw(4) == 0 ? 0 : 1 + Draw(1 << 30));
    Reopen();
    if (!Difference().empty() || !DifferenceOfTokens().empty()) {
      reference_ = reference;
      workers_ = workers;
    }
    Compare();
    CompareTokens();
    Audit();
    REQUIRE(buffer::CompareIndex(files_, kDirectory).empty());
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

std::string BufferModel::Difference() const {
  if (state().queue().num_prompts() != reference_.num_prompts) return "prompts";
  if (state().groups_admitted() != static_cast<int64_t>(reference_.groups.size())) return "groups that were admitted";
  if (state().next_step() != static_cast<int64_t>(reference_.claims.size())) return "claims";
  if (state().first_uncommitted_step() != static_cast<int64_t>(reference_.FirstUncommitted())) return "commits";
  if (state().first_kept_step() != static_cast<int64_t>(reference_.first_kept)) return "steps that are kept";
  if (state().policy_version() != reference_.version || state().left_version() != reference_.left_version) return "the policy version";
  if (state().filter() != reference_.filter) return "the filter";
  if (std::string difference = DifferenceOfGroups(); !difference.empty()) return difference;
  if (std::string difference = DifferenceOfSums(); !difference.empty()) return difference;
  const std::vector<size_t> ready = reference_.Ready();
  const bool same_order = state().ready().size() == ready.size() &&
                          std::equal(ready.begin(), ready.end(), state().ready().begin(), [](size_t a, const auto& b) { return a == b.second; });
  if (!same_order) return "the order of the ready groups";
  const bool wanted = reference_.ToClaim() > 0 && reference_.Look(reference_.ToClaim()).waits;
  if ((buffer::GroupsWanted(state()) > 0) != wanted) return "whether groups are wanted";
  return buffer::IsExhausted(state()) == reference_.Exhausted() ? "" : "whether a claim can come";
}

std::string BufferModel::DifferenceOfGroups() const {
  const auto kept =
      std::count_if(reference_.groups.begin(), reference_.groups.end(), [](const ReferenceBuffer::Group& group) { return !group.forgotten; });
  if (kept != static_cast<int64_t>(state().groups().size())) return "groups that are kept";
  for (const auto& [admission, group] : state().groups()) {
    const ReferenceBuffer::Group& expected = reference_.groups[admission];
    const std::string name = "group " + std::to_string(admission);
    if (expected.forgotten) return "whether " + name + " is kept";
    if (group.group_id != expected.id) return "the id of " + name;
    if (buffer::Name(group.state) != expected.state) return "the state of " + name + ", " + std::string(buffer::Name(group.state));
    if (expected.state == "dropped" && state().dropped().at(admission).why != expected.dropped_for) return "why " + name + " was dropped";
    for (size_t i = 0; i < group.members.size(); ++i) {
      const buffer::RolloutMeta& member = group.members[i];
      const ReferenceBuffer::Rollout& other = expected.members[i];
      const bool has_reward = other.now.reward && other.now.reward->status == "ok";
      if (member.uid != other.now.uid || buffer::Name(member.state) != other.state || member.lease_epoch != other.leases ||
          member.tokens != static_cast<int32_t>(other.now.tokens.size()) || member.has_reward != has_reward ||
          (has_reward && member.reward != static_cast<float>(other.now.reward->value))) {
        return "member " + std::to_string(i) + " of " + name + ", " + std::string(buffer::Name(member.state)) + ", expected " + other.state;
      }
    }
  }
  return "";
}

std::string BufferModel::DifferenceOfSums() const {
  std::map<std::string, int64_t> dropped;
  for (const ReferenceBuffer::Group& group : reference_.groups) {
    if (group.state == "dropped") ++dropped[group.dropped_for];
  }
  if (dropped != state().totals().dropped_groups) return "how many groups were dropped, and why";
  int64_t rollouts = 0, tokens = 0;
  for (const ReferenceBuffer::Claim& claim : reference_.claims) {
    for (const size_t group : claim.groups) {
      for (const ReferenceBuffer::Rollout& rollout : reference_.groups[group].members) {
        if (claim.state == "claimed" || rollout.state != "scored") continue;
        ++rollouts;
        tokens += static_cast<int64_t>(rollout.now.tokens.size());
      }
    }
  }
  return rollouts == state().totals().trained_rollouts && tokens == state().totals().trained_tokens ? "" : "what was trained";
}

void BufferModel::Compare() const {
  const std::string difference = Difference();
  REQUIRE(difference == "");
}

std::string BufferModel::DifferenceOfTokens() {
  for (const auto& [admission, group] : state().groups()) {
    for (size_t i = 0; i < group.members.size(); ++i) {
      const record::Rollout rollout = store_->ReadRollout(buffer::MakeKey(admission, i));
      const record::Rollout& expected = reference_.groups[admission].members[i].now;
      if (rollout.tokens == expected.tokens && rollout.logprobs == expected.logprobs && rollout.weight_versions == expected.weight_versions) continue;
      return "tokens of member " + std::to_string(i) + " of group " + std::to_string(admission);
    }
  }
  return "";
}

void BufferModel::CompareTokens() {
  const std::string difference = DifferenceOfTokens();
  REQUIRE(difference == "");
}

void BufferModel::Audit() {
  const buffer::AuditReport report = buffer::Audit(files_, kDirectory);
  INFO(buffer::FindingsText(report.findings));
  REQUIRE(report.Clean());
}

void BufferModel::AddSome() {
  if (reference_.num_prompts > static_cast<int64_t>(reference_.groups.size()) + 8) return;
  const auto count = static_cast<int64_t>(1 + Draw(6));
  reference_.num_prompts += count;
  AddPrompts(*store_, count);
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
  store_->Transact([&](buffer::Batch& batch) { keys = buffer::LeaseRollouts(*store_, batch, request); });
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
  // Of those that came lately: most of the others are trained.
  record::Rollout rollout = workers_.finished[workers_.finished.size() - 1 - Draw(std::min<size_t>(workers_.finished.size(), 12))];
  if (rollout.status != record::Status::kComplete) return;
  rollout = Scored(std::move(rollout), static_cast<double>(Draw(100)) / 4);
  reference_.Put(rollout);
  Put(*store_, {rollout});
}

void BufferModel::ReleaseOne() {
  if (workers_.next_lease == 0) return;
  const uint64_t lease = workers_.next_lease - Draw(std::min<uint64_t>(workers_.next_lease, 8));
  reference_.Release(lease);
  store_->Transact([&](buffer::Batch& batch) { buffer::ReleaseLease(state(), batch, lease, "ended"); });
}

void BufferModel::ClaimSome() {
  const auto count = static_cast<int64_t>(1 + Draw(3));
  // A trainer that asks for another filter than the run's changes it for all claims to come, whether it gets its own or not.
  const std::string filter = Draw(8) > 0 ? "" : Draw(2) == 0 ? "none" : "nonzero-std";
  if (!filter.empty()) reference_.filter = *buffer::ParseFilter(filter);
  const bool expected = reference_.MakeClaim(count);
  std::string waits_for;
  store_->Transact([&](buffer::Batch& batch) {
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
  store_->Transact([&](buffer::Batch& batch) { is_new = buffer::CommitStep(state(), batch, record); });
  REQUIRE(is_new);
}

/// What a trainer says late of a claim that was given back or undone changes nothing.
void BufferModel::CommitUndone() {
  if (reference_.undone.empty()) return;
  record::Step record;
  record.claim = reference_.undone[Draw(reference_.undone.size())];
  record.step = state().first_uncommitted_step();
  record.version = static_cast<uint64_t>(record.step) + 1;
  const bool refused = IsRefused([&] { store_->Transact([&](buffer::Batch& batch) { buffer::CommitStep(state(), batch, record); }); });
  REQUIRE(refused);
  ++counts_.refused;
}

void BufferModel::RewindSome() {
  // Near the newest step, so that a run comes further; one beyond it too.
  const auto step = std::max<int64_t>(0, state().next_step() + 1 - static_cast<int64_t>(Draw(5)));
  const buffer::RewindTarget target{"c", step, static_cast<uint64_t>(step)};
  const auto rewind = [&] { store_->Transact([&](buffer::Batch& batch) { buffer::Rewind(state(), batch, target); }); };
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
  store_->Transact([&](buffer::Batch& batch) { dropped = buffer::DropGroups(state(), batch, {group_id}, "test"); });
  REQUIRE(dropped == 1);
}

void BufferModel::AbandonNewest() {
  if (!reference_.Abandon()) return;
  const std::string id = state().FindClaim(state().next_step() - 1)->id;
  reference_.undone.push_back(id);
  store_->Transact([&](buffer::Batch& batch) { buffer::AbandonClaim(state(), batch, id, "test"); });
}

}  // namespace april::test
