#include "reward/overlong.h"

#include <catch2/catch.hpp>

#include "base/error.h"

using namespace april;
using namespace april::reward;

namespace {

record::Rollout Sampled(int64_t length, double value) {
  record::Rollout rollout;
  rollout.segments.resize(1);
  rollout.segments[0].len = length;
  rollout.reward = record::Reward{};
  rollout.reward->value = value;
  rollout.reward->scorer = "exact";
  return rollout;
}

}  // namespace

TEST_CASE("the soft overlong punishment is DAPO's equation 13") {
  const OverlongLimit limit{16384, 4096};
  CHECK(OverlongPunishment(0, limit) == 0);
  CHECK(OverlongPunishment(12288, limit) == 0);
  CHECK(OverlongPunishment(12289, limit) == -1.0 / 4096);
  CHECK(OverlongPunishment(13312, limit) == -0.25);
  CHECK(OverlongPunishment(14336, limit) == -0.5);
  CHECK(OverlongPunishment(16383, limit) == -4095.0 / 4096);
  CHECK(OverlongPunishment(16384, limit) == -1);
  CHECK(OverlongPunishment(16385, limit) == -1);
  CHECK(OverlongPunishment(int64_t{1} << 40, limit) == -1);
}

TEST_CASE("a buffer of one token is a step, one as long as the maximum a slope from the first token on") {
  CHECK(OverlongPunishment(9, {10, 1}) == 0);
  CHECK(OverlongPunishment(10, {10, 1}) == -1);
  CHECK(OverlongPunishment(0, {10, 10}) == 0);
  CHECK(OverlongPunishment(1, {10, 10}) == -0.1);
  CHECK(OverlongPunishment(11, {10, 10}) == -1);
}

TEST_CASE("the limit is read, or refused with an example") {
  CHECK_FALSE(ParseOverlong(""));
  const auto limit = ParseOverlong("16384:4096");
  REQUIRE(limit);
  CHECK(limit->max_tokens == 16384);
  CHECK(limit->buffer_tokens == 4096);
  CHECK(ParseOverlong("1:1"));
  CHECK(ParseOverlong("64:64"));
  for (const char* wrong :
       {"64", ":", "64:", ":64", "64:0", "64:-1", "64:65", "0:0", "-1:-1", "64:1.5", "64:8 ", "64:8:1", "16k:4k", "99999999999999999999:1"}) {
    INFO(wrong);
    try {
      ParseOverlong(wrong);
      FAIL("was not refused");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kUsage);
      CHECK(error.hint().find("--overlong 16384:4096") != std::string::npos);
    }
  }
}

TEST_CASE("length is what the policy sampled, over all segments") {
  record::Rollout rollout = Sampled(10, 1);
  rollout.segments.resize(4);
  rollout.segments[1].kind = "tool";
  rollout.segments[1].len = 100;
  rollout.segments[2].len = 5;
  rollout.segments[3].kind = "forced";
  rollout.segments[3].len = 1000;
  CHECK(NumSampledTokens(rollout) == 15);
  CHECK(NumSampledTokens({}) == 0);
  AddOverlong({20, 10}, &rollout);
  CHECK(rollout.reward->value == 0.5);
}

TEST_CASE("the punishment is added, and both parts can be seen") {
  using Parts = std::vector<std::pair<std::string, double>>;
  record::Rollout rollout = Sampled(15, 1);
  AddOverlong({20, 10}, &rollout);
  CHECK(rollout.reward->value == 0.5);
  CHECK(rollout.reward->parts == Parts{{"exact", 1}, {"overlong", -0.5}});
  record::Rollout wrong = Sampled(25, 0);
  AddOverlong({20, 10}, &wrong);
  CHECK(wrong.reward->value == -1);
  CHECK(wrong.reward->parts == Parts{{"exact", 0}, {"overlong", -1}});
  record::Rollout brief = Sampled(1, 1);
  AddOverlong({20, 10}, &brief);
  CHECK(brief.reward->value == 1);
  CHECK(brief.reward->parts == Parts{{"exact", 1}, {"overlong", 0}});
}

TEST_CASE("what was not judged is not punished") {
  for (const char* status : {"error", "timeout"}) {
    record::Rollout rollout = Sampled(25, 0);
    rollout.reward->status = status;
    const record::Rollout before = rollout;
    AddOverlong({20, 10}, &rollout);
    CHECK(rollout == before);
  }
  record::Rollout unscored;
  AddOverlong({20, 10}, &unscored);
  CHECK_FALSE(unscored.reward);
}
