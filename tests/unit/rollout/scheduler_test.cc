#include "rollout/scheduler.h"

#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "rollout/sim_engine.h"

namespace april::rollout {
namespace {

struct Collected : Sink {
  std::vector<record::Rollout> rollouts;
  std::vector<record::Progress> progress;
  std::vector<record::Record> others;
  int64_t writes_left = -1;  // the pipe closes after so many
  int64_t flushes = 0;

  void Write(const record::Record& record) override {
    if (writes_left == 0) throw Error::Peer("pipe closed");
    if (writes_left > 0) writes_left--;
    if (const auto* rollout = std::get_if<record::Rollout>(&record)) {
      rollouts.push_back(*rollout);
    } else if (const auto* delta = std::get_if<record::Progress>(&record)) {
      progress.push_back(*delta);
    } else {
      others.push_back(record);
    }
  }
  void Flush() override { flushes++; }
};

record::Rollout Queued(uint64_t group, int64_t index, int64_t group_size) {
  record::Rollout rollout;
  rollout.run = "r";
  rollout.prompt_id = "p" + std::to_string(group);
  rollout.group_id = group;
  rollout.index = index;
  rollout.group_size = group_size;
  rollout.uid = group * 1000 + static_cast<uint64_t>(index);
  rollout.prompt_tokens = {1, 5, 6, static_cast<uint32_t>(10 + group)};
  rollout.seed = 7;
  rollout.max_tokens = 50;
  rollout.lease = record::Lease{group + 1, 3};
  return rollout;
}

std::vector<record::Rollout> Groups(uint64_t count, int64_t size) {
  std::vector<record::Rollout> rollouts;
  for (uint64_t group = 0; group < count; ++group) {
    for (int64_t index = 0; index < size; ++index) rollouts.push_back(Queued(group, index, size));
  }
  return rollouts;
}

SimProfile Profile() {
  SimProfile profile;
  for (int64_t length = 1; length <= 60; ++length) profile.lengths.tokens.push_back(length);
  return profile;
}

ScheduleOptions Options() {
  ScheduleOptions options;
  options.stop_tokens = {2};
  options.token_bytes = [](uint32_t token) {
    static const std::string kLetters = "abcdefghij";
    return std::string_view(kLetters).substr(token % 10, 1);
  };
  return options;
}

void CheckCounts(const Counters& c) {
  CHECK(c.read == c.finished + c.failed + c.partial + c.queued + c.passed + c.lost + c.running + c.waiting);
  CHECK(c.running == 0);
  CHECK(c.waiting == 0);
}

void CheckWellFormed(const record::Rollout& rollout) {
  CHECK_NOTHROW(record::Validate(rollout));
  CHECK(rollout.tokens.size() == rollout.logprobs.size());
  int64_t covered = 0;
  for (const auto& segment : rollout.segments) {
    CHECK(segment.start == covered);
    CHECK(segment.len > 0);
    covered += segment.len;
  }
  CHECK(covered == static_cast<int64_t>(rollout.tokens.size()));
  covered = 0;
  for (const auto& span : rollout.weight_versions) {
    CHECK(span.start == covered);
    CHECK(span.end > span.start);
    covered = span.end;
  }
  CHECK(covered == static_cast<int64_t>(rollout.tokens.size()));
}

std::map<uint64_t, record::Rollout> ByUid(const std::vector<record::Rollout>& rollouts) {
  std::map<uint64_t, record::Rollout> result;
  for (const auto& rollout : rollouts) CHECK(result.emplace(rollout.uid, rollout).second);
  return result;
}

/// What every rollout becomes when nothing interrupts it.
std::map<uint64_t, record::Rollout> Uninterrupted(const std::vector<record::Rollout>& work) {
  SimEngine engine(Profile(), 4, false);
  Collected out;
  Scheduler scheduler(Options(), engine, out, nullptr);
  for (const auto& rollout : work) scheduler.Give(rollout);
  CHECK(scheduler.Run() == ScheduleEnd::kDone);
  return ByUid(out.rollouts);
}

TEST_CASE("Without a target every rollout is finished, with its stop token or at its budget") {
  const auto work = Groups(3, 4);
  SimEngine engine(Profile(), 5, false);
  Collected out;
  Scheduler scheduler(Options(), engine, out, nullptr);
  for (const auto& rollout : work) scheduler.Give(rollout);
  REQUIRE(scheduler.Run() == ScheduleEnd::kDone);
  REQUIRE(out.rollouts.size() == work.size());
  for (const auto& rollout : out.rollouts) {
    CheckWellFormed(rollout);
    CHECK(rollout.status == record::Status::kComplete);
    const int64_t length = engine.Length(rollout);
    CHECK(static_cast<int64_t>(rollout.tokens.size()) == std::min<int64_t>(length, 50));
    CHECK((rollout.finish == record::Finish::kStop) == (length <= 50));
    CHECK((rollout.tokens.back() == 2) == (length <= 50));
    CHECK(rollout.born_version == 0u);
    CHECK(rollout.resumes == 0);
  }
  CHECK(scheduler.counters().finished == 12);
  CHECK(scheduler.counters().whole_groups == 3);
  CheckCounts(scheduler.counters());
}

TEST_CASE("Rollouts are written and flushed as they finish, and slots are refilled one by one") {
  SimProfile profile;
  profile.lengths.tokens = {10};
  SimEngine engine(profile, 2, false);
  Collected out;
  Scheduler scheduler(Options(), engine, out, nullptr);
  for (const auto& rollout : Groups(2, 3)) scheduler.Give(rollout);
  std::vector<size_t> written;
  scheduler.set_observer([&] { written.push_back(out.rollouts.size()); });
  REQUIRE(scheduler.Run() == ScheduleEnd::kDone);
  CHECK(written[9] == 2);
  CHECK(written[19] == 4);
  CHECK(written.size() == 30);
  CHECK(out.flushes >= 3);
  CHECK(scheduler.counters().busy_slot_steps == 60);  // no idle slot in any step
}

TEST_CASE("A target ends the run once so many groups are whole; surplus and unfinished rollouts are all kept") {
  auto work = Groups(8, 4);
  for (auto& rollout : work) rollout.max_tokens = 1000;
  SimProfile profile;
  for (int64_t length = 1; length <= 300; ++length) profile.lengths.tokens.push_back(length);
  SimEngine engine(profile, 20, false);
  Collected out;
  ScheduleOptions options = Options();
  options.target_groups = 3;
  Scheduler scheduler(options, engine, out, nullptr);
  for (const auto& rollout : work) scheduler.Give(rollout);
  REQUIRE(scheduler.Run() == ScheduleEnd::kTarget);
  const auto by_uid = ByUid(out.rollouts);
  REQUIRE(by_uid.size() == work.size());
  std::map<uint64_t, int> complete;
  int surplus = 0;
  for (const auto& [uid, rollout] : by_uid) {
    CheckWellFormed(rollout);
    CHECK((rollout.status == record::Status::kPartial || rollout.status == record::Status::kComplete || rollout.status == record::Status::kQueued));
    if (rollout.status == record::Status::kPartial) CHECK(rollout.finish == record::Finish::kNone);
    if (rollout.status == record::Status::kComplete) complete[rollout.group_id]++;
  }
  const auto whole = std::count_if(complete.begin(), complete.end(), [](const auto& group) { return group.second == 4; });
  for (const auto& [group, members] : complete) surplus += members < 4 ? members : 0;
  CHECK(whole == 3);
  CHECK(surplus > 0);  // finished members of groups that are not whole
  CHECK(scheduler.counters().whole_groups == 3);
  CHECK(scheduler.counters().partial > 0);
  CheckCounts(scheduler.counters());
}

TEST_CASE("Members that arrived complete count for their group, other records pass through") {
  auto work = Groups(2, 2);
  work[0].status = work[1].status = record::Status::kComplete;  // group 0 arrives whole
  work[0].finish = work[1].finish = record::Finish::kStop;
  work[2].status = record::Status::kFailed;  // group 1 lacks one
  work[2].finish = record::Finish::kError;
  SimEngine engine(Profile(), 2, false);
  Collected out;
  ScheduleOptions options = Options();
  options.target_groups = 1;
  Scheduler scheduler(options, engine, out, nullptr);
  for (const auto& rollout : work) scheduler.Give(rollout);
  scheduler.Give(record::Control{"claim", {}, {}});
  CHECK(out.rollouts.size() == 3);  // at once, before any step
  CHECK(out.others.size() == 1);
  REQUIRE(scheduler.Run() == ScheduleEnd::kTarget);
  CHECK(scheduler.counters().steps == 0);
  CHECK(scheduler.counters().passed == 3);
  CHECK(scheduler.counters().queued == 1);
  CHECK(out.rollouts.back() == work[3]);  // untouched
  CheckCounts(scheduler.counters());

  SimEngine engine2(Profile(), 2, false);
  Collected out2;
  options.target_groups = 2;
  Scheduler scheduler2(options, engine2, out2, nullptr);
  for (const auto& rollout : work) scheduler2.Give(rollout);
  REQUIRE(scheduler2.Run() == ScheduleEnd::kTarget);
  CHECK(scheduler2.counters().finished == 1);
  CHECK(scheduler2.counters().whole_groups == 2);
}

TEST_CASE("A member that waits for someone else keeps its group open") {
  auto work = Groups(1, 2);
  work[0].status = record::Status::kWaiting;
  SimEngine engine(Profile(), 2, false);
  Collected out;
  ScheduleOptions options = Options();
  options.target_groups = 1;
  Scheduler scheduler(options, engine, out, nullptr);
  for (const auto& rollout : work) scheduler.Give(rollout);
  CHECK(scheduler.Run() == ScheduleEnd::kDone);
  CHECK(scheduler.counters().whole_groups == 0);
}

TEST_CASE("Interrupted at any step and resumed, every rollout becomes what it would have been") {
  const auto work = Groups(4, 3);
  const auto expected = Uninterrupted(work);
  for (const int64_t slots : {1, 3, 12}) {
    for (int64_t stop_every = 1; stop_every <= 40; stop_every += 3) {
      std::vector<record::Rollout> pending = work;
      std::map<uint64_t, record::Rollout> finished;
      for (int round = 0; !pending.empty(); ++round) {
        REQUIRE(round < 2000);
        SimEngine engine(Profile(), slots, false);
        engine.Publish({5, 55});
        Collected out;
        ScheduleOptions options = Options();
        int64_t steps = 0;
        options.stop_requested = [&] { return steps >= stop_every; };
        Scheduler scheduler(options, engine, out, nullptr);
        scheduler.set_observer([&] { steps = scheduler.counters().steps; });
        for (const auto& rollout : pending) scheduler.Give(rollout);
        scheduler.Run();
        CheckCounts(scheduler.counters());
        pending.clear();
        for (const auto& rollout : out.rollouts) {
          if (rollout.status == record::Status::kComplete) {
            CHECK(finished.emplace(rollout.uid, rollout).second);
          } else {
            pending.push_back(rollout);
          }
        }
      }
      REQUIRE(finished.size() == expected.size());
      for (const auto& [uid, rollout] : finished) {
        CheckWellFormed(rollout);
        const record::Rollout& whole = expected.at(uid);
        CHECK(rollout.tokens == whole.tokens);
        CHECK(rollout.logprobs == whole.logprobs);
        CHECK(rollout.finish == whole.finish);
        CHECK(rollout.weight_versions.size() == 1);
        CHECK(rollout.resumes == static_cast<int64_t>(rollout.segments.size()) - 1);
        for (size_t i = 0; i < rollout.segments.size(); ++i) CHECK(rollout.segments[i].kv == (i == 0 ? "fresh" : "recomputed"));
      }
    }
  }
}

TEST_CASE("New weights between steps: spans and segments say which token came from where") {
  for (const bool keep : {false, true}) {
    SimProfile profile;
    profile.lengths.tokens = {20};
    SimEngine engine(profile, 2, keep);
    engine.Publish({1, 11});
    Collected out;
    Scheduler scheduler(Options(), engine, out, nullptr);
    scheduler.set_observer([&] {
      if (scheduler.counters().steps == 8) engine.Publish({3, 33});
    });
    for (const auto& rollout : Groups(1, 3)) scheduler.Give(rollout);
    REQUIRE(scheduler.Run() == ScheduleEnd::kDone);
    for (const auto& rollout : out.rollouts) {
      CheckWellFormed(rollout);
      if (rollout.index == 2) {  // started after the change
        REQUIRE(rollout.weight_versions.size() == 1);
        CHECK(rollout.born_version == 3u);
        CHECK(rollout.segments.size() == 1);
        continue;
      }
      REQUIRE(rollout.weight_versions.size() == 2);
      CHECK(rollout.weight_versions[0] == record::WeightSpan{1, 11, 0, 8, {}});
      CHECK(rollout.weight_versions[1] == record::WeightSpan{3, 33, 8, 20, {}});
      REQUIRE(rollout.segments.size() == 2);
      CHECK(rollout.segments[1].start == 8);
      CHECK(rollout.segments[1].kv == (keep ? "kept" : "recomputed"));
      CHECK(rollout.born_version == 1u);
      CHECK(rollout.resumes == 0);
      CHECK(record::OldestVersion(rollout) == 1u);
    }
    CHECK(scheduler.counters().weight_updates == 2);
  }
}

TEST_CASE("Progress deltas, put one after another, rebuild each rollout; all slots are cut at the same step") {
  ScheduleOptions options = Options();
  options.progress_every = 7;
  SimEngine engine(Profile(), 6, false);
  Collected out;
  Scheduler scheduler(options, engine, out, nullptr);
  std::vector<size_t> cut_steps;
  scheduler.set_observer([&] {
    if (cut_steps.size() < out.progress.size()) cut_steps.resize(out.progress.size(), static_cast<size_t>(scheduler.counters().steps));
    if (scheduler.counters().steps == 10) engine.Publish({2, 22});
  });
  auto work = Groups(3, 3);
  work[4].lease.reset();  // nothing fences it: no progress
  for (const auto& rollout : work) scheduler.Give(rollout);
  REQUIRE(scheduler.Run() == ScheduleEnd::kDone);
  const auto final_state = ByUid(out.rollouts);
  REQUIRE(!out.progress.empty());
  for (const size_t step : cut_steps) CHECK(step % 7 == 0);
  std::map<uint64_t, std::pair<std::vector<uint32_t>, double>> rebuilt;
  for (const auto& delta : out.progress) {
    auto& [tokens, wall_ms] = rebuilt[delta.uid];
    const auto& whole = final_state.at(delta.uid);
    CHECK(delta.lease == *whole.lease);
    REQUIRE(delta.start == static_cast<int64_t>(tokens.size()));
    CHECK(delta.logprobs.size() == delta.tokens.size());
    tokens.insert(tokens.end(), delta.tokens.begin(), delta.tokens.end());
    int64_t covered = delta.start;
    for (const auto& segment : delta.segments) {
      CHECK(segment.start == covered);
      covered += segment.len;
      wall_ms += segment.wall_ms;
    }
    CHECK(covered == static_cast<int64_t>(tokens.size()));
    CHECK(delta.weight_versions.front().start == delta.start);
    CHECK(delta.weight_versions.back().end == covered);
  }
  CHECK(rebuilt.count(work[4].uid) == 0);
  for (const auto& [uid, state] : rebuilt) {
    const auto& whole = final_state.at(uid);
    CHECK(std::equal(state.first.begin(), state.first.end(), whole.tokens.begin()));
    double wall_ms = 0;
    for (const auto& segment : whole.segments) wall_ms += segment.wall_ms;
    CHECK(state.second <= wall_ms + 1e-6);
  }
}

TEST_CASE("A closed pipe ends the run with its own error") {
  SimEngine engine(Profile(), 4, false);
  Collected out;
  out.writes_left = 3;
  ScheduleOptions options = Options();
  options.progress_every = 0;
  Scheduler scheduler(options, engine, out, nullptr);
  for (const auto& rollout : Groups(4, 4)) scheduler.Give(rollout);
  try {
    scheduler.Run();
    FAIL("must throw");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kPeer);
  }
  CHECK(out.rollouts.size() == 3);
}

TEST_CASE("The file of drain_when ends the round and hands everything back") {
  const std::string path = "drain-now";
  SimEngine engine(Profile(), 4, false);
  Collected out;
  ScheduleOptions options = Options();
  options.drain_when = path;
  Scheduler scheduler(options, engine, out, nullptr);
  scheduler.set_observer([&] {
    if (scheduler.counters().steps == 5) SystemFiles().Create(path)->Close();
  });
  for (const auto& rollout : Groups(4, 4)) scheduler.Give(rollout);
  CHECK(scheduler.Run() == ScheduleEnd::kDrained);
  SystemFiles().Remove(path);
  CHECK(out.rollouts.size() == 16);
  CHECK(scheduler.counters().partial > 0);
  CHECK(scheduler.counters().queued > 0);
  CheckCounts(scheduler.counters());
}

TEST_CASE("Memory that is short evicts the youngest and changes no token") {
  const auto work = Groups(4, 3);
  const auto expected = Uninterrupted(work);
  SimProfile profile = Profile();
  profile.memory_positions = 120;
  SimEngine engine(profile, 6, false);
  Collected out;
  Scheduler scheduler(Options(), engine, out, nullptr);
  for (const auto& rollout : work) scheduler.Give(rollout);
  REQUIRE(scheduler.Run() == ScheduleEnd::kDone);
  CHECK(scheduler.counters().evictions > 0);
  for (const auto& [uid, rollout] : ByUid(out.rollouts)) {
    CheckWellFormed(rollout);
    CHECK(rollout.tokens == expected.at(uid).tokens);
    CHECK(rollout.resumes == 0);
  }
  CheckCounts(scheduler.counters());
}

TEST_CASE("What cannot be generated fails alone, with the reason in the record") {
  auto work = Groups(1, 4);
  work[0].prompt_tokens.clear();
  work[1].prompt_tokens[1] = 1u << 31;
  work[2].prompt_tokens.assign(70, 3);
  SimProfile profile = Profile();
  profile.max_positions = 70;
  SimEngine engine(profile, 2, false);
  Collected out;
  Scheduler scheduler(Options(), engine, out, nullptr);
  for (const auto& rollout : work) scheduler.Give(rollout);
  REQUIRE(scheduler.Run() == ScheduleEnd::kDone);
  CHECK(scheduler.counters().defective == 3);
  CHECK(scheduler.counters().failed == 3);
  CHECK(scheduler.counters().finished == 1);
  const auto by_uid = ByUid(out.rollouts);
  for (int i = 0; i < 3; ++i) {
    const auto& rollout = by_uid.at(work[i].uid);
    CHECK(rollout.status == record::Status::kFailed);
    CHECK(rollout.finish == record::Finish::kError);
    REQUIRE(stream::Find(rollout.meta, "generation_error") != nullptr);
  }
  CHECK(stream::Find(by_uid.at(work[2].uid).meta, "generation_error")->AsString().find("70") != std::string::npos);
  CheckCounts(scheduler.counters());
}

TEST_CASE("The model's context ends a rollout with finish length; a used-up budget ends it without a step") {
  SimProfile profile;
  profile.lengths.tokens = {1000};
  profile.max_positions = 30;
  SimEngine engine(profile, 2, false);
  Collected out;
  Scheduler scheduler(Options(), engine, out, nullptr);
  auto work = Groups(1, 2);
  work[1].max_tokens = 3;
  work[1].status = record::Status::kPartial;
  work[1].tokens = {4, 5, 6};
  work[1].logprobs = {-1, -1, -1};
  work[1].weight_versions = {{0, 0, 0, 3, {}}};
  work[1].segments.resize(1);
  work[1].segments[0].len = 3;
  for (const auto& rollout : work) scheduler.Give(rollout);
  CHECK(out.rollouts.size() == 1);
  CHECK(out.rollouts[0].finish == record::Finish::kLength);
  CHECK(out.rollouts[0].tokens.size() == 3);
  REQUIRE(scheduler.Run() == ScheduleEnd::kDone);
  CHECK(out.rollouts[1].finish == record::Finish::kLength);
  CHECK(out.rollouts[1].tokens.size() == 26);  // 4 prompt tokens and 26 fill the context of 30
  CHECK(scheduler.counters().whole_groups == 1);
}

TEST_CASE("Stop strings end a response after the token that completes them, across a resume too") {
  const auto work = Groups(2, 3);
  const auto letters = Options().token_bytes;
  SimProfile profile;
  profile.lengths.tokens = {50};
  for (const int64_t stop_every : {1, 2, 1000}) {
    std::vector<record::Rollout> pending = work;
    for (auto& rollout : pending) rollout.sampling.stop_strings = {"zz", "gab", "bad", "i"};
    std::vector<record::Rollout> finished;
    while (!pending.empty()) {
      SimEngine engine(profile, 4, false);
      Collected out;
      ScheduleOptions options = Options();
      int64_t steps = 0;
      options.stop_requested = [&] { return steps >= stop_every; };
      Scheduler scheduler(options, engine, out, nullptr);
      scheduler.set_observer([&] { steps = scheduler.counters().steps; });
      for (const auto& rollout : pending) scheduler.Give(rollout);
      scheduler.Run();
      pending.clear();
      for (const auto& rollout : out.rollouts) (rollout.status == record::Status::kComplete ? finished : pending).push_back(rollout);
    }
    CHECK(finished.size() == work.size());
    int stopped = 0;
    for (const auto& rollout : finished) {
      std::string text;
      for (const uint32_t token : rollout.tokens) text += letters(token);
      const auto contains = [&](const std::string& part) {
        return part.find("gab") != std::string::npos || part.find("bad") != std::string::npos || part.find('i') != std::string::npos;
      };
      CHECK(!contains(text.substr(0, text.size() - 1)));
      if (rollout.finish == record::Finish::kStop && rollout.tokens.back() != 2) {
        CHECK(contains(text));
        stopped++;
      }
    }
    CHECK(stopped > 0);
  }
}

/// A hub that issues work as it is asked, pauses, asks for versions, and drains.
struct FakeSource : WorkSource {
  std::deque<record::Rollout> work;
  std::function<void(WorkAnswer&)> shape;
  std::set<uint64_t> held;
  int64_t asked = 0, most_held = 0;

  WorkAnswer Ask(int64_t want, const std::vector<uint64_t>& held_now, uint64_t) override {
    asked++;
    held = {held_now.begin(), held_now.end()};
    most_held = std::max(most_held, static_cast<int64_t>(held.size()));
    WorkAnswer answer;
    answer.poll_ms = 50;
    if (shape) shape(answer);
    for (; want > 0 && answer.demand == Demand::kGo && !work.empty(); --want) {
      answer.rollouts.push_back(work.front());
      work.pop_front();
    }
    return answer;
  }
};

TEST_CASE("Resident: work is leased as slots become free, and a drain hands back what is unfinished") {
  SimEngine engine(Profile(), 4, false);
  Collected out;
  FakeSource source;
  for (const auto& rollout : Groups(4, 4)) source.work.push_back(rollout);
  source.shape = [&](WorkAnswer& answer) {
    if (source.work.empty() && source.held.size() <= 2) answer.demand = Demand::kDrain;
  };
  Scheduler scheduler(Options(), engine, out, &source);
  REQUIRE(scheduler.Run() == ScheduleEnd::kDrained);
  CHECK(source.most_held <= 4);
  CHECK(ByUid(out.rollouts).size() == 16);
  CHECK(scheduler.counters().finished >= 14);
  CheckCounts(scheduler.counters());
}

TEST_CASE("Resident: a pause keeps every rollout and makes no token; heartbeats go on") {
  SimProfile profile;
  profile.lengths.tokens = {40};
  SimEngine engine(profile, 4, false);
  Collected out;
  FakeSource source;
  for (const auto& rollout : Groups(1, 4)) source.work.push_back(rollout);
  int64_t paused_asks = 0, steps_at_pause = -1;
  Scheduler scheduler(Options(), engine, out, &source);
  source.shape = [&](WorkAnswer& answer) {
    const int64_t steps = scheduler.counters().steps;
    if (steps >= 10 && paused_asks < 20) {
      if (steps_at_pause < 0) steps_at_pause = steps;
      CHECK(steps == steps_at_pause);
      CHECK(source.held.size() == 4);
      paused_asks++;
      answer.demand = Demand::kPause;
    } else if (steps >= 40) {
      answer.demand = Demand::kDrain;
    }
  };
  REQUIRE(scheduler.Run() == ScheduleEnd::kDrained);
  CHECK(paused_asks == 20);
  for (const auto& rollout : out.rollouts) {
    CHECK(rollout.tokens.size() == 40);
    CHECK(rollout.segments.size() == 1);  // nothing was interrupted: the cache stayed
  }
}

TEST_CASE("Resident: no token is made under weights older than asked for") {
  SimProfile profile;
  profile.lengths.tokens = {30};
  SimEngine engine(profile, 2, false);
  Collected out;
  FakeSource source;
  for (const auto& rollout : Groups(1, 2)) source.work.push_back(rollout);
  Scheduler scheduler(Options(), engine, out, &source);
  int64_t asks_waiting = 0;
  source.shape = [&](WorkAnswer& answer) {
    const int64_t steps = scheduler.counters().steps;
    if (steps >= 10) answer.min_version = 4;
    if (steps >= 10 && engine.policy().version < 4 && ++asks_waiting == 5) engine.Publish({4, 44});
    if (steps >= 30) answer.demand = Demand::kDrain;
  };
  REQUIRE(scheduler.Run() == ScheduleEnd::kDrained);
  CHECK(asks_waiting == 5);
  for (const auto& rollout : out.rollouts) {
    REQUIRE(rollout.weight_versions.size() == 2);
    CHECK(rollout.weight_versions[1].version == 4);
  }
}

TEST_CASE("Resident: weights that never come end the run with a message, with everything written") {
  SimEngine engine(Profile(), 2, false);
  Collected out;
  FakeSource source;
  for (const auto& rollout : Groups(1, 2)) source.work.push_back(rollout);
  source.shape = [&](WorkAnswer& answer) { answer.min_version = 9; };
  Scheduler scheduler(Options(), engine, out, &source);
  CHECK_THROWS_AS(scheduler.Run(), Error);
  CHECK(engine.clock().MonotonicSeconds() >= 60);
  CHECK(out.rollouts.size() == 2);
  CheckCounts(scheduler.counters());
}

TEST_CASE("Resident: a lost hub ends the run after everything held was written") {
  SimEngine engine(Profile(), 4, false);
  Collected out;
  FakeSource source;
  for (const auto& rollout : Groups(2, 4)) source.work.push_back(rollout);
  Scheduler scheduler(Options(), engine, out, &source);
  source.shape = [&](WorkAnswer&) {
    if (scheduler.counters().steps > 5) throw Error::Peer("hub lost");
  };
  CHECK_THROWS_AS(scheduler.Run(), Error);
  CHECK(out.rollouts.size() == 8 - source.work.size());
  CheckCounts(scheduler.counters());
}

TEST_CASE("Resident: a rollout that was leased to someone else is forgotten, not written") {
  SimProfile profile;
  profile.lengths.tokens = {30};
  SimEngine engine(profile, 2, false);
  Collected out;
  FakeSource source;
  for (const auto& rollout : Groups(1, 3)) source.work.push_back(rollout);
  Scheduler scheduler(Options(), engine, out, &source);
  source.shape = [&](WorkAnswer& answer) {
    if (scheduler.counters().steps >= 10) answer.lost = {1};
    if (scheduler.counters().finished == 2) answer.demand = Demand::kDrain;
  };
  REQUIRE(scheduler.Run() == ScheduleEnd::kDrained);
  const auto by_uid = ByUid(out.rollouts);
  CHECK(by_uid.size() == 2);
  CHECK(by_uid.count(1) == 0);
  CHECK(scheduler.counters().lost == 1);
  CheckCounts(scheduler.counters());
}

}  // namespace
}  // namespace april::rollout
