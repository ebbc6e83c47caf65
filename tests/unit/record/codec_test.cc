#include <algorithm>
#include <catch2/catch.hpp>

#include "base/bytes.h"
#include "base/error.h"
#include "random_records.h"
#include "record/records.h"
#include "record/view.h"

using namespace april;
using namespace april::record;
using april::test::RecordMaker;
using stream::Map;
using stream::Value;

namespace {

/// A good rollout with 5 tokens; the third and fourth are tool output.
Rollout Good() {
  Rollout rollout;
  rollout.run = "r";
  rollout.prompt_id = "p";
  rollout.uid = 0xabc;
  rollout.group_size = 2;
  rollout.prompt_tokens = {1, 2, 3};
  rollout.tokens = {10, 11, 12, 13, 14};
  rollout.logprobs = {-1, -2, 0, 0, -3};
  rollout.weight_versions = {{4, 40, 0, 2, {}}, {5, 50, 4, 5, {}}};
  rollout.segments.resize(3);
  const int64_t lens[] = {2, 2, 1};
  for (size_t i = 0, start = 0; i < 3; start += static_cast<size_t>(lens[i]), ++i) {
    rollout.segments[i].start = static_cast<int64_t>(start);
    rollout.segments[i].len = lens[i];
  }
  rollout.segments[1].kind = "tool";
  rollout.status = Status::kPartial;
  rollout.max_tokens = 8;
  return rollout;
}

/// The record of `rollout` with one key of its map replaced.
std::string With(const Rollout& rollout, const char* key, Value value) {
  Value decoded = stream::Decode(EncodeRecord(rollout));
  Set(std::get<Map>(decoded.held()), key, std::move(value));
  return stream::Encode(decoded);
}

std::string Refusal(const std::string& bytes) {
  try {
    DecodeRecord(bytes);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kData);
    return error.message();
  }
  return "taken";
}

template <typename Change>
std::string RefusalOf(Change&& change) {
  Rollout rollout = Good();
  change(rollout);
  return Refusal(EncodeRecord(rollout));
}

}  // namespace

TEST_CASE("Text that is not UTF-8 is not written, and its place is named") {
  const auto refusal = [](const auto& record) -> std::string {
    try {
      if constexpr (std::is_same_v<std::decay_t<decltype(record)>, Header>) {
        EncodeHeader(record);
      } else {
        EncodeRecord(record);
      }
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kData);
      return error.message();
    }
    return "written";
  };
  Rollout rollout = Good();
  CHECK(refusal(rollout) == "written");
  rollout.label = "caf\xE9";
  CHECK(refusal(rollout) == "rollout 0000000000000abc: key \"label\": not valid UTF-8 at byte 3");
  rollout.label = "café";
  rollout.meta = {{"source", Map{{"names", stream::Array{"good", "\xFF"}}}}};
  CHECK(refusal(rollout) == "rollout 0000000000000abc: key \"meta\": key \"source\": key \"names\": not valid UTF-8 at byte 0");
  rollout.meta = {{"a\xC3", 1}};
  CHECK(refusal(rollout) == "rollout 0000000000000abc: key \"meta\": key \"a\xEF\xBF\xBD\": not valid UTF-8 at byte 1");
  rollout.meta = {{"bytes", stream::Bin{"\xFF"}}};
  CHECK(refusal(rollout) == "written");
  Prompt prompt;
  prompt.prompt_id = "\xFF";
  CHECK_THAT(refusal(prompt), Catch::Contains("key \"prompt_id\""));
  Header header;
  header.provenance = {{"tool", "1", {"--in", "\xFF.stream"}, {}}};
  CHECK_THAT(refusal(header), Catch::Contains("header: key \"provenance\": key \"argv\""));
}

TEST_CASE("Random records of every type round-trip, unknown keys included") {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    RecordMaker maker(seed);
    const Record record = maker.MakeRecord();
    const std::string bytes = EncodeRecord(record);
    INFO("seed " << seed << ": " << ToJson(bytes).dump());
    const Record decoded = DecodeRecord(bytes);
    REQUIRE(decoded == record);
    REQUIRE(EncodeRecord(decoded) == bytes);
    const Header header = maker.MakeHeader();
    REQUIRE(DecodeHeader(EncodeHeader(header)) == header);
  }
}

TEST_CASE("A record of an unknown type passes byte for byte") {
  const std::string bytes = stream::Encode(Map{{"type", "hologram"}, {"z", 1}, {"a", stream::Array{1.5f}}});
  const Record record = DecodeRecord(bytes);
  CHECK(std::get<Unknown>(record).type == "hologram");
  CHECK(EncodeRecord(record) == bytes);
}

TEST_CASE("Every defect of a rollout is refused by uid, key, and what was seen and expected") {
  CHECK(RefusalOf([](Rollout&) {}) == "taken");
  using Catch::Contains;
  CHECK_THAT(RefusalOf([](Rollout& r) { r.logprobs.pop_back(); }), Contains("rollout 0000000000000abc: key \"logprobs\": 4 values for 5"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.logprobs[1] = NAN; }), Contains("\"logprobs\": value 1 is nan"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.sampled_logprobs = {1}; }), Contains("\"sampled_logprobs\""));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.tokens.push_back(1); }), Contains("5 values for 6 response tokens"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.segments.pop_back(); }), Contains("\"segments\": they cover the tokens to 4"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.segments[1].start = 3; }), Contains("starts at token 3, expected 2"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.segments[2].len = 9; }), Contains("has 9 tokens, but 1 remain"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.segments[0].kind = "dream"; }), Contains("\"dream\" is none of generated"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.segments[0].top_p = 0; }), Contains("top_p"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.weight_versions.pop_back(); }), Contains("generated token 4 has no weight version"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.weight_versions[0].end = 3; }), Contains("tool token 2 has a weight version"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.weight_versions[1].start = 1; }), Contains("does not fit after token 2"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.weight_versions[1].end = 6; }), Contains("\"weight_versions\""));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.logprobs[2] = -1; }), Contains("tool token 2 has another logprob than 0"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.born_version = 5; }), Contains("sampled under version 4"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.max_tokens = 4; }), Contains("\"max_tokens\": 4 is outside"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.index = 2; }), Contains("\"index\""));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.status = Status::kQueued; }), Contains("queued, but there are 5"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.status = Status::kComplete; }), Contains("finish stop or length"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.finish = Finish::kStop; }), Contains("not finished"));
  CHECK_THAT(RefusalOf([](Rollout& r) {
               r.per_token["loss_mask"] = {"u8", 0, std::string(5, '\1'), {}};
             }),
             Contains("tool token 2 has another mask"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.per_token["x"] = {"f32", 4, "12345678", {}}; }), Contains("per_token.x"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.per_token["x"] = {"u8", 6, "", {}}; }), Contains("per_token.x"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.reward = Reward{NAN, {}, "ok", "s", "", {}}; }), Contains("status ok with the value nan"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.reward = Reward{1, {}, "fine", "s", "", {}}; }), Contains("none of ok, error, timeout"));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.advantage = INFINITY; }), Contains("\"advantage\""));
  CHECK_THAT(RefusalOf([](Rollout& r) { r.sampling.temperature = -1; }), Contains("temperature"));
  CHECK(RefusalOf([](Rollout& r) { r.per_token["x"] = {"dtype_of_later", 0, "any", {}}; }) == "taken");
}

TEST_CASE("Defects of form are refused by key") {
  using Catch::Contains;
  CHECK_THAT(Refusal(With(Good(), "tokens", "text")), Contains("rollout 0000000000000abc: key \"tokens\": expected bin, found str"));
  CHECK_THAT(Refusal(With(Good(), "tokens", stream::Bin{"123"})), Contains("a bin of 3 bytes"));
  CHECK_THAT(Refusal(With(Good(), "status", "asleep")), Contains("\"asleep\" is none of queued, partial"));
  CHECK_THAT(Refusal(With(Good(), "epoch", -1)), Contains("\"epoch\": -1 is outside"));
  CHECK_THAT(Refusal(With(Good(), "reward", Map{{"status", "ok"}, {"scorer", "s"}})), Contains("status ok without a value"));
  CHECK_THAT(Refusal(stream::Encode(Map{{"type", "rollout"}, {"uid", 1}})), Contains("key \"run\" is missing"));
  CHECK_THAT(Refusal(stream::Encode(Map{{"type", "prompt"}, {"prompt_id", "a"}, {"prompt_id", "b"}})), Contains("key \"prompt_id\" twice"));
  CHECK_THAT(Refusal(stream::Encode(Map{{"type", "step"}, {"outcomes", stream::Array(1, stream::Array{1})}})), Contains("[uid, outcome]"));
}

TEST_CASE("An error is not a zero on the wire") {
  Rollout rollout = Good();
  rollout.reward = Reward{0, {}, "error", "exec", "it crashed", {}};
  const Value decoded = stream::Decode(EncodeRecord(rollout));
  CHECK(Find(Find(decoded.AsMap(), "reward")->AsMap(), "value") == nullptr);
  CHECK(std::get<Rollout>(DecodeRecord(EncodeRecord(rollout))) == rollout);
}

TEST_CASE("Ids are those of the document") {
  CHECK(HexU64(RolloutUid("golden", "addition-2-3", 0, 1, 0)) == "6a41472148b203fb");
  CHECK(HexU64(GroupId("golden", "addition-2-3", 0)) == "3f5afc2c7f52a689");
  CHECK(RolloutUid("r", "p", 0, 1, 0) != RolloutUid("r", "p", 0, 0, 1));
}

TEST_CASE("The oldest version of a rollout is its smallest, wherever it stands") {
  Rollout rollout = Good();
  CHECK(OldestVersion(rollout) == 4u);
  rollout.weight_versions[1].version = 3;
  CHECK(OldestVersion(rollout) == 3u);
  CHECK(OldestVersion(Rollout{}) == std::nullopt);
}

TEST_CASE("Progress is checked like the rollout that it extends") {
  RecordMaker maker(3);
  Progress progress = maker.MakeProgress();
  CHECK_NOTHROW(Validate(progress));
  progress.segments[0].start += 1;
  CHECK_THROWS_AS(Validate(progress), Error);
}

TEST_CASE("The canonical form forgets timings, provenance, key order and number widths, and nothing else") {
  Rollout a = Good(), b = Good();
  b.segments[0].wall_ms = 99;
  const std::string first = EncodeRecord(a);
  CHECK(first != EncodeRecord(b));
  CHECK(Canonical(first) == Canonical(EncodeRecord(b)));
  b.tokens[0] = 99;
  CHECK(Canonical(first) != Canonical(EncodeRecord(b)));

  CHECK(Canonical(stream::Encode(Map{{"type", "t"}, {"uid", 3}, {"b", 1.5f}, {"a", 1}})) ==
        Canonical(stream::Encode(Map{{"type", "t"}, {"a", 1}, {"b", 1.5}, {"uid", 3}})));
  CHECK(Canonical(stream::Encode(Map{{"type", "t"}, {"meta", Map{{"x_ms", 1}}}})) !=
        Canonical(stream::Encode(Map{{"type", "t"}, {"meta", Map{{"x_ms", 2}}}})));
  CHECK(Canonical(stream::Encode(Map{{"type", "t"}, {"uid", 3}})).uid == 3);
  for (const char* timing : {"wall_ms", "poll_ns", "wall_seconds", "tokens_per_s", "prepare_s"}) {
    const auto metrics = [&](double value) { return Canonical(stream::Encode(Map{{"type", "t"}, {"metrics", Map{{timing, value}, {"loss", 2.0}}}})); };
    CHECK(metrics(1) == metrics(2));
  }
  CHECK(Canonical(stream::Encode(Map{{"type", "t"}, {"tokens", 1}})) != Canonical(stream::Encode(Map{{"type", "t"}, {"tokens", 2}})));

  Header header, other;
  other.provenance.push_back({"tool", "1", {}, {}});
  CHECK(Canonical(EncodeHeader(header)) == Canonical(EncodeHeader(other)));
  other.tokenizer = 1;
  CHECK(Canonical(EncodeHeader(header)) != Canonical(EncodeHeader(other)));
}

TEST_CASE("A header of another major version is incompatible, of another purpose damaged") {
  Value header = stream::Decode(EncodeHeader(Header{}));
  Set(std::get<Map>(header.held()), "version", stream::Array{2, 0});
  try {
    DecodeHeader(stream::Encode(header));
    FAIL("version 2 was taken");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kIncompatible);
  }
  Header strange;
  strange.purpose = "fun";
  CHECK_THROWS_WITH(DecodeHeader(EncodeHeader(strange)), Catch::Contains("none of train, eval"));
}
