#include <algorithm>
#include <catch2/catch.hpp>

#include "base/error.h"
#include "buffer/admission.h"
#include "policy_run.h"

namespace april {
namespace {

using buffer::GroupState;
using namespace test;

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
  make("step-6-good", R"({"step": 6, "version": 6, "run": "test"})");
  make("step-3", R"({"step": 2, "version": 2, "run": "test"})");  // a renamed copy
  const buffer::RewindTarget target = buffer::ReadRewindTarget(SystemFiles(), scratch.Path("step-4/"), "test");
  CHECK(target.name == "step-4");
  CHECK(target.step == 4);
  CHECK(target.version == 4);
  CHECK_THROWS_WITH(buffer::ReadRewindTarget(SystemFiles(), scratch.Path("step-4"), "other"), Catch::Contains("of run \"test\""));
  CHECK_THROWS_WITH(buffer::ReadRewindTarget(SystemFiles(), scratch.Path(""), "test"), Catch::Contains("no whole checkpoint"));
  CHECK_THROWS_WITH(buffer::ReadRewindTarget(SystemFiles(), scratch.Path("step-6-good"), "test"), Catch::Contains("not called like a checkpoint"));
  CHECK_THROWS_WITH(buffer::ReadRewindTarget(SystemFiles(), scratch.Path("step-3"), "test"), Catch::Contains("is called step-3 and holds step 2"));
  const auto hint = [&](const std::string& name) {
    try {
      buffer::ReadRewindTarget(SystemFiles(), scratch.Path(name), "test");
    } catch (const Error& error) {
      return error.hint();
    }
    return std::string("no error");
  };
  for (const char* other : {"step-9", "model-files"}) CHECK_THAT(hint(other), Catch::Contains("for example " + scratch.Path("step-6")));
  CHECK_THAT(hint(""), Catch::EndsWith("/step-6"));
  CHECK(buffer::SetNewerAside(SystemFiles(), scratch.Path("step-4/"), 4) == std::vector<std::string>{"step-6"});
  CHECK(buffer::NewestCheckpoint(SystemFiles(), scratch.Path(""))->name == "step-4");
  CHECK(SystemFiles().Exists(scratch.Path("step-6/manifest.json.rewound")));
  CHECK(SystemFiles().Exists(scratch.Path("step-6-good/manifest.json")));
  CHECK(buffer::SetNewerAside(SystemFiles(), scratch.Path("step-4/"), 4).empty());
}

TEST_CASE("a rewind from within a checkpoint's folder, to .") {
  const ScratchDir scratch;
  for (const int64_t step : {2, 4}) {
    const std::string number = std::to_string(step), path = scratch.Path("step-" + number);
    SystemFiles().MakeDirectory(path);
    ReplaceFile(SystemFiles(), path + "/manifest.json", R"({"run": "test", "step": )" + number + R"(, "version": )" + number + "}", false);
  }
  struct Within {
    explicit Within(const std::string& path) { std::filesystem::current_path(path); }
    ~Within() { std::filesystem::current_path(before); }
    const std::filesystem::path before = std::filesystem::current_path();
  };
  const Within within(scratch.Path("step-2"));
  CHECK(buffer::ReadRewindTarget(SystemFiles(), ".", "test").name == "step-2");
  CHECK(buffer::ReadRewindTarget(SystemFiles(), "./", "test").step == 2);
  CHECK(buffer::SetNewerAside(SystemFiles(), ".", 2) == std::vector<std::string>{"step-4"});
  CHECK(SystemFiles().Exists(scratch.Path("step-4/manifest.json.rewound")));
}

}  // namespace
}  // namespace april
