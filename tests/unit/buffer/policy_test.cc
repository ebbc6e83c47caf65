#include <algorithm>
#include <catch2/catch.hpp>

#include "base/bytes.h"
#include "base/error.h"
#include "buffer/admission.h"
#include "buffer/claiming.h"
#include "buffer/compaction.h"
#include "buffer/dropping.h"
#include "buffer/hub.h"
#include "buffer/map_fields.h"
#include "buffer/rewinding.h"
#include "buffer_support.h"

namespace april {
namespace {

using buffer::Admission;
using buffer::GroupState;
using buffer::RolloutState;
using namespace test;

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
    const auto counts = test::Put(*store, {rollout});
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

buffer::RunConfig With(void (*change)(buffer::RunConfig&)) {
  buffer::RunConfig config = SmallConfig();
  change(config);
  return config;
}

TEST_CASE("assigned: the order of admission says at which step a group is trained, whoever finishes first") {
  Run run(With([](auto& config) { config.admission = {Admission::Kind::kAssigned, 1}, config.in_flight = 18; }));
  CHECK(run.TakeAll() == 12);  // the next step's two groups, and those of one further
  for (const uint64_t admission : {3, 2, 1}) run.Finish(admission);
  CHECK(buffer::GroupsWanted(run.state()) == 1);
  CHECK_THAT(run.Claim(), Catch::Contains("1 more group of 2: group " + run.Id(0) + " (0 of 3 members ended, 3 leased by w)"));
  CHECK(run.state().next_step() == 0);
  run.Finish(0);
  CHECK(buffer::GroupsWanted(run.state()) == 0);
  REQUIRE(run.Claim().empty());
  CHECK(run.ClaimedBy(0) == Admissions{0, 1});
  CHECK(run.TakeAll() == 0);
  run.Commit();
  CHECK(run.TakeAll() == 6);
  REQUIRE(run.Claim().empty());
  CHECK(run.ClaimedBy(1) == Admissions{2, 3});
  run.Commit();
  CHECK(run.TakeAll() == 6);
  // A group that is dropped, and one that stalls, give their places to the next by admission; scored again it is the oldest.
  run.Finish(6), run.Finish(7);
  run.Drop({4}, "test");
  CHECK_THAT(run.Claim(), Catch::Contains("group " + run.Id(5)));
  run.PutOne(Scored(Generate(run.Held(5, 0), 2, 0), 1));
  for (const uint64_t i : {1, 2}) run.PutOne(Scored(Generate(run.Held(5, i), 2, 0), 0, "error"));
  REQUIRE(run.state().num_stalled() == 1);
  REQUIRE(run.Claim().empty());
  CHECK(run.ClaimedBy(2) == Admissions{6, 7});
  run.Commit();
  CHECK(run.TakeAll() == 12);
  run.Finish(8), run.Finish(9);
  run.PutOne(Scored(Generate(run.Held(5, 1), 2, 0), 1));
  REQUIRE(run.Claim().empty());
  CHECK(run.ClaimedBy(3) == Admissions{5, 8});
}

TEST_CASE("window: only the oldest groups that count may be claimed, of them those that are ready first") {
  Run run(With([](auto& config) { config.admission = {Admission::Kind::kWindow, 3}, config.in_flight = 18; }));
  CHECK(run.TakeAll() == 18);
  for (const uint64_t admission : {3, 4, 5}) run.Finish(admission);
  CHECK(buffer::GroupsWanted(run.state()) == 2);
  CHECK_THAT(run.Claim(), Catch::Contains("2 more groups of 2: group " + run.Id(0)) && Catch::Contains("and 2 groups more"));
  CHECK(run.TakeAll() == 0);  // what waits outside of the window does not grow
  run.Finish(2), run.Finish(1);
  REQUIRE(run.Claim().empty());
  CHECK(run.ClaimedBy(0) == Admissions{1, 2});
  run.Commit();
  REQUIRE(run.Claim().empty());
  CHECK(run.ClaimedBy(1) == Admissions{3, 4});
  run.Commit();
  CHECK_FALSE(run.Claim().empty());  // 5 alone
  run.Finish(0);
  REQUIRE(run.Claim().empty());
  CHECK(run.ClaimedBy(2) == Admissions{0, 5});
}

TEST_CASE("max-staleness: a step waits for groups that would be too stale for the next, and they go first") {
  Run run(With([](auto& config) { config.max_staleness = 1, config.in_flight = 100; }));
  CHECK(run.TakeAll() == 12);  // no more than two steps can train
  run.Interrupt(0, 0);
  run.Finish(1), run.Finish(2);
  REQUIRE(run.Claim().empty());  // three groups of version 0, two of them now, one at the next step
  CHECK(run.ClaimedBy(0) == Admissions{1, 2});
  run.Commit();
  run.Finish(3, 1);
  REQUIRE(run.TakeAll() == 9);  // group 0, and two new ones
  run.Interrupt(0, 1);
  run.Finish(4, 1);
  CHECK(buffer::GroupsWanted(run.state()) == 1);
  CHECK_THAT(run.Claim(), Catch::Contains("1 more group of 2: group " + run.Id(0)) && Catch::Contains("tokens of policy version 0"));
  CHECK(run.TakeKeys() == std::vector<uint64_t>{buffer::MakeKey(0, 0), buffer::MakeKey(0, 1), buffer::MakeKey(0, 2)});
  run.Finish(0, 1);
  REQUIRE(run.Claim().empty());
  CHECK(run.ClaimedBy(1) == Admissions{0, 3});
  CHECK(run.DroppedFor("stale") == 0);
}

TEST_CASE("max-staleness: what is known too late to be trained in time is dropped as stale, and never claimed") {
  Run run(With([](auto& config) { config.max_staleness = 0, config.in_flight = 100; }));
  REQUIRE(run.TakeAll() == 6);
  run.Finish(0);
  run.PutOne(Scored(Generate(run.Held(1, 1), 2, 0), 1));
  CHECK_FALSE(run.Claim().empty());
  REQUIRE(run.Claim(1).empty());
  run.Commit();  // group 1 has tokens of version 0, the policy is version 1
  CHECK(run.DroppedFor("stale") == 1);
  CHECK(run.state().group(1).state == GroupState::kDropped);
  CHECK(run.state().num_leased() == 0);
  // Tokens that were made long ago and told only now.
  REQUIRE(run.TakeAll() == 6);
  run.Finish(2, 1), run.Finish(3, 0);
  CHECK(buffer::GroupsWanted(run.state()) == 1);
  CHECK_THAT(run.Claim(), Catch::Contains("1 more group of 2"));
  CHECK(run.DroppedFor("stale") == 1);
  REQUIRE(run.TakeAll() == 3);
  CHECK(run.DroppedFor("stale") == 2);
  CHECK(run.state().totals().dropped.at("stale") == buffer::Account{6, 2 + 6});
}

TEST_CASE("max-resumes: a rollout that comes back unfinished once too often is issued first, and the next claim waits for it") {
  Run run(With([](auto& config) { config.max_resumes = 1; }));
  REQUIRE(run.TakeAll(9) == 9);
  run.Finish(0), run.Finish(1);
  run.PutOne(Generate(run.Held(2, 1), 2, 0));
  REQUIRE(run.TakeKeys(1) == std::vector<uint64_t>{buffer::MakeKey(2, 1)});
  REQUIRE(run.state().overdue().empty());
  run.PutOne(Generate(run.Held(2, 1), 2, 0));  // its first resume is over
  CHECK(run.state().overdue() == Admissions{buffer::MakeKey(2, 1)});
  CHECK_THAT(run.Claim(), Catch::Contains("came back unfinished after 1 resumes, first " + HexU64(run.Held(2, 1).uid) + " (partial)"));
  CHECK(buffer::GroupsWanted(run.state()) == 1);
  run.CompactAndReopen();
  CHECK(run.TakeKeys() == std::vector<uint64_t>{buffer::MakeKey(2, 1)});
  CHECK_THAT(run.Claim(), Catch::Contains("(leased)"));
  run.PutOne(Scored(Generate(run.Held(2, 1), 2, 0), 1));
  REQUIRE(run.Claim().empty());
  CHECK(run.ClaimedBy(0) == Admissions{0, 1});
}

TEST_CASE("max-resumes: it is issued first too while as many groups are claimed as may be, in any order of issue") {
  for (const auto order : {buffer::TakeOrder::kPartialsFirst, buffer::TakeOrder::kFifo, buffer::TakeOrder::kShortest}) {
    Run run(With([](auto& config) { config.max_resumes = 1; }));
    REQUIRE(run.TakeAll(9) == 9);
    run.Finish(0), run.Finish(1);
    run.PutOne(Generate(run.Held(2, 1), 2, 0));
    REQUIRE(run.TakeKeys(1) == std::vector<uint64_t>{buffer::MakeKey(2, 1)});
    REQUIRE(run.Claim().empty());
    run.PutOne(Generate(run.Held(2, 0), 1, 0));
    run.PutOne(Generate(run.Held(2, 1), 2, 0));
    CHECK(run.TakeKeys(2, order) == std::vector<uint64_t>{buffer::MakeKey(2, 1), buffer::MakeKey(2, 0)});
  }
}

TEST_CASE("nonzero-std: groups of equal rewards do not count, and are dropped with the claim; one that is not made changes nothing") {
  Run run(With([](auto& config) { config.filter = buffer::GroupFilter::kNonzeroStd; }));
  REQUIRE(run.TakeAll(9) == 9);
  run.Finish(0, 0, {0.5, 0.5, 0.5 + 1e-7});
  run.Finish(1, 0, {0, 0, 1e-3});
  const uint64_t size = run.store->journal().size_bytes();
  CHECK_THAT(run.Claim(), Catch::Contains("1 more group of 2: 1 ready") && Catch::Contains("1 group with equal rewards (0 dropped before)"));
  CHECK(run.store->journal().size_bytes() == size);
  CHECK(buffer::GroupsWanted(run.state()) == 1);
  CHECK_FALSE(buffer::IsExhausted(run.state()));
  run.Finish(2);
  REQUIRE(run.Claim().empty());
  CHECK(run.ClaimedBy(0) == Admissions{1, 2});
  CHECK(run.state().group(0).state == GroupState::kDropped);
  CHECK(run.state().dropped().at(0).why == "zero-std");
  CHECK(run.state().totals().dropped.at("zero-std") == buffer::Account{3, 6});
  run.Commit();
  run.CompactAndReopen();
  CHECK(run.state().dropped().at(0).why == "zero-std");
  CHECK(run.DroppedFor("zero-std") == 1);
  CHECK_THAT(run.Claim(), Catch::Contains("0 groups with equal rewards (1 dropped before)"));

  // A synchronous run makes as many new groups as did not pass.
  Run synchronous(With([](auto& config) { config.filter = buffer::GroupFilter::kNonzeroStd, config.in_flight = 6; }));
  REQUIRE(synchronous.TakeAll() == 6);
  synchronous.Finish(0), synchronous.Finish(1, 0, {1, 1, 1});
  CHECK(synchronous.TakeAll() == 3);
}

TEST_CASE("a filter that a claim asks for holds from then on, over a restart and a compaction") {
  Run run(SmallConfig());
  REQUIRE(run.TakeAll(6) == 6);
  run.Finish(0, 0, {1, 1, 1}), run.Finish(1);
  const auto set = [&](const std::string& name) { run.store->Transact([&](buffer::Batch& batch) { buffer::SetFilter(run.state(), batch, name); }); };
  CHECK(buffer::GroupsWanted(run.state()) == 0);
  set("nonzero-std");
  CHECK(buffer::GroupsWanted(run.state()) == 1);
  run.Reopen();
  CHECK(run.state().filter() == buffer::GroupFilter::kNonzeroStd);
  run.CompactAndReopen();
  CHECK(run.state().filter() == buffer::GroupFilter::kNonzeroStd);
  const uint64_t size = run.store->journal().size_bytes();
  set("nonzero-std"), set("");
  CHECK(run.store->journal().size_bytes() == size);
  set("none");
  CHECK(buffer::GroupsWanted(run.state()) == 0);
  CHECK_THROWS_AS(set("other"), Error);
}

TEST_CASE("orders of issue, each as it is defined; random follows from the run's seed") {
  using buffer::TakeOrder;
  const auto issued = [](TakeOrder order, uint64_t seed = 1) {
    buffer::RunConfig config = SmallConfig();
    config.seed = seed;
    config.in_flight = 6;
    Run run(config);
    run.TakeAll(6);
    run.PutOne(Generate(run.Held(0, 0), 5, 3));
    run.PutOne(run.Held(0, 1));
    run.PutOne(Generate(run.Held(0, 2), 2, 1));
    run.PutOne(Generate(run.Held(1, 0), 9, 2));
    run.PutOne(run.Held(1, 1)), run.PutOne(run.Held(1, 2));
    std::string text;
    for (const uint64_t key : run.TakeKeys(6, order)) {
      text += std::to_string(buffer::AdmissionOf(key)) + "." + std::to_string(buffer::IndexOf(key)) + " ";
    }
    return text;
  };
  CHECK(issued(TakeOrder::kPartialsFirst) == "0.0 0.2 1.0 0.1 1.1 1.2 ");
  CHECK(issued(TakeOrder::kOldest) == "0.2 1.0 0.0 0.1 1.1 1.2 ");
  CHECK(issued(TakeOrder::kLongest) == "1.0 0.0 0.2 0.1 1.1 1.2 ");
  CHECK(issued(TakeOrder::kShortest) == "0.1 1.1 1.2 0.2 0.0 1.0 ");
  CHECK(issued(TakeOrder::kFifo) == "0.0 0.1 0.2 1.0 1.1 1.2 ");
  std::vector<std::pair<uint64_t, std::string>> expected;
  for (int64_t i = 0; i < 6; ++i) {
    const uint64_t uid = record::RolloutUid("test", "p" + std::to_string(i / 3), 0, i % 3, 0);
    expected.emplace_back(RandomBits(1, RandomUse::kTakeOrder, uid, 2), std::to_string(i / 3) + "." + std::to_string(i % 3) + " ");
  }
  std::sort(expected.begin(), expected.end());
  std::string text;
  for (const auto& [bits, name] : expected) text += name;
  CHECK(issued(TakeOrder::kRandom) == text);
  CHECK(issued(TakeOrder::kRandom, 2) != text);
}

TEST_CASE("a dropped group's leases end, its late records change nothing, it is kept for a while, and counted for ever") {
  Run run(SmallConfig());
  REQUIRE(run.TakeAll(9) == 9);
  run.PutOne(Generate(run.Held(0, 1), 4, 0));
  run.Finish(1);
  CHECK(run.Drop({0, 1}, "wrong label") == 2);
  CHECK(run.Drop({0}, "again") == 0);
  CHECK(run.state().num_leased() == 3);
  CHECK(run.state().group(0).members[0].state == RolloutState::kQueued);
  CHECK(run.state().group(0).members[1].state == RolloutState::kPartial);
  CHECK(run.state().partial().empty());
  CHECK(run.state().queued().empty());
  CHECK(run.state().ready().empty());
  CHECK(run.state().NumViableGroups() == 1);
  CHECK(run.state().totals().dropped.at("wrong label") == buffer::Account{6, 4 + 6});
  const auto late = Put(*run.store, {Scored(Generate(run.Held(0, 0), 2, 0), 1), Scored(Generate(run.Held(1, 0), 2, 0), 0.5)});
  CHECK(late.accepted == 0);
  CHECK(late.superseded == 1);
  CHECK(late.repeated == 1);
  CHECK(run.state().group(1).members[0].reward == 0);
  const auto check_kept = [&] {
    CHECK(run.state().dropped().at(1).why == "wrong label");
    CHECK(run.state().group(0).state == GroupState::kDropped);
    CHECK(run.state().partial().empty());
    CHECK(run.state().queued().empty());
    CHECK(run.DroppedFor("wrong label") == 2);
  };
  run.Reopen();
  check_kept();
  run.CompactAndReopen();
  check_kept();
  // Kept as long as the groups of step 0: until a checkpoint has step 1 and one more.
  const uint64_t uid = run.Held(0, 0).uid;
  for (int64_t step = 0; step < 2; ++step) {
    REQUIRE(run.state().FindRollout(uid));
    run.TakeAll(6);
    for (uint64_t admission = 2; admission < 9; ++admission) {
      if (run.state().groups().contains(admission) && run.state().group(admission).state == GroupState::kOpen) run.Finish(admission);
    }
    REQUIRE(run.Claim().empty());
    CHECK_THROWS_AS(run.Drop(run.ClaimedBy(step), "claimed"), Error);
    run.Commit(true);
  }
  CHECK_FALSE(run.state().FindRollout(uid));
  CHECK(run.state().dropped().empty());
  CHECK(run.DroppedFor("wrong label") == 2);
  CHECK(Put(*run.store, {Scored(Generate(run.Held(0, 0), 2, 0), 1)}).superseded == 1);
}

TEST_CASE("a group that is dropped through the hub is lost to who generates it") {
  Run run(SmallConfig());
  buffer::Hub hub(*run.store, {});
  const auto call = [&](const std::string& op, stream::Map arguments) {
    stream::Map map = {{"op", op}, {"session", uint64_t{5}}, {"worker", "g"}, {"role", "generate"}};
    for (auto& item : arguments) map.push_back(std::move(item));
    return hub.Answer(map);
  };
  call("lease", {{"request", uint64_t{1}}, {"want", 6}, {"held", stream::Array{}}, {"version", stream::Value()}});
  std::vector<uint64_t> uids, of_group_1;
  for (const uint64_t key : run.state().leases().at(5).held) {
    uids.push_back(run.state().rollout(key).uid);
    if (buffer::AdmissionOf(key) == 1) of_group_1.push_back(uids.back());
  }
  const stream::Map drop = {{"groups", buffer::UidArray({run.state().group(1).group_id})}, {"why", "test"}};
  CHECK(buffer::MapFields(call("drop", drop), "answer").Int("dropped") == 1);
  CHECK(buffer::MapFields(call("drop", drop), "answer").Int("dropped") == 0);
  const stream::Map answer = call("lease", {{"request", uint64_t{2}}, {"want", 0}, {"held", buffer::UidArray(uids)}, {"version", stream::Value()}});
  CHECK(buffer::ParseUids(buffer::MapFields(answer, "answer").Array("lost")) == of_group_1);
}

/// Four steps of two groups, all trained, steps 0 and 1 and 2 in checkpoints.
void TrainFour(Run& run) {
  for (int64_t step = 0; step < 4; ++step) {
    run.TakeAll(6);
    for (const auto& [admission, group] : std::map(run.state().groups())) {
      if (group.state == GroupState::kOpen) run.Finish(admission, static_cast<uint64_t>(step));
    }
    REQUIRE(run.Claim().empty());
    run.Commit(step < 3);
  }
}

TEST_CASE("rewind: later steps' groups are ready again in their order, what was counted is subtracted, old commits are refused") {
  Run run(With([](auto& config) { config.retain_steps = 100; }), 20);
  TrainFour(run);
  const std::vector<Admissions> claims = {run.ClaimedBy(0), run.ClaimedBy(1), run.ClaimedBy(2), run.ClaimedBy(3)};
  const record::Step old_step = run.StepFor(2);
  run.TakeAll(6);
  run.Finish(8, 4), run.Finish(9, 4);
  REQUIRE(run.Claim().empty());  // step 4, not committed
  run.TakeAll(3);
  run.PutOne(Generate(run.Held(10, 0), 3, 4));
  REQUIRE(run.state().totals().trained_rollouts == 24);
  run.Rewind(2, 2);
  const auto check = [&] {
    CHECK_THROWS_WITH(run.Commit(old_step), Catch::Contains("undone by a rewind"));
    CHECK(run.state().next_step() == 2);
    CHECK(run.state().first_unconsumed_step() == 2);
    CHECK(run.state().policy_version() == 2);
    CHECK(run.state().totals().trained_rollouts == 12);
    CHECK(run.state().totals().trained_tokens == 24);
    CHECK(run.state().totals().trained_groups == 4);
    CHECK(run.state().totals().trained_reward == 4);
    CHECK(run.state().totals().trained_lengths.count == 12);
    CHECK(run.state().totals().trained_lengths.tokens == 24);
    CHECK(run.state().totals().trained_staleness == std::map<int64_t, int64_t>{{0, 12}});
    CHECK(run.state().ready().size() == 6);
    CHECK(run.state().group(4).state == GroupState::kReady);
  };
  check();
  run.Reopen();
  check();
  run.CompactAndReopen();
  check();
  for (int64_t step = 2; step < 4; ++step) {
    REQUIRE(run.Claim().empty());
    CHECK(run.ClaimedBy(step) == claims[static_cast<size_t>(step)]);
    run.Commit();
  }
  REQUIRE(run.Claim().empty());
  CHECK(run.ClaimedBy(4) == Admissions{8, 9});
  CHECK(run.state().totals().trained_rollouts == 24);
}

TEST_CASE("rewind: what has tokens of versions that the trainer has not reached again is not claimed, and keeps no step waiting") {
  Run run(With([](auto& config) { config.retain_steps = 100; }), 20);
  TrainFour(run);
  run.TakeAll(6);
  run.Finish(8, 4);
  run.Rewind(3, 3);
  CHECK(run.state().left_version() == 4);
  run.CompactAndReopen();
  CHECK(run.state().left_version() == 4);
  REQUIRE(run.Claim(1).empty());
  CHECK_THAT(run.Claim(1), Catch::Contains("the commit of step 3"));
  run.store->Transact([&](buffer::Batch& batch) { buffer::AbandonClaim(run.state(), batch, run.state().FindClaim(3)->id, "test"); });
  // Only one of the two returned groups is left: group 8 has tokens of version 4, and the policy is version 3.
  run.Drop({6}, "test");
  CHECK_THAT(run.Claim(), Catch::Contains("1 more group of 2"));
  CHECK(buffer::GroupsWanted(run.state()) == 1);
  run.Finish(9, 3);
  REQUIRE(run.Claim().empty());
  CHECK_FALSE(run.ClaimedBy(3).contains(8));
  run.Commit();
  CHECK(run.state().left_version() == 0);
  REQUIRE(run.Claim(1).empty());
  CHECK(run.ClaimedBy(4) == Admissions{8});
}

TEST_CASE("rewind: a claim of the new course need not become the weights of the old one, until it is committed") {
  Run run(With([](auto& config) { config.retain_steps = 100; }), 20);
  TrainFour(run);
  run.TakeAll(6);
  run.Finish(8, 4), run.Finish(9, 4);
  REQUIRE(run.Claim().empty());
  CHECK(buffer::MustRepeat(run.state(), *run.state().FindClaim(4)));
  run.Rewind(3, 3);
  REQUIRE(run.Claim().empty());
  CHECK_FALSE(buffer::MustRepeat(run.state(), *run.state().FindClaim(3)));
  CHECK(buffer::MustRepeat(run.state(), *run.state().FindClaim(2)));
  run.Commit();
  CHECK(buffer::MustRepeat(run.state(), *run.state().FindClaim(3)));
}

TEST_CASE("rewind: versions of tokens that no claim can have any more are not waited for") {
  Run run(With([](auto& config) { config.retain_steps = 100; }), 20);
  TrainFour(run);
  run.TakeAll(9);
  run.Finish(8, 4), run.Finish(9, 4);
  REQUIRE(run.Claim().empty());
  for (uint64_t i = 0; i < 3; ++i) {
    const record::Rollout next = Generate(run.Held(10, i), 2, 5);  // by a version that was published, but never committed
    REQUIRE(Put(*run.store, {Delta(run.Held(10, i), next)}).accepted == 1);
    run.PutOne(Failed(next));
  }
  run.store->Transact([&](buffer::Batch& batch) { buffer::AbandonClaim(run.state(), batch, run.state().FindClaim(4)->id, "test"); });
  run.Rewind(3, 3);
  CHECK(run.state().left_version() == 4);
}

TEST_CASE("rewind is refused when a needed step is forgotten, an earlier one is not committed, or the checkpoint is not of this course") {
  Run run(SmallConfig(), 20);
  TrainFour(run);  // one consumed step is kept beside the newest
  REQUIRE(run.state().first_kept_step() == 2);
  const uint64_t size = run.store->journal().size_bytes();
  CHECK_THROWS_WITH(run.Rewind(1, 1), Catch::Contains("groups of steps 1 to 1 are no longer kept; init --retain-steps was 1"));
  CHECK_THROWS_WITH(run.Rewind(3, 7), Catch::Contains("it has policy version 7, but step 2 made version 3"));
  CHECK_THROWS_WITH(run.Rewind(5, 5), Catch::Contains("claimed only 4 steps"));
  run.Rewind(4, 4);  // nothing to undo
  CHECK(run.store->journal().size_bytes() == size);
  run.TakeAll(6);
  run.Finish(8, 4), run.Finish(9, 4);
  REQUIRE(run.Claim().empty());
  CHECK_THROWS_WITH(run.Rewind(5, 5), Catch::Contains("its commit was lost"));
  run.Rewind(2, 2);
  CHECK(run.state().next_step() == 2);
}

TEST_CASE("a rewind sets newer checkpoints aside, and reads only whole ones of its run") {
  const ScratchDir scratch;
  const auto make = [&](const std::string& name, const std::string& manifest) {
    SystemFiles().MakeDirectory(scratch.Path(name));
    ReplaceFile(SystemFiles(), scratch.Path(name + "/manifest.json"), manifest, false);
  };
  make("step-2", R"({"step": 2, "version": 2, "run": "test"})");
  make("step-4", R"({"step": 4, "version": 4, "run": "test"})");
  make("step-6", R"({"step": 6, "version": 6, "run": "test"})");
  make("model-files", "no json");
  const buffer::RewindTarget target = buffer::ReadRewindTarget(SystemFiles(), scratch.Path("step-4/"), "test");
  CHECK(target.name == "step-4");
  CHECK(target.step == 4);
  CHECK(target.version == 4);
  CHECK_THROWS_WITH(buffer::ReadRewindTarget(SystemFiles(), scratch.Path("step-4"), "other"), Catch::Contains("of run \"test\""));
  CHECK_THROWS_WITH(buffer::ReadRewindTarget(SystemFiles(), scratch.Path(""), "test"), Catch::Contains("no whole checkpoint"));
  CHECK(buffer::SetNewerAside(SystemFiles(), scratch.Path("step-4/"), 4) == std::vector<std::string>{"step-6"});
  CHECK(buffer::NewestCheckpoint(SystemFiles(), scratch.Path(""))->name == "step-4");
  CHECK(SystemFiles().Exists(scratch.Path("step-6/manifest.json.rewound")));
  CHECK(buffer::SetNewerAside(SystemFiles(), scratch.Path("step-4/"), 4).empty());
}

TEST_CASE("policies that are off are not written, and a run of an earlier build has them off") {
  const stream::Map map = buffer::ToMap(SmallConfig());
  for (const char* key : {"max_staleness", "max_resumes", "filter"}) CHECK(stream::Find(map, key) == nullptr);
  CHECK(stream::Find(map, "admission")->AsString() == "first-finished");
  CHECK(buffer::RunConfigFromMap(map) == SmallConfig());
  const buffer::RunConfig config = With([](auto& c) {
    c.admission = {Admission::Kind::kWindow, 5}, c.max_staleness = 0, c.max_resumes = 2, c.filter = buffer::GroupFilter::kNonzeroStd;
  });
  CHECK(buffer::RunConfigFromMap(buffer::ToMap(config)) == config);
  stream::Map newer = map;
  stream::Set(newer, "admission", "by-mood");
  CHECK_THROWS_WITH(buffer::RunConfigFromMap(newer), Catch::Contains("by-mood"));
}

TEST_CASE("the names of admissions, and what does not go together") {
  CHECK(buffer::ParseAdmission("assigned:0") == Admission{Admission::Kind::kAssigned, 0});
  CHECK(buffer::ParseAdmission("window:64") == Admission{Admission::Kind::kWindow, 64});
  CHECK(buffer::Text(*buffer::ParseAdmission("assigned:3")) == "assigned:3");
  for (const char* text : {"assigned", "assigned:", "assigned:-1", "assigned:1x", "window:0", "window:99999999999", "fifo", ""}) {
    INFO(text);
    CHECK_FALSE(buffer::ParseAdmission(text));
  }
  const auto check = [](void (*change)(buffer::RunConfig&)) { buffer::CheckPolicies(With(change)); };
  CHECK_NOTHROW(check([](auto& c) { c.admission = {Admission::Kind::kWindow, 2}; }));
  CHECK_THROWS_WITH(check([](auto& c) { c.admission = {Admission::Kind::kWindow, 1}; }), Catch::Contains("may not take"));
  CHECK_THROWS_WITH(check([](auto& c) { c.admission = {Admission::Kind::kWindow, 3}, c.run_ahead = 1; }), Catch::Contains("may not take"));
  CHECK_THROWS_WITH(check([](auto& c) { c.admission = {Admission::Kind::kAssigned, 1}, c.in_flight = 6; }), Catch::Contains("room for one step"));
  CHECK_THROWS_WITH(check([](auto& c) {
                      c.admission = {Admission::Kind::kAssigned, 2}, c.max_staleness = 1;
                    }),
                    Catch::Contains("2 steps after they were issued"));
}

}  // namespace
}  // namespace april
