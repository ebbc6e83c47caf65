#include "reward/scorer.h"

#include <catch2/catch.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "reward/response_text.h"
#include "reward/tally.h"

using namespace april;
using namespace april::reward;

namespace {

record::Reward Judge(ScorerOptions options, const std::string& response, const std::string* label) {
  return MakeScorer(options)->Score({response, label});
}

ScorerOptions Named(const std::string& scorer, const std::string& pattern = "") {
  ScorerOptions options;
  options.scorer = scorer;
  options.pattern = pattern;
  return options;
}

double Value(const std::string& scorer, const std::string& response, const std::string& label, const std::string& pattern = "") {
  const record::Reward reward = Judge(Named(scorer, pattern), response, &label);
  INFO(reward.detail);
  CHECK(reward.status == "ok");
  CHECK(reward.scorer == scorer);
  return reward.value;
}

/// Every byte a token, and two special tokens behind them.
std::shared_ptr<const text::Tokenizer> Bytes() {
  text::TokenizerSpec spec;
  spec.source = "bytes";
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(std::string(1, static_cast<char>(byte)));
  for (const char* special : {"<end>", "<other>"}) {
    text::AddedToken token;
    token.id = static_cast<uint32_t>(spec.tokens.size());
    token.content = special;
    token.special = true;
    spec.added.push_back(token);
    spec.tokens.emplace_back(special);
  }
  spec.stop_ids = {256};
  return text::Tokenizer::FromSpec(std::move(spec));
}

}  // namespace

TEST_CASE("exact compares all of the response") {
  CHECK(Value("exact", " Paris\n", "Paris") == 1);
  CHECK(Value("exact", "Paris.", "Paris") == 0);
}

TEST_CASE("gsm8k takes the last number of the response and of the label") {
  CHECK(Value("gsm8k", "2 + 3 = 5", "5") == 1);
  CHECK(Value("gsm8k", "It is 5, no, 6", "5") == 0);
  CHECK(Value("gsm8k", "She has $1,080 left.", "…<<12*90=1080>>\n#### 1,080") == 1);
  CHECK(Value("gsm8k", "5 apples and 1,", "1") == 1);
  CHECK(Value("gsm8k", "the answer is -4", "4") == 0);
  CHECK(Value("gsm8k", "the answer is -4", "#### -4") == 1);
  CHECK(Value("gsm8k", "five", "5") == 0);
  CHECK(Value("gsm8k", "", "5") == 0);
  for (const char* same : {"18", "18.", "18.0", "It costs $18.00.", "018", "2 * 9 = 18.000"}) CHECK(Value("gsm8k", same, "18") == 1);
  for (const char* other : {"18.01", "1.8", "0.18", "-18", "180", "18.00 and 5"}) CHECK(Value("gsm8k", other, "18") == 0);
  CHECK(Value("gsm8k", "$1,080.50", "#### 1080.5") == 1);
  CHECK(Value("gsm8k", "so .5 of it", "0.50") == 1);
  CHECK(Value("gsm8k", "-0.0", "0") == 1);
  CHECK(Value("gsm8k", "100", "1") == 0);
  CHECK(Value("gsm8k", "123456789012345678901234567890.10", "123456789012345678901234567890.1") == 1);
  CHECK(Value("gsm8k", "123456789012345678901234567890", "123456789012345678901234567891") == 0);
}

TEST_CASE("regex compares the last match's capture, or is content with a match") {
  CHECK(Value("regex", "answer: 3, answer: 4", "4", R"(answer: (\d+))") == 1);
  CHECK(Value("regex", "answer: 3, answer: 4", "3", R"(answer: (\d+))") == 0);
  CHECK(Value("regex", "nothing", "3", R"(answer: (\d+))") == 0);
  const record::Reward format = Judge(Named("regex", "^<think>.*</think>"), "<think>x</think>y", nullptr);
  CHECK(format.status == "ok");
  CHECK(format.value == 1);
  CHECK(Value("regex", "aé", "", "(?=é)|z*") == 1);  // empty matches end somewhere
}

TEST_CASE("an error is an outcome, never a zero") {
  const std::string empty, no_number = "five", open = "\\boxed{5", five = "5";
  for (const auto& [scorer, label] : std::vector<std::pair<std::string, const std::string*>>{
           {"gsm8k", nullptr}, {"exact", nullptr}, {"math", nullptr}, {"gsm8k", &empty}, {"gsm8k", &no_number}, {"math", &open}}) {
    const record::Reward reward = Judge(Named(scorer), "5", label);
    INFO(scorer << ": " << reward.detail);
    CHECK(reward.status == "error");
    CHECK_FALSE(reward.detail.empty());
  }
  CHECK(Judge(Named("regex", "(a)"), "a", nullptr).status == "error");
  CHECK(Judge(Named("exact"), "\xFF", &five).status == "error");
  const std::string broken = "\xE2\x82";
  CHECK(Judge(Named("exact"), "x", &broken).status == "error");
}

TEST_CASE("what cannot be decided in time is no zero") {
  struct Case {
    std::string scorer, pattern;
    int64_t timeout_ms;
    std::string response, label;
    bool by_steps;  ///< a limit of steps may come before the deadline
  };
  for (const Case& it : {Case{"regex", "^(a+)+$|(b)", 50, std::string(60, 'a') + "!", "x", true},
                         Case{"math", "", 1, "\\boxed{5}", "\\text{" + std::string(4'000'000, 'a') + "} ", false}}) {
    INFO(it.scorer);
    ScorerOptions options = Named(it.scorer, it.pattern);
    options.timeout_ms = it.timeout_ms;
    const int64_t start = SystemClock().MonotonicNs();
    const record::Reward reward = Judge(options, it.response, &it.label);
    CHECK((reward.status == "timeout" || (it.by_steps && reward.status == "error")));
    CHECK(SystemClock().MonotonicNs() - start < 20'000'000'000);
  }
}

TEST_CASE("options that cannot work are refused") {
  CHECK_THROWS_AS(MakeScorer(Named("nonsense")), Error);
  CHECK_THROWS_AS(MakeScorer(Named("regex")), Error);
  CHECK_THROWS_AS(MakeScorer(Named("regex", "(")), Error);
  CHECK_THROWS_AS(MakeScorer(Named("gsm8k", "x")), Error);
  for (const ScorerInfo& info : ListScorers()) CHECK_NOTHROW(MakeScorer(Named(info.name, std::string(info.name) == "regex" ? "x" : "")));
}

TEST_CASE("graders see the response without its final stop token") {
  const auto tokenizer = Bytes();
  record::Rollout rollout;
  rollout.tokens = {'4', '2', 256};
  rollout.finish = record::Finish::kStop;
  CHECK(ResponseText(rollout, *tokenizer) == "42");
  rollout.tokens = {256, '4', '2', 257, 256};
  CHECK(ResponseText(rollout, *tokenizer) == "<end>42<other>");
  rollout.sampling.stop_tokens = {'2'};  // the rollout's own stop tokens hold; this one ended with another
  CHECK(ResponseText(rollout, *tokenizer) == "<end>42<other><end>");
  rollout.tokens = {'4', '2'};
  CHECK(ResponseText(rollout, *tokenizer) == "4");
  rollout.finish = record::Finish::kLength;
  CHECK(ResponseText(rollout, *tokenizer) == "42");
  rollout.tokens = {0xC3};
  CHECK(ResponseText(rollout, *tokenizer) == "\xEF\xBF\xBD");

  rollout.tokens = {'5', 9999};
  rollout.label = "5";
  CHECK(ResponseText(rollout, *tokenizer) == "5\xEF\xBF\xBD");  // an id without a token, as models with padded vocabularies can sample
  const record::Reward reward = ScoreRollout(rollout, *MakeScorer(Named("gsm8k")), *tokenizer);
  CHECK(reward.status == "ok");
  CHECK(reward.value == 1);
}

TEST_CASE("the tally adds up") {
  Tally tally;
  record::Rollout rollout;
  rollout.tokens = {1, 2, 3};
  rollout.finish = record::Finish::kLength;
  rollout.reward = record::Reward{};
  rollout.reward->value = 1;
  tally.AddJudged(rollout);
  rollout.reward->value = 0;
  rollout.finish = record::Finish::kStop;
  tally.AddJudged(rollout);
  rollout.reward->status = "timeout";
  rollout.reward->value = 0;
  tally.AddJudged(rollout);
  tally.AddPassed();
  CHECK(tally.Text() == "read 4, scored 2 (mean reward 0.5), passed 1, errors 1");
  CHECK(tally.window_judged() == 3);
  const Json window = tally.TakeWindow();
  CHECK(window["mean_reward"] == 0.5);
  CHECK(window["mean_response_tokens"] == 3);
  CHECK(window["truncated_share"] == 0.5);
  CHECK(tally.window_judged() == 0);
  CHECK(tally.errors() == 1);
  tally.AddJudged(rollout);  // errors alone are a window too, and have no mean
  CHECK(tally.window_judged() == 1);
  const Json errors_alone = tally.TakeWindow();
  CHECK(errors_alone["errors"] == 2);
  CHECK(errors_alone["rollouts"] == 0);
  CHECK(errors_alone["mean_reward"].is_null());
}
