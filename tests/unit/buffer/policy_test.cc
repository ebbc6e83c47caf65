#include <algorithm>
#include <catch2/catch.hpp>

#include "base/error.h"
#include "buffer/admission.h"
#include "buffer/map_fields.h"
#include "policy_run.h"

namespace april {
namespace {

using buffer::Admission;
using buffer::GroupState;
using namespace test;

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
