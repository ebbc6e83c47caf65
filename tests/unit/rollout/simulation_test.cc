// The simulated engine and its profiles: closed forms, refusals, and lengths that are what they say.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "base/error.h"
#include "rollout/meter.h"
#include "rollout/scheduler.h"
#include "rollout/sim_engine.h"
#include "rollout/sim_measure.h"

namespace april::rollout {
namespace {

struct Finished : Sink {
  std::vector<record::Rollout> rollouts;
  void Write(const record::Record& record) override { rollouts.push_back(std::get<record::Rollout>(record)); }
  void Flush() override {}
};

record::Rollout Waiting(uint64_t uid, uint64_t group = 0, size_t prompt_tokens = 4) {
  record::Rollout rollout;
  rollout.run = "r";
  rollout.prompt_id = std::to_string(group);
  rollout.uid = uid;
  rollout.group_id = group;
  rollout.seed = 11;
  rollout.prompt_tokens.assign(prompt_tokens, 70'000);  // whatever tokenizer made it
  rollout.max_tokens = 1 << 20;
  return rollout;
}

ScheduleOptions SimulationOptions() {
  ScheduleOptions options;
  options.progress_every = 0;
  options.stop_tokens = {2};
  return options;
}

double VirtualSeconds(SimEngine& engine, int64_t rollouts, size_t prompt_tokens, Counters* counters = nullptr) {
  Finished sink;
  Scheduler scheduler(SimulationOptions(), engine, sink, nullptr);
  for (int64_t i = 0; i < rollouts; ++i) scheduler.Give(Waiting(static_cast<uint64_t>(i) + 1, 0, prompt_tokens));
  const double begin = engine.clock().MonotonicSeconds();
  CHECK(scheduler.Run() == ScheduleEnd::kDone);
  if (counters) *counters = scheduler.counters();
  return engine.clock().MonotonicSeconds() - begin;
}

Json Minimal() {
  return Json::parse(R"({"format":"april-simulation-profile","version":1,"name":"p","source":"a test",
    "decode":{"rows":[1,8],"context_positions":[0,1000],"step_ms":[[10,20],[17,97]]},
    "prefill":{"token_ms":0.5},"lengths":{"distribution":"list","tokens":[5]}})");
}

/// The message of a profile that must be refused.
std::string Refusal(const Json& json) {
  try {
    SimProfileFromJson(json);
  } catch (const Error& error) {
    return error.message() + " " + error.hint();
  }
  return "accepted";
}

template <typename Change>
std::string RefusalOf(Change change) {
  Json json = Minimal();
  change(json);
  return Refusal(json);
}

TEST_CASE("Constant lengths take the time that the formula says") {
  SimProfile profile;
  profile.decode = {.step_ms = 10, .row_ms = 0.5, .context_us = 2};
  profile.prefill_token_ms = 0.25;
  profile.prefill_position_ns = 100;
  profile.lengths.tokens = {100};
  const int64_t slots = 4, rounds = 3, prompt = 21;
  SimEngine engine(profile, slots, false);
  Counters counters;
  const double seconds = VirtualSeconds(engine, slots * rounds, prompt, &counters);
  // Each of `rounds` waves: 100 steps of 4 rows, step i attending to 21 + i positions a row; 20 prompt tokens a rollout are read beside the decoding
  // one.
  const double context = 4 * (100.0 * 21 + 99.0 * 100 / 2);
  const double wave_ms = 100 * (10 + 0.5 * 4) + 2e-3 * context + 4 * (20 * 0.25 + 100e-6 * (20.0 * 19 / 2));
  CHECK(seconds == Approx(rounds * wave_ms * 1e-3).epsilon(1e-6));
  CHECK(counters.tokens == slots * rounds * 100);
  CHECK(counters.busy_slot_steps == counters.steps * slots);  // refilled at once: never idle while there is work
  CHECK(counters.prefill_rows == slots * rounds * 20);
}

TEST_CASE("With work waiting, no slot is ever idle, whatever the lengths; sync idles by its tail") {
  SimProfile profile;
  profile.lengths = ParseLengths("lognormal:80,1.2");
  SimEngine engine(profile, 16, false);
  Finished sink;
  Scheduler scheduler(SimulationOptions(), engine, sink, nullptr);
  for (uint64_t i = 1; i <= 400; ++i) scheduler.Give(Waiting(i));
  int64_t steps = 0, busy = 0, full_until = 0;
  scheduler.set_observer([&] {
    if (busy == 16 * steps && scheduler.counters().busy_slot_steps == 16 * scheduler.counters().steps) full_until = scheduler.counters().finished;
    steps = scheduler.counters().steps;
    busy = scheduler.counters().busy_slot_steps;
  });
  REQUIRE(scheduler.Run() == ScheduleEnd::kDone);
  CHECK(full_until >= 400 - 16);
  CHECK(busy < 16 * steps);

  // One wave of 16: as long as the longest, and idle by exactly what the others lack.
  SimEngine wave(profile, 16, false);
  Finished out;
  Scheduler sync(SimulationOptions(), wave, out, nullptr);
  int64_t longest = 0, sum = 0;
  for (uint64_t i = 1; i <= 16; ++i) {
    sync.Give(Waiting(i));
    longest = std::max(longest, wave.Length(Waiting(i)));
    sum += wave.Length(Waiting(i));
  }
  REQUIRE(sync.Run() == ScheduleEnd::kDone);
  CHECK(sync.counters().steps == longest);
  CHECK(sync.counters().busy_slot_steps == sum);
}

TEST_CASE("Engines side by side decode as one would a share of the rollouts, and hold as much more") {
  SimProfile profile;
  profile.decode = {.step_ms = 10, .row_ms = 0.5, .context_us = 2};
  profile.lengths.tokens = {50};
  SimEngine one(profile, 8, false);
  profile.engines = 4;
  profile.memory_positions = 2 * (4 + 51);
  SimEngine four(profile, 32, false);
  Counters counters;
  const double alone = VirtualSeconds(one, 8, 4), together = VirtualSeconds(four, 32, 4, &counters);
  CHECK(together > 0);
  CHECK(counters.evictions + counters.steps > 50);  // memory of 2 rollouts an engine, 8 wanted
  profile.memory_positions = 8 * (4 + 51);
  SimEngine roomy(profile, 32, false);
  CHECK(VirtualSeconds(roomy, 32, 4) == Approx(alone).epsilon(1e-9));
}

TEST_CASE("A round ends with the step in which its token budget is reached, and everything is kept") {
  for (const int64_t budget : {1, 100, 1000, 100'000}) {
    SimProfile profile;
    profile.lengths = ParseLengths("lognormal:60,0.8");
    SimEngine engine(profile, 8, false);
    Finished sink;
    ScheduleOptions options = SimulationOptions();
    options.round_tokens = budget;
    Scheduler scheduler(options, engine, sink, nullptr);
    for (uint64_t i = 1; i <= 20; ++i) scheduler.Give(Waiting(i));
    const ScheduleEnd end = scheduler.Run();
    const Counters& counters = scheduler.counters();
    CHECK(sink.rollouts.size() == 20);
    int64_t kept = 0;
    for (const record::Rollout& rollout : sink.rollouts) kept += static_cast<int64_t>(rollout.tokens.size());
    CHECK(kept == counters.tokens);
    if (end == ScheduleEnd::kDone) {
      CHECK(counters.tokens < budget);
      CHECK(budget == 100'000);
    } else {
      CHECK(end == ScheduleEnd::kTarget);
      CHECK(counters.tokens >= budget);
      CHECK(counters.tokens < budget + 8);  // within one step
    }
  }
}

TEST_CASE("The same seed gives the same run; another gives other lengths") {
  const auto run = [](uint64_t seed) {
    SimProfile profile;
    profile.lengths = ParseLengths("heavy-tail:20,1.5");
    profile.lengths.longest = 2000;
    SimEngine engine(profile, 5, false);
    Finished sink;
    Scheduler scheduler(SimulationOptions(), engine, sink, nullptr);
    for (uint64_t i = 1; i <= 30; ++i) {
      record::Rollout rollout = Waiting(i);
      rollout.seed = seed;
      scheduler.Give(rollout);
    }
    scheduler.Run();
    return std::pair(sink.rollouts, engine.clock().MonotonicNs());
  };
  CHECK(run(3) == run(3));
  CHECK(run(3).second != run(4).second);
}

TEST_CASE("Generated tokens are below the vocabulary, and the stop token comes at the end alone") {
  SimProfile profile;
  profile.vocab_size = 16;
  profile.lengths.tokens = {200};
  for (const std::vector<uint32_t>& own : {std::vector<uint32_t>{}, {7, 8, 9}}) {
    SimEngine engine(profile, 1, false);
    Finished sink;
    Scheduler scheduler(SimulationOptions(), engine, sink, nullptr);
    record::Rollout rollout = Waiting(1);
    rollout.sampling.stop_tokens = own;
    scheduler.Give(rollout);
    scheduler.Run();
    REQUIRE(sink.rollouts.size() == 1);
    const record::Rollout& done = sink.rollouts[0];
    CHECK_NOTHROW(record::Validate(done));
    CHECK(done.tokens.size() == 200);
    CHECK(done.finish == record::Finish::kStop);
    CHECK(*std::max_element(done.tokens.begin(), done.tokens.end()) < 16);
    CHECK(done.segments.at(0).engine == "sim:flat");
    CHECK(done.segments.at(0).kernels == "sim");
  }
}

TEST_CASE("A table of step times is interpolated, goes on beyond its end and never falls there") {
  const StepTimes times = SimProfileFromJson(Minimal()).decode;
  CHECK(times.Ms(1, 0) == Approx(10));
  CHECK(times.Ms(1, 500) == Approx(15));
  CHECK(times.Ms(8, 8 * 500) == Approx(57));
  CHECK(times.Ms(4.5, 4.5 * 500) == Approx((15 + 57) / 2.0));
  CHECK(times.Ms(1, 2000) == Approx(30));
  CHECK(times.Ms(15, 0) == Approx(24));
  CHECK(times.Ms(0, 0) == 0);
  StepTimes falling = times;
  falling.table_ms = {{20, 18}, {16, 15}};
  CHECK(falling.Ms(100, 0) == Approx(16));
  CHECK(falling.Ms(1, 5000) == Approx(18));
  falling.rows = {4};
  falling.contexts = {100};
  falling.table_ms = {{9}};
  CHECK(falling.Ms(77, 12345) == Approx(9));
}

TEST_CASE("Lengths are distributed as they say") {
  const auto lengths = [](const LengthDistribution& distribution) {
    std::vector<double> drawn;
    for (uint64_t uid = 1; uid <= 20'000; ++uid) drawn.push_back(static_cast<double>(distribution.Of(Waiting(uid))));
    std::sort(drawn.begin(), drawn.end());
    return drawn;
  };
  const auto share_above = [](const std::vector<double>& drawn, double limit) {
    return static_cast<double>(drawn.end() - std::upper_bound(drawn.begin(), drawn.end(), limit)) / static_cast<double>(drawn.size());
  };
  const auto lognormal = lengths(ParseLengths("lognormal:1000,0.5"));
  CHECK(lognormal[10'000] == Approx(1000).epsilon(0.02));
  CHECK(share_above(lognormal, 1000 * std::exp(0.5)) == Approx(0.1587).margin(0.01));
  const auto tail = lengths(ParseLengths("heavy-tail:100,1.5"));
  CHECK(tail.front() >= 100);
  CHECK(share_above(tail, 1000) == Approx(std::pow(10.0, -1.5)).margin(0.005));
  const auto list = lengths(ParseLengths("list:10,20,30,40"));
  CHECK(share_above(list, 10) == Approx(0.75).margin(0.01));
  CHECK(share_above(list, 30) == Approx(0.25).margin(0.01));
  const auto histogram = lengths(LengthsFromJson(Json::parse(R"({"distribution":"histogram","edges":[0,10,110],"counts":[1,3]})")));
  CHECK(share_above(histogram, 10) == Approx(0.75).margin(0.01));
  CHECK(share_above(histogram, 60) == Approx(0.375).margin(0.015));
  CHECK(histogram.back() == 110);
  CHECK(histogram.front() == 1);
}

TEST_CASE("Rollouts of a group have in common what group_share says") {
  const auto correlation = [](double group_share) {
    LengthDistribution lengths = ParseLengths("lognormal:1000,0.5");
    lengths.group_share = group_share;
    double xy = 0, xx = 0;
    for (uint64_t group = 1; group <= 5000; ++group) {
      const auto log_of = [&](uint64_t index) { return std::log(static_cast<double>(lengths.Of(Waiting(group * 10 + index, group))) / 1000); };
      const double x = log_of(1), y = log_of(2);
      xy += x * y;
      xx += (x * x + y * y) / 2;
    }
    CHECK(std::sqrt(xx / 5000) == Approx(0.5).epsilon(0.04));  // the spread as a whole stays
    return xy / xx;
  };
  CHECK(correlation(0) == Approx(0).margin(0.05));
  CHECK(correlation(0.6) == Approx(0.6).margin(0.05));
  CHECK(correlation(1) == Approx(1).margin(0.001));
}

TEST_CASE("Profiles that make no sense are refused, naming the key") {
  CHECK(Refusal(Minimal()) == "accepted");
  using Catch::Contains;
  CHECK_THAT(Refusal(Json::parse("[]")), Contains("the profile is [], expected an object"));
  CHECK_THAT(RefusalOf([](Json& j) { j.erase("source"); }), Contains("source is missing"));
  CHECK_THAT(RefusalOf([](Json& j) { j["source"] = ""; }), Contains("source is empty"));
  CHECK_THAT(RefusalOf([](Json& j) { j["format"] = "other"; }), Contains("format is not"));
  CHECK_THAT(RefusalOf([](Json& j) { j["version"] = 2; }), Contains("version is 2, this build reads 1"));
  CHECK_THAT(RefusalOf([](Json& j) { j["name"] = "a b"; }), Contains("name is \"a b\""));
  CHECK_THAT(RefusalOf([](Json& j) { j["memory"] = 5; }), Contains("memory is no key of a profile"));
  CHECK_THAT(RefusalOf([](Json& j) { j["engines"] = 0; }), Contains("engines is 0, expected 1 to"));
  CHECK_THAT(RefusalOf([](Json& j) { j["memory_positions"] = 1.5; }), Contains("memory_positions is 1.5, expected a whole number"));
  CHECK_THAT(RefusalOf([](Json& j) { j["stop_token"] = 1000; }), Contains("stop_token is 1000, expected 0 to 999"));
  CHECK_THAT(RefusalOf([](Json& j) { j["decode"]["rows"] = {8, 1}; }), Contains("decode: rows does not ascend"));
  CHECK_THAT(RefusalOf([](Json& j) { j["decode"]["step_ms"][1][0] = "fast"; }), Contains("decode: step_ms[1][0] is \"fast\", expected a number"));
  CHECK_THAT(RefusalOf([](Json& j) { j["decode"]["step_ms"][1][0] = 0; }), Contains("step_ms[1][0] is 0 ms, expected more than 0"));
  CHECK_THAT(RefusalOf([](Json& j) { j["decode"]["step_ms"].erase(1); }), Contains("step_ms has 1 lines"));
  CHECK_THAT(RefusalOf([](Json& j) {
               j["decode"] = Json::object({{"step_ms", 1}, {"row_ms", -1}, {"context_us", 0}});
             }),
             Contains("none is negative"));
  CHECK_THAT(RefusalOf([](Json& j) { j["prefill"]["token_ms"] = -1; }), Contains("prefill: token_ms is negative"));
  CHECK_THAT(RefusalOf([](Json& j) { j["lengths"]["tokens"] = Json::array(); }), Contains("lengths: tokens is empty"));
  CHECK_THAT(RefusalOf([](Json& j) { j["lengths"]["tokens"] = {0}; }), Contains("lengths: tokens has 0"));
  CHECK_THAT(RefusalOf([](Json& j) { j["lengths"]["distribution"] = "normal"; }), Contains("no distribution is called \"normal\""));
  CHECK_THAT(RefusalOf([](Json& j) { j["lengths"]["sigma"] = 1; }), Contains("lengths: sigma is no key"));
  CHECK_THAT(RefusalOf([](Json& j) { j["lengths"]["group_share"] = 1.1; }), Contains("group_share is 1.1"));
  CHECK_THROWS_AS(LoadSimProfile("no-such-profile"), Error);
  CHECK_THROWS_AS(ParseLengths("lognormal:1000"), Error);
  CHECK_THROWS_AS(ParseLengths("lognormal:0,1"), Error);
}

TEST_CASE("Each shipped profile can be read under its name, and what is written is read again") {
  REQUIRE(kShippedProfiles.size() >= 2);
  for (const ShippedProfile& shipped : kShippedProfiles) {
    const SimProfile profile = LoadSimProfile(shipped.name);
    CHECK(profile.name == shipped.name);
    const Json json = ToJson(profile);
    CHECK(Json::parse(ProfileText(profile)) == json);
    CHECK(ToJson(SimProfileFromJson(json)) == json);
  }
}

TEST_CASE("Measuring an engine finds the times that it has") {
  SimProfile truth = SimProfileFromJson(Minimal());
  truth.decode = {.step_ms = 8, .row_ms = 0.75, .context_us = 3};
  truth.prefill_position_ns = 2000;
  SimEngine engine(truth, 24, false);
  SimProfile found;
  MeasureOptions options;
  options.contexts = {100, 900};
  options.steps = 4;
  MeasureEngine(engine, 50, options, &found);
  CHECK(found.decode.rows == std::vector<int64_t>{1, 2, 4, 8, 16, 24});
  CHECK(found.decode.contexts == std::vector<int64_t>{100, 900});
  for (const double rows : {1.0, 6.0, 24.0}) {
    for (const double context : {100.0, 500.0}) {
      // Contexts grow while they are measured: by at most 50 positions here.
      CHECK(found.decode.Ms(rows, rows * context) == Approx(truth.decode.Ms(rows, rows * (context + 25))).margin(3e-3 * 25 * rows + 1e-3));
    }
  }
  CHECK(found.prefill_token_ms == Approx(truth.prefill_token_ms).epsilon(0.2));  // the step that gives the first token is part of it
  CHECK(found.prefill_position_ns == Approx(2000).epsilon(0.1));
  CHECK(MeasuredLengths({9, 1, 5}).tokens == std::vector<int64_t>{1, 5, 9});
  std::vector<int64_t> many(10'000);
  std::iota(many.begin(), many.end(), 1);
  CHECK(MeasuredLengths(many).tokens.size() == 256);
  CHECK(MeasuredLengths(many).tokens[128] == Approx(5020).margin(20));
  CHECK_THROWS_AS(MeasuredLengths({}), Error);
}

TEST_CASE("Metrics and summary say that time is simulated") {
  SimEngine engine(SimProfile(), 2, false);
  Finished sink;
  Scheduler scheduler(SimulationOptions(), engine, sink, nullptr);
  Meter meter(engine, scheduler, 0);
  scheduler.Give(Waiting(1));
  scheduler.Run();
  CHECK(meter.TakeMetrics().at("simulated") == true);
  CHECK(meter.Summary().ends_with(" in simulated time"));
}

}  // namespace
}  // namespace april::rollout
