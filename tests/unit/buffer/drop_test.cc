#include <algorithm>
#include <catch2/catch.hpp>

#include "base/error.h"
#include "buffer/hub.h"
#include "buffer/map_fields.h"
#include "policy_run.h"

namespace april {
namespace {

using buffer::GroupState;
using buffer::RolloutState;
using namespace test;

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

}  // namespace
}  // namespace april
