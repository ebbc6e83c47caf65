// Not a test: writes the streams that tests/cli/reward-score work on. APRIL_ROLLOUTS names the file, APRIL_ROLLOUTS_STATUS its end status (ok).
#include <catch2/catch.hpp>
#include <cstdlib>

#include "record/io.h"
#include "text/tokenizer.h"

using namespace april;

namespace {

record::Rollout Rollout(const text::Tokenizer& tokenizer, int64_t index, const std::string& response, record::Status status, record::Finish finish) {
  record::Rollout rollout;
  rollout.run = "test";
  rollout.prompt_id = "p" + std::to_string(index);
  rollout.uid = record::RolloutUid(rollout.run, rollout.prompt_id, 0, 0, 0);
  rollout.group_id = record::GroupId(rollout.run, rollout.prompt_id, 0);
  rollout.prompt_tokens = tokenizer.Encode("What is 2 + 3?", false);
  rollout.tokens = tokenizer.Encode(response, true);
  const auto length = static_cast<int64_t>(rollout.tokens.size());
  rollout.logprobs.assign(rollout.tokens.size(), -1.0f);
  rollout.weight_versions = {{0, 1, 0, length, {}}};
  rollout.segments.emplace_back();
  rollout.segments[0].len = length;
  rollout.segments[0].engine = "local";
  rollout.segments[0].kernels = "portable";
  rollout.sampling.stop_tokens = {tokenizer.FindToken("<|im_end|>").value()};
  rollout.status = status;
  rollout.finish = finish;
  rollout.max_tokens = 64;
  rollout.born_version = 0;
  rollout.label = "5";
  rollout.meta = {{"difficulty", stream::Value(1)}};
  return rollout;
}

/// A response of `length` sampled tokens, which begins with its only number.
record::Rollout Long(const text::Tokenizer& tokenizer, int64_t index, const std::string& number, int64_t length) {
  record::Rollout rollout = Rollout(tokenizer, index, number, record::Status::kComplete, record::Finish::kLength);
  rollout.tokens.resize(static_cast<size_t>(length), tokenizer.Encode(" so", false).at(0));
  rollout.logprobs.resize(rollout.tokens.size(), -1.0f);
  rollout.weight_versions[0].end = rollout.segments[0].len = length;
  rollout.max_tokens = 20480;
  return rollout;
}

/// Goes on with `length` tokens that a tool put in, and as many sampled under the next version.
void Continue(record::Rollout* rollout, int64_t length) {
  const auto start = static_cast<int64_t>(rollout->tokens.size());
  rollout->tokens.resize(static_cast<size_t>(start + 2 * length), rollout->tokens.back());
  rollout->logprobs.resize(static_cast<size_t>(start + length), 0.0f);
  rollout->logprobs.resize(rollout->tokens.size(), -1.0f);
  for (const int64_t begin : {start, start + length}) {
    rollout->segments.push_back(rollout->segments[0]);
    rollout->segments.back().start = begin;
    rollout->segments.back().len = length;
  }
  rollout->segments[1].kind = "tool";
  rollout->weight_versions.push_back({1, 2, start + length, start + 2 * length, {}});
}

}  // namespace

TEST_CASE("write the stream of tests/cli/reward-score", "[.rollouts]") {
  using record::Finish;
  using record::Status;
  const auto tokenizer = text::Tokenizer::Load(std::string(APRIL_SOURCE_DIR) + "/tests/unit/text/data/smollm.tokenizer.json");
  record::Header header;
  header.run = "test";
  header.policy_version = 0;
  header.tokenizer = tokenizer->digest();
  record::RecordWriter writer(std::getenv("APRIL_ROLLOUTS"), header, {.compress = false});
  writer.Write(Rollout(*tokenizer, 0, "2 + 3 = 5<|im_end|>", Status::kComplete, Finish::kStop));
  writer.Write(Rollout(*tokenizer, 1, "It is 6 or \\boxed{5}, no, 6", Status::kComplete, Finish::kLength));
  writer.Write(Rollout(*tokenizer, 2, "Let me", Status::kPartial, Finish::kNone));
  record::Rollout unlabelled = Rollout(*tokenizer, 3, "5<|im_end|>", Status::kComplete, Finish::kStop);
  unlabelled.label.reset();
  writer.Write(unlabelled);
  record::Rollout scored = Rollout(*tokenizer, 4, "5<|im_end|>", Status::kComplete, Finish::kStop);
  scored.reward = record::Reward{};
  scored.reward->value = 0.25;
  scored.reward->scorer = "earlier";
  scored.unknown = {{"x_note", stream::Value("kept")}};
  writer.Write(scored);
  writer.WriteEncoded(stream::Encode(stream::Map{{"type", stream::Value("later")}, {"n", stream::Value(7)}}));
  const char* variable = std::getenv("APRIL_ROLLOUTS_STATUS");
  const std::string status = variable != nullptr ? variable : "ok";
  writer.Finish(status == "stopped" ? stream::EndStatus::kStopped : status == "error" ? stream::EndStatus::kError : stream::EndStatus::kOk);
}

TEST_CASE("write responses of known lengths", "[.lengths]") {
  const auto tokenizer = text::Tokenizer::Load(std::string(APRIL_SOURCE_DIR) + "/tests/unit/text/data/smollm.tokenizer.json");
  record::Header header;
  header.run = "test";
  header.policy_version = 1;
  header.tokenizer = tokenizer->digest();
  record::RecordWriter writer(std::getenv("APRIL_ROLLOUTS"), header, {.compress = false});
  int64_t index = 0;
  for (const int64_t length : {100, 12288, 13312, 14336, 16384, 16385, 20000}) writer.Write(Long(*tokenizer, index++, "5", length));
  writer.Write(Long(*tokenizer, index++, "6", 14336));
  record::Rollout continued = Long(*tokenizer, index++, "5", 12288);
  Continue(&continued, 2048);
  writer.Write(continued);
  record::Rollout unlabelled = Long(*tokenizer, index++, "5", 16384);
  unlabelled.label.reset();
  writer.Write(unlabelled);
  record::Rollout failed = Long(*tokenizer, index++, "5", 16384);
  failed.status = record::Status::kFailed;
  failed.finish = record::Finish::kError;
  writer.Write(failed);
  writer.Finish(stream::EndStatus::kOk);
}
