#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "base/error.h"
#include "buffer/claiming.h"
#include "buffer/commands.h"
#include "buffer/hub.h"
#include "buffer/hub_client.h"
#include "buffer/map_fields.h"
#include "buffer_support.h"
#include "failing_files.h"
#include "stream/rpc.h"

namespace april {
namespace {

using buffer::Demand;
using buffer::Hub;
using buffer::HubOptions;
using stream::Array;
using stream::Bin;
using stream::Map;
using stream::Value;
using namespace test;

constexpr int64_t kTermNs = 60'000'000'000;

/// A generator that talks to a hub in this process.
struct Generator {
  Hub& hub;
  uint64_t session;
  std::string worker;

  Generator(Hub& its_hub, uint64_t its_session, std::string its_worker) : hub(its_hub), session(its_session), worker(std::move(its_worker)) {}

  uint64_t request = 0;
  std::vector<record::Rollout> held;
  Demand demand = Demand::kPause;
  std::optional<uint64_t> min_version;
  std::vector<uint64_t> lost;

  Map Call(const std::string& op, Map arguments) const {
    Map map = {{"op", op}, {"session", session}, {"worker", worker}, {"role", "generate"}};
    for (auto& item : arguments) map.push_back(std::move(item));
    return hub.Answer(map);
  }
  size_t Lease(int64_t want, bool repeat = false) {
    Array uids;
    for (const auto& rollout : held) uids.push_back(rollout.uid);
    if (!repeat) ++request;
    const Map answer = Call("lease", {{"request", request}, {"want", want}, {"held", uids}, {"version", Value()}});
    const buffer::MapFields fields(answer, "answer");
    const size_t before = held.size();
    for (const Value& bytes : fields.Array("rollouts")) held.push_back(std::get<record::Rollout>(record::DecodeRecord(bytes.AsBin())));
    demand = fields.Text("demand") == "go" ? Demand::kGo : fields.Text("demand") == "pause" ? Demand::kPause : Demand::kDrain;
    min_version = fields.MaybeUint("min_version");
    lost.clear();
    for (const Value& uid : fields.Array("lost")) lost.push_back(uid.AsUint());
    return held.size() - before;
  }
  record::Rollout Emit() {
    const record::Rollout rollout = held.front();
    held.erase(held.begin());
    return rollout;
  }
};

Map CallAs(Hub& hub, uint64_t session, const std::string& role, const std::string& op, Map arguments) {
  Map map = {{"op", op}, {"session", session}, {"worker", ""}, {"role", role}};
  for (auto& item : arguments) map.push_back(std::move(item));
  return hub.Answer(map);
}

Map PutTo(Hub& hub, const std::vector<record::Rollout>& rollouts, uint64_t session = 500) {
  Array records;
  for (const auto& rollout : rollouts) records.push_back(Bin{record::EncodeRecord(rollout)});
  return CallAs(hub, session, "put", "put", {{"records", records}});
}

std::string ClaimState(Hub& hub, int64_t step, uint64_t session = 600) {
  return buffer::MapFields(CallAs(hub, session, "claim", "claim", {{"step", step}, {"groups", 0}, {"parent", Value()}}), "answer").Text("state");
}

void CommitTo(Hub& hub, const buffer::State& state, int64_t step_index) {
  record::Step step;
  step.claim = state.FindClaim(step_index)->id;
  step.step = step_index;
  step.version = static_cast<uint64_t>(step_index) + 1;
  CallAs(hub, 700, "commit", "commit", {{"record", Bin{record::EncodeRecord(step)}}});
}

TEST_CASE("a synchronous run issues each step's rollouts once, pauses for the trainer, and goes on after its commit") {
  buffer::RunConfig config = SmallConfig();
  config.in_flight = config.Need();
  ScratchBuffer scratch(config, 12);
  Hub hub(*scratch.store, {});
  Generator generator(hub, 1, "g");
  CHECK(generator.Lease(100) == 6);
  CHECK(generator.demand == Demand::kGo);
  CHECK(generator.Lease(100) == 0);
  std::vector<record::Rollout> scored;
  for (int i = 0; i < 5; ++i) scored.push_back(Scored(Generate(generator.Emit(), 2, 0), 1));
  CHECK(generator.Lease(100) == 0);  // a free slot is no reason for over-issue
  CHECK(generator.demand == Demand::kGo);
  scored.push_back(Scored(Generate(generator.Emit(), 2, 0), 1));
  CHECK(generator.Lease(100) == 0);
  CHECK(generator.demand == Demand::kPause);  // all six are in the pipe: presumed ready
  CHECK(ClaimState(hub, 0) == "wait");
  PutTo(hub, scored);
  CHECK(ClaimState(hub, 0) == "granted");
  CHECK(generator.Lease(100) == 0);
  CHECK(generator.demand == Demand::kPause);
  CHECK(ClaimState(hub, 1) == "wait");
  CommitTo(hub, scratch.state(), 0);
  CHECK(generator.Lease(100) == 6);
  CHECK(generator.demand == Demand::kGo);
  CHECK(generator.min_version == 1);
}

TEST_CASE("over-issue keeps the target in flight, and what is unfinished is kept over the step") {
  ScratchBuffer scratch(SmallConfig(), 12);
  Hub hub(*scratch.store, {});
  Generator generator(hub, 1, "g");
  CHECK(generator.Lease(100) == 9);
  PutTo(hub, {Scored(Generate(generator.Emit(), 2, 0), 1)});
  CHECK(generator.Lease(100) == 1);  // topped up
  while (scratch.state().ready().size() < 2) PutTo(hub, {Scored(Generate(generator.Emit(), 2, 0), 1)});
  CHECK(generator.Lease(100) == 0);
  CHECK(generator.demand == Demand::kPause);
  const size_t held = generator.held.size();
  CHECK(ClaimState(hub, 0) == "granted");
  CommitTo(hub, scratch.state(), 0);
  CHECK(generator.Lease(100) == 9 - held);
  CHECK(generator.lost.empty());
}

TEST_CASE("a grader's error makes demand again") {
  buffer::RunConfig config = SmallConfig();
  config.in_flight = config.Need();
  ScratchBuffer scratch(config, 12);
  Hub hub(*scratch.store, {});
  Generator generator(hub, 1, "g");
  generator.Lease(100);
  std::vector<record::Rollout> outcomes;
  while (!generator.held.empty()) {
    const bool first_group = generator.held.front().group_id == scratch.state().group(0).group_id;
    outcomes.push_back(Scored(Generate(generator.Emit(), 2, 0), 1, first_group ? "error" : "ok"));
  }
  generator.Lease(100);
  CHECK(generator.demand == Demand::kPause);
  PutTo(hub, outcomes);
  CHECK(scratch.state().num_stalled() == 1);
  CHECK(generator.Lease(100) == 3);  // one group in its place
  CHECK(generator.demand == Demand::kGo);
}

TEST_CASE("a repeated lease request gets the same rollouts, also from the hub's next life") {
  ScratchBuffer scratch(SmallConfig(), 12);
  auto hub = std::make_unique<Hub>(*scratch.store, HubOptions{});
  Generator first(*hub, 1, "g");
  CHECK(first.Lease(4) == 4);
  const auto uids = scratch.state().leases().at(1).last_uids;
  scratch.Reopen();
  hub = std::make_unique<Hub>(*scratch.store, HubOptions{});
  Generator again(*hub, 1, "g");
  CHECK(again.Lease(4) == 4);
  for (size_t i = 0; i < 4; ++i) CHECK(again.held[i].uid == uids[i]);
  CHECK(scratch.state().num_leased() == 4);
}

TEST_CASE("a silent generator's rollouts return after its term, with their journaled tokens; its late records change nothing") {
  ScratchBuffer scratch(SmallConfig(), 12);
  Hub hub(*scratch.store, {});
  Generator zombie(hub, 1, ""), other(hub, 2, "");
  zombie.Lease(3);
  const record::Rollout before = Generate(zombie.held[0], 4, 0);
  CallAs(hub, 500, "put", "put", {{"records", Array{Bin{record::EncodeRecord(Delta(zombie.held[0], before))}}}});
  scratch.clock.now_ns += kTermNs - 1;
  hub.Tick();
  CHECK(scratch.state().num_leased() == 3);
  scratch.clock.now_ns += 1;
  hub.Tick();
  CHECK(scratch.state().num_leased() == 0);
  CHECK(other.Lease(3) == 3);
  CHECK(other.held[0].tokens == before.tokens);
  PutTo(hub, {Scored(Generate(before, 3, 0), 1)});
  CHECK(scratch.state().totals().superseded == 1);
  zombie.Lease(0);
  CHECK(zombie.lost.size() == 3);
}

TEST_CASE("a restarted hub gives leases a full term, a restarted worker gets its own back at once") {
  ScratchBuffer scratch(SmallConfig(), 12);
  auto hub = std::make_unique<Hub>(*scratch.store, HubOptions{});
  Generator generator(*hub, 1, "g");
  generator.Lease(3);
  scratch.clock.now_ns += 10 * kTermNs;
  scratch.Reopen();
  hub = std::make_unique<Hub>(*scratch.store, HubOptions{});
  hub->Tick();
  CHECK(scratch.state().num_leased() == 3);
  Generator again(*hub, 2, "g");
  again.Call("hello", {});
  CHECK(scratch.state().num_leased() == 0);
  CHECK(again.Lease(3) == 3);
}

TEST_CASE("a lease set is closed by its sink's verified end, once the generator said bye") {
  ScratchBuffer scratch(SmallConfig(), 12);
  Hub hub(*scratch.store, {});
  Generator generator(hub, 1, "g");
  generator.Lease(4);
  PutTo(hub, {Generate(generator.Emit(), 2, 0)});
  CallAs(hub, 500, "put", "put_end", {{"leases", Array{uint64_t{1}}}, {"whole", true}});
  CHECK(scratch.state().num_leased() == 3);  // the generator lives: another sink may carry the rest
  generator.Call("bye", {});
  CHECK(scratch.state().num_leased() == 0);
  CHECK(scratch.state().partial().size() == 1);
  CHECK(hub.Quiet(0));
}

TEST_CASE("what was in the pipe of a sink that was cut, or died, returns to the queue; what the generator holds stays") {
  for (const bool cut : {true, false}) {
    ScratchBuffer scratch(SmallConfig(), 12);
    Hub hub(*scratch.store, {});
    Generator generator(hub, 1, "g");
    generator.Lease(4);
    PutTo(hub, {Scored(Generate(generator.Emit(), 2, 0), 1)});
    generator.Emit();
    generator.Lease(0);
    CHECK(scratch.state().num_leased() == 3);
    if (cut) {
      CallAs(hub, 500, "put", "put_end", {{"leases", Array{uint64_t{1}}}, {"whole", false}});
    } else {
      scratch.clock.now_ns += kTermNs - 1;
      CallAs(hub, 500, "put", "put", {{"records", Array{}}});
      generator.Lease(0);
      scratch.clock.now_ns += 2;
      hub.Tick();
      CHECK(scratch.state().num_leased() == 3);  // it beats
      scratch.clock.now_ns += kTermNs - 2;
      generator.Lease(0);
      hub.Tick();
    }
    CHECK(scratch.state().num_leased() == 2);
    CHECK(scratch.state().queued().size() == 1 + 2);
  }
}

TEST_CASE("generators drain after the last claim, on request, and when nothing is left; claims then end") {
  ScratchBuffer scratch(SmallConfig(), 2);
  Hub hub(*scratch.store, {60'000, 20, 1});
  Generator generator(hub, 1, "g");
  CHECK(generator.Lease(100) == 6);
  std::vector<record::Rollout> scored;
  while (!generator.held.empty()) scored.push_back(Scored(Generate(generator.Emit(), 2, 0), 1));
  PutTo(hub, scored);
  CHECK(ClaimState(hub, 0) == "granted");
  generator.Lease(100);
  CHECK(generator.demand == Demand::kDrain);
  CHECK_FALSE(hub.Finished());
  CommitTo(hub, scratch.state(), 0);
  CHECK(hub.Finished());
  CHECK(ClaimState(hub, 1) == "empty");
  CHECK(ClaimState(hub, 0, 601) == "granted");  // recorded claims are given again
  CallAs(hub, 800, "look", "drain", {});
  CHECK(ClaimState(hub, 1) == "stopped");
}

TEST_CASE("a hub that ends waits for a step in training while its committer lives, however silent the others are") {
  ScratchBuffer scratch(SmallConfig(), 2);
  Hub hub(*scratch.store, {60'000, 20, 1});
  Generator generator(hub, 1, "g");
  generator.Lease(100);
  std::vector<record::Rollout> scored;
  while (!generator.held.empty()) scored.push_back(Scored(Generate(generator.Emit(), 2, 0), 1));
  PutTo(hub, scored);
  CallAs(hub, 700, "commit", "hello", {});
  CHECK(ClaimState(hub, 0) == "granted");
  hub.Drain();
  scratch.clock.now_ns += 20'000'000'000;
  CHECK(hub.AwaitsCommit());
  CHECK_FALSE(hub.Quiet(10'000));
  const auto later = [&](int64_t ns) { scratch.clock.now_ns += ns; };
  SECTION("until it commits") {
    CommitTo(hub, scratch.state(), 0);
    CHECK_FALSE(hub.Quiet(10'000));
    later(10'000'000'000);
    CHECK(hub.Quiet(10'000));
  }
  SECTION("until it says bye") {
    CallAs(hub, 700, "commit", "bye", {});
    CHECK(hub.Quiet(10'000));
  }
  SECTION("until it was silent for a term") {
    later(kTermNs - 20'000'000'000);
    CHECK(hub.Quiet(10'000));
  }
}

TEST_CASE("a claim that another trainer left is a replay, but not when the run goes another way since a rewind") {
  ScratchBuffer scratch(SmallConfig(), 12);
  Hub hub(*scratch.store, {});
  Generator generator(hub, 1, "g");
  const auto finish_step = [&] {
    generator.Lease(6);
    std::vector<record::Rollout> scored;
    while (!generator.held.empty()) scored.push_back(Scored(Generate(generator.Emit(), 2, 0), 1));
    PutTo(hub, scored);
  };
  const auto is_replay = [&](int64_t step, uint64_t session) {
    const Map answer = CallAs(hub, session, "claim", "claim", {{"step", step}, {"groups", 0}, {"parent", Value()}});
    return buffer::MapFields(stream::Find(answer, "claim")->AsMap(), "claim").Bool("replay");
  };
  finish_step();
  CHECK_FALSE(is_replay(0, 600));
  CHECK(is_replay(0, 601));
  CommitTo(hub, scratch.state(), 0);
  scratch.store->Transact([](buffer::Batch& batch) { batch.Add(buffer::RewindEntry{0, "c", 0}); });
  CHECK_FALSE(is_replay(0, 600));
  CHECK_FALSE(is_replay(0, 601));
}

TEST_CASE("unknown requests and missing keys are refused by name") {
  ScratchBuffer scratch;
  Hub hub(*scratch.store, {});
  CHECK_THROWS_WITH(CallAs(hub, 1, "look", "dance", {}), Catch::Contains("dance"));
  CHECK_THROWS_WITH(CallAs(hub, 1, "put", "put", {}), Catch::Contains("records"));
  CHECK_THROWS_WITH(hub.Answer({{"op", "stat"}}), Catch::Contains("session"));
}

TEST_CASE("a hub whose disk fails ends: the refused transaction is told to nobody") {
  ScratchBuffer scratch(SmallConfig(), 12);
  FailingFiles files;
  buffer::ServeOptions options;
  options.store.store = scratch.directory;
  options.bind = "zmq+ipc://" + scratch.scratch.Path("hub");
  std::string failure = "none";
  std::thread server([&] {
    Invocation invocation;
    try {
      buffer::Serve(options, invocation, files);
    } catch (const Error& error) {
      failure = std::to_string(static_cast<int>(error.kind())) + " " + error.message();
    }
  });
  buffer::HubClient first(options.bind, "g1", 10'000), second(options.bind, "g2", 2'000);
  first.Hello("generate");
  second.Hello("generate");
  files.syncs_to_fail = 1;
  CHECK_THROWS_WITH(first.Lease(2, {}, 0), Catch::Contains("cannot sync"));
  CHECK_THROWS_AS(second.Lease(2, {}, 0), Error);
  CHECK_THROWS_AS(second.Stat(), Error);
  server.join();
  CHECK_THAT(failure, Catch::StartsWith("1 ") && Catch::Contains("could not be made durable") && Catch::Contains("cannot sync"));
}

TEST_CASE("the client speaks to a hub behind a socket") {
  ScratchBuffer scratch(SmallConfig(), 12);
  const std::string address = "zmq+ipc://" + scratch.scratch.Path("hub");
  std::atomic<bool> done = false;
  std::thread server([&] {
    Hub hub(*scratch.store, {});
    const auto rpc = stream::RpcServer::Bind(address);
    while (!done) rpc->Serve([&](const Map& request) { return hub.Answer(request); }, 20);
  });
  {
    buffer::HubClient generator(address, "g", 10'000), sink(address, "", 10'000), trainer(address, "", 10'000);
    CHECK(generator.Hello("generate") == scratch.state().config());
    sink.Hello("put");
    trainer.Hello("claim", 1);
    const auto lease = generator.Lease(6, {}, 0);
    REQUIRE(lease.rollouts.size() == 6);
    CHECK(lease.demand == Demand::kGo);
    std::vector<std::string> records;
    for (const auto& rollout : lease.rollouts) records.push_back(record::EncodeRecord(Scored(Generate(rollout, 2, 0), 1)));
    std::set<uint64_t> leases;
    CHECK(sink.Put(records, &leases).accepted == 6);
    CHECK(leases == std::set<uint64_t>{lease.rollouts[0].lease->id});
    CHECK(sink.Put(records, &leases).repeated == 6);
    CHECK(trainer.FirstStep(std::nullopt) == 0);
    const auto claim = trainer.Claim(0, 0, std::nullopt);
    REQUIRE(claim.state == buffer::ClaimAnswer::State::kGranted);
    CHECK_FALSE(claim.claim->replay);
    CHECK(trainer.FetchClaim(claim.claim->id, 0).size() == 8);
    CHECK(trainer.FetchClaim(claim.claim->id, 8).empty());
    record::Step step;
    step.claim = claim.claim->id;
    step.version = 1;
    CHECK(trainer.Commit(step) == buffer::CommitOutcome::kCommitted);
    CHECK(trainer.Commit(step) == buffer::CommitOutcome::kRepeated);
    CHECK(generator.Lease(0, {}, 0).demand == Demand::kDrain);
    step.claim = "no such claim";
    try {
      trainer.Commit(step);
      FAIL("a commit of another claim was taken");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kRuntime);
    }
    CHECK(buffer::MapFields(trainer.Stat(), "stat").Int("next_step") == 1);
    sink.PutEnd({}, true);
    generator.Bye();
  }
  done = true;
  server.join();
}

}  // namespace
}  // namespace april
