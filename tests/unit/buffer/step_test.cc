#include <catch2/catch.hpp>

#include "base/error.h"
#include "buffer/claiming.h"
#include "buffer_support.h"

namespace april {
namespace {

using buffer::GroupState;
using namespace test;

/// Takes what is asked for and finishes all of it, each rollout with its reward.
void Finish(ScratchBuffer& scratch, int64_t count) {
  std::vector<record::Record> records;
  for (const record::Rollout& rollout : Take(*scratch.store, count, RandomId())) {
    records.push_back(Scored(Generate(rollout, 1 + static_cast<int64_t>(rollout.uid % 5), 0), static_cast<double>(rollout.uid % 2)));
  }
  Put(*scratch.store, records);
}

std::string Claim(ScratchBuffer& scratch, int64_t groups, const std::optional<std::string>& parent = std::nullopt) {
  std::string waits_for;
  scratch.store->Transact([&](buffer::Batch& batch) { waits_for = buffer::MakeClaim(scratch.state(), batch, groups, parent); });
  return waits_for;
}

record::Step StepFor(const ScratchBuffer& scratch, int64_t index, const std::optional<std::string>& checkpoint = std::nullopt) {
  record::Step step;
  step.claim = scratch.state().FindClaim(index)->id;
  step.step = index;
  step.version = static_cast<uint64_t>(index) + 1;
  step.weights = 1000 + static_cast<uint64_t>(index);
  step.checkpoint = checkpoint;
  return step;
}

bool Commit(ScratchBuffer& scratch, const record::Step& step) {
  bool is_new = false;
  scratch.store->Transact([&](buffer::Batch& batch) { is_new = buffer::CommitStep(scratch.state(), batch, step); });
  return is_new;
}

ErrorKind CommitError(ScratchBuffer& scratch, const record::Step& step) {
  try {
    Commit(scratch, step);
  } catch (const Error& error) {
    return error.kind();
  }
  return ErrorKind::kStopped;
}

std::vector<std::string> AllRecords(ScratchBuffer& scratch, int64_t step, uint64_t max_bytes) {
  std::vector<std::string> all;
  for (;;) {
    auto page = buffer::ClaimRecords(*scratch.store, *scratch.state().FindClaim(step), static_cast<int64_t>(all.size()), max_bytes);
    if (page.empty()) return all;
    all.insert(all.end(), page.begin(), page.end());
  }
}

TEST_CASE("a claim short of its number changes nothing and says what it awaits") {
  ScratchBuffer scratch;
  Finish(scratch, 3);
  const uint64_t size = scratch.store->journal().size_bytes();
  CHECK_THAT(Claim(scratch, 2), Catch::Contains("1 more group of 2") && Catch::Contains("1 ready"));
  CHECK(scratch.store->journal().size_bytes() == size);
  CHECK(scratch.state().next_step() == 0);
}

TEST_CASE("a claim is its groups by id with their scored members by index, in pages of any size, the same after a restart") {
  ScratchBuffer scratch;
  Finish(scratch, 24);
  REQUIRE(Claim(scratch, 8).empty());
  const auto records = AllRecords(scratch, 0, 1 << 20);
  REQUIRE(records.size() == 8 + 24);
  uint64_t last_group = 0;
  for (size_t i = 0; i < records.size(); i += 4) {
    const auto group = std::get<record::Group>(record::DecodeRecord(records[i]));
    CHECK(group.group_id > last_group);
    CHECK(group.members == 3);
    CHECK(group.claim == scratch.state().FindClaim(0)->id);
    for (size_t j = 0; j < 3; ++j) {
      const auto rollout = std::get<record::Rollout>(record::DecodeRecord(records[i + 1 + j]));
      CHECK(rollout.group_id == group.group_id);
      CHECK(rollout.index == static_cast<int64_t>(j));
      CHECK(rollout.reward);
    }
    last_group = group.group_id;
  }
  scratch.Reopen();
  for (const uint64_t max_bytes : {1, 500, 900, 1 << 20}) CHECK(AllRecords(scratch, 0, max_bytes) == records);
}

TEST_CASE("a claimed group takes no change, and is trained once") {
  ScratchBuffer scratch;
  const auto issued = Take(*scratch.store, 6, 10);
  std::vector<record::Record> done;
  for (const auto& rollout : issued) done.push_back(Scored(Generate(rollout, 2, 0), 1));
  Put(*scratch.store, done);
  REQUIRE(Claim(scratch, 2).empty());
  const auto late = Put(*scratch.store, {Scored(Generate(issued[0], 2, 0), 0.5)});
  CHECK(late.accepted == 0);
  CHECK(late.repeated == 1);  // its tokens are there; the new reward comes too late
  CHECK_THAT(Claim(scratch, 2), Catch::Contains("the commit of step 0"));
  CHECK(Commit(scratch, StepFor(scratch, 0)));
  CHECK(scratch.state().group(0).state == GroupState::kTrained);
  CHECK(scratch.state().policy_version() == 1);
  CHECK_FALSE(Commit(scratch, StepFor(scratch, 0)));
  CHECK(scratch.state().totals().trained_rollouts == 6);
  CHECK(scratch.state().totals().trained_tokens == 12);
}

TEST_CASE("another claim's commit is refused, and so is a step that was recomputed to other weights") {
  ScratchBuffer scratch;
  Finish(scratch, 6);
  REQUIRE(Claim(scratch, 2).empty());
  record::Step step = StepFor(scratch, 0);
  record::Step other = step;
  other.claim = "0000000000000000";
  CHECK(CommitError(scratch, other) == ErrorKind::kRuntime);
  other = step;
  other.step = 1;
  CHECK(CommitError(scratch, other) == ErrorKind::kData);
  CHECK(Commit(scratch, step));
  other = step;
  other.weights ^= 1;
  CHECK(CommitError(scratch, other) == ErrorKind::kData);
}

TEST_CASE("abandoned groups are claimed again first, and the old claim's commit is refused") {
  ScratchBuffer scratch;
  Finish(scratch, 6);
  REQUIRE(Claim(scratch, 2).empty());
  const record::Step old_step = StepFor(scratch, 0);
  const auto abandon = [&] {
    scratch.store->Transact([&](buffer::Batch& batch) { buffer::AbandonClaim(scratch.state(), batch, old_step.claim, "test"); });
  };
  abandon();
  CHECK_THROWS_AS(abandon(), Error);
  CHECK(scratch.state().next_step() == 0);
  CHECK(scratch.state().ready().size() == 2);
  Finish(scratch, 3);
  REQUIRE(Claim(scratch, 2).empty());
  CHECK(scratch.state().group(0).state == GroupState::kClaimed);
  CHECK(scratch.state().group(1).state == GroupState::kClaimed);
  CHECK(scratch.state().group(2).state == GroupState::kReady);
  CHECK(CommitError(scratch, old_step) == ErrorKind::kRuntime);
}

TEST_CASE("steps are consumed by the checkpoint that contains them, kept for a while, and then forgotten") {
  ScratchBuffer scratch(SmallConfig(), 12);
  for (int64_t step = 0; step < 4; ++step) {
    Finish(scratch, 6);
    REQUIRE(Claim(scratch, 2).empty());
    Commit(scratch, StepFor(scratch, step, step % 2 == 1 ? std::optional("step-" + std::to_string(step + 1)) : std::nullopt));
  }
  // A checkpoint with steps 0 to 3; one consumed step is kept beside the newest.
  CHECK(scratch.state().first_unconsumed_step() == 4);
  CHECK(scratch.state().first_kept_step() == 3);
  CHECK(scratch.state().groups().size() == 2);
  CHECK(scratch.state().num_groups(GroupState::kConsumed) == 2);
  CHECK(scratch.state().totals().forgotten_groups == 6);
  scratch.Reopen();
  CHECK(scratch.state().first_kept_step() == 3);
  CHECK(scratch.state().totals().trained_rollouts == 24);
}

TEST_CASE("a record of a forgotten rollout is too late, not unknown") {
  ScratchBuffer scratch(SmallConfig(), 12);
  const auto issued = Take(*scratch.store, 6, 10);
  std::vector<record::Record> done;
  for (const auto& rollout : issued) done.push_back(Scored(Generate(rollout, 2, 0), 1));
  Put(*scratch.store, done);
  REQUIRE(Claim(scratch, 2).empty());
  Commit(scratch, StepFor(scratch, 0, "step-1"));
  for (int64_t step = 1; step < 3; ++step) {
    Finish(scratch, 6);
    REQUIRE(Claim(scratch, 2).empty());
    Commit(scratch, StepFor(scratch, step, "step-" + std::to_string(step + 1)));
  }
  REQUIRE_FALSE(scratch.state().FindRollout(issued[0].uid));
  const auto counts = Put(*scratch.store, {done[0]});
  CHECK(counts.superseded == 1);
}

TEST_CASE("what has to be emitted again follows from the newest checkpoint and the commits") {
  ScratchBuffer scratch(SmallConfig(), 12);
  for (int64_t step = 0; step < 3; ++step) {
    Finish(scratch, 6);
    REQUIRE(Claim(scratch, 2).empty());
    if (step < 2) Commit(scratch, StepFor(scratch, step, step == 0 ? std::optional<std::string>("step-1") : std::nullopt));
  }
  const auto first = [&](std::optional<int64_t> checkpoint_step) {
    return buffer::FirstStepToEmit(scratch.state(), checkpoint_step ? std::optional(buffer::CheckpointInfo{"c", *checkpoint_step}) : std::nullopt);
  };
  CHECK(first(std::nullopt) == 1);  // step 0 is known to be in a checkpoint, step 1 is trained, step 2 claimed
  CHECK(first(1) == 1);
  CHECK(first(2) == 2);
  CHECK(first(3) == 2);  // trained and saved, but its commit was lost: the trainer repeats its step record
  CHECK_THROWS_WITH(first(4), Catch::Contains("contains 4 steps"));
}

TEST_CASE("the newest whole checkpoint is the one with a manifest and the highest step") {
  const ScratchDir scratch;
  CHECK_FALSE(buffer::NewestCheckpoint(SystemFiles(), scratch.Path("none")));
  const auto make = [&](const std::string& name, const std::string& manifest) {
    SystemFiles().MakeDirectory(scratch.Path(name));
    if (!manifest.empty()) ReplaceFile(SystemFiles(), scratch.Path(name + "/manifest.json"), manifest, false);
  };
  make("step-00000002", R"({"step": 2, "version": 2})");
  make("step-00000010", R"({"step": 10, "version": 10})");
  make("step-00000012", "");
  make("step-00000011", "cut");
  for (const char* name : {"step-00000010-good", "step-", "best"}) make(name, R"({"step": 20, "version": 20})");
  const auto newest = buffer::NewestCheckpoint(SystemFiles(), scratch.Path(""));
  REQUIRE(newest);
  CHECK(newest->name == "step-00000010");
  CHECK(newest->step == 10);

  // One whose files do not have the sizes that its manifest lists is damaged.
  const char* const listing = R"({"step": 13, "files": [{"name": "model.safetensors", "size": 5}, {"name": "adapter/factors", "size": 3}]})";
  make("step-00000013", listing);
  const auto name_of_newest = [&] { return buffer::NewestCheckpoint(SystemFiles(), scratch.Path(""))->name; };
  const auto write = [&](const std::string& name, const std::string& contents) {
    ReplaceFile(SystemFiles(), scratch.Path("step-00000013/" + name), contents, false);
  };
  SystemFiles().MakeDirectory(scratch.Path("step-00000013/adapter"));
  write("model.safetensors", "whole");
  CHECK(name_of_newest() == "step-00000010");
  write("adapter/factors", "a+b");
  CHECK(name_of_newest() == "step-00000013");
  write("model.safetensors", "who");
  CHECK(name_of_newest() == "step-00000010");
  CHECK(buffer::NewestCheckpoint(SystemFiles(), scratch.Path(""), 9)->name == "step-00000002");
}

TEST_CASE("rollouts are issued in order: unfinished, members of open groups, new groups; synchronous runs open a step's groups once") {
  ScratchBuffer scratch;
  auto first = Take(*scratch.store, 4, 10);  // group 0, and one member of group 1
  CHECK(scratch.state().groups().size() == 2);
  Put(*scratch.store, {Generate(first[2], 3, 0)});
  const auto second = Take(*scratch.store, 4, 11);
  REQUIRE(second.size() == 4);
  CHECK(second[0].uid == first[2].uid);
  CHECK(second[1].group_id == first[3].group_id);
  CHECK(second[2].group_id == first[3].group_id);
  CHECK(second[3].group_id != first[3].group_id);

  buffer::RunConfig config = SmallConfig();
  config.in_flight = config.Need();
  ScratchBuffer synchronous(config);
  CHECK(Take(*synchronous.store, 100, 10).size() == 6);
  CHECK(Take(*synchronous.store, 100, 11).empty());
  CHECK(buffer::GroupsWanted(synchronous.state()) == 2);
}

TEST_CASE("groups leave the queue epoch by epoch, each epoch in its own order, every prompt once") {
  ScratchBuffer scratch(SmallConfig(), 0);
  AddPrompts(*scratch.store, 5, 3, 42);
  AddPrompts(*scratch.store, 2);
  const buffer::PromptQueue& queue = scratch.state().queue();
  REQUIRE(queue.num_groups() == 17);
  std::vector<std::vector<int64_t>> epochs(3);
  for (int64_t place = 0; place < 15; ++place) {
    const auto group = queue.At(place);
    CHECK(group.epoch == place / 5);
    epochs[static_cast<size_t>(group.epoch)].push_back(group.prompt);
  }
  CHECK(epochs[0] != epochs[1]);
  for (auto& epoch : epochs) {
    std::sort(epoch.begin(), epoch.end());
    CHECK(epoch == std::vector<int64_t>{0, 1, 2, 3, 4});
  }
  CHECK(queue.At(15).prompt == 5);
  CHECK(queue.At(16).prompt == 6);
  CHECK(queue.At(16).epoch == 0);
  const auto order = [&](int64_t place) { return queue.At(place).prompt; };
  const int64_t before = order(7);
  order(2), order(12);
  CHECK(order(7) == before);
  scratch.Reopen();
  CHECK(scratch.state().queue().At(7).prompt == before);
}

TEST_CASE("an addition without its plan does not count") {
  ScratchBuffer scratch(SmallConfig(), 3);
  record::Prompt prompt;
  prompt.prompt_id = "unfinished";
  prompt.prompt_tokens = {1};
  scratch.store->Transact([&](buffer::Batch& batch) { batch.Add(buffer::PromptEntry{99, prompt.prompt_id, 1}, record::EncodeRecord(prompt)); });
  scratch.Reopen();
  CHECK(scratch.state().queue().num_prompts() == 3);
  CHECK_FALSE(scratch.state().queue().HasPrompt("unfinished"));
  AddPrompts(*scratch.store, 2);
  CHECK(scratch.state().queue().num_groups() == 5);
}

TEST_CASE("a plan that brings a prompt of the queue again is refused, whole") {
  ScratchBuffer scratch(SmallConfig(), 2);
  const auto add = [&](const std::vector<std::string>& ids) {
    scratch.store->Transact([&](buffer::Batch& batch) {
      for (const std::string& id : ids) {
        record::Prompt prompt;
        prompt.prompt_id = id;
        prompt.prompt_tokens = {1};
        batch.Add(buffer::PromptEntry{9, id, 1}, record::EncodeRecord(prompt));
      }
      batch.Add(buffer::PlanEntry{9, static_cast<int64_t>(ids.size()), 1, {}, "test"});
    });
  };
  CHECK_THROWS_WITH(add({"new", "p1"}), Catch::Contains("has already"));
  CHECK_THROWS_WITH(add({"new", "new"}), Catch::Contains("has already"));
  add({"new"});
  CHECK(scratch.state().queue().num_prompts() == 3);
}

}  // namespace
}  // namespace april
