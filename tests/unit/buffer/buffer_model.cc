#include "buffer_model.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <iterator>
#include <map>
#include <utility>

#include "base/error.h"
#include "buffer/admission.h"
#include "buffer/audit.h"
#include "buffer/index_check.h"

namespace april::test {

BufferModel::Counts& BufferModel::Counts::operator+=(const Counts& other) {
  losses += other.losses, claims += other.claims, filtered += other.filtered, stale += other.stale;
  undone += other.undone, rewinds += other.rewinds, refused += other.refused, waits += other.waits, certain_only += other.certain_only;
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

BufferModel::BufferModel(uint64_t seed, const buffer::RunConfig& config) : seed_(seed), promise_(static_cast<Promise>(seed % 3)) {
  reference_.config = config;
  reference_.config.max_tokens = 1 << 20;
  reference_.filter = config.filter;
  buffer::Store::Init(files_, clock_, kModelDirectory, reference_.config);
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
  options.durability.mode = promise_ == Promise::kAtOnce ? buffer::Durability::Mode::kSync : buffer::Durability::Mode::kOs;
  store_ = std::make_unique<buffer::Store>(files_, clock_, kModelDirectory, options);
  if (promise_ == Promise::kCollected) store_->Collect();
}

void BufferModel::Settle() {
  if (promise_ == Promise::kCollected) store_->Settle();
  first_killable_ = earlier_.size();
  if (std::exchange(must_last_, false)) Lasts();
}

/// All that happened until now is on disk: nothing may take it back.
void BufferModel::Lasts() {
  earlier_.clear();
  first_killable_ = 0;
}

void BufferModel::Step() {
  clock_.now_ns += 1'000'000;
  if (MayLosePower() || promise_ != Promise::kAtOnce || !earlier_.empty()) earlier_.push_back({reference_, workers_});
  try {
    Operate();
    if (promise_ != Promise::kCollected || Draw(3) == 0) Settle();
    if (Draw(16) > 0) return;
    Settle();
    store_->Sync();
    Lasts();
  } catch (const PowerLost&) {
    Recover();
  }
}

/// What was under way has happened wholly or not at all, and with it what nothing had promised to last.
void BufferModel::Recover() {
  ++counts_.losses;
  store_.reset();
  const bool killed = Draw(4) == 0;
  if (killed) {
    files_.Kill();
  } else {
    files_.Restart(1 + Draw(1 << 30));
    first_killable_ = 0;
  }
  Reopen();
  const std::string newest = DifferenceOfAll();
  INFO((killed ? "killed" : "power lost") << "; from the newest it differs in " << newest);
  for (size_t back = 0; !DifferenceOfAll().empty(); ++back) {
    REQUIRE(earlier_.size() > first_killable_);
    reference_ = std::move(earlier_.back().reference);
    workers_ = std::move(earlier_.back().workers);
    earlier_.pop_back();
    counts_.undone += back == 1;
  }
  must_last_ = false;
  first_killable_ = earlier_.size();
  if (!killed) Lasts();
  Audit();
  REQUIRE(buffer::CompareIndex(files_, kModelDirectory).empty());
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

std::string BufferModel::DifferenceOfAll() {
  const std::string difference = Difference();
  return difference.empty() ? DifferenceOfTokens() : difference;
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
  const buffer::AuditReport report = buffer::Audit(files_, kModelDirectory);
  INFO(buffer::FindingsText(report.findings));
  REQUIRE(report.Clean());
}

}  // namespace april::test
