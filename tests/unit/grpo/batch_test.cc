// What a claim becomes: outcomes that add up, advantages, trained tokens, refusals.
#include "grpo/batch.h"

#include <catch2/catch.hpp>

#include "base/error.h"
#include "fixtures.h"

using namespace april;
using namespace april::grpo;

namespace {

const BatchLimits kLimits{64, 128, 5, 55, "portable-f32"};

Batch Make(const Claim& claim, MethodOptions options = {}) { return MakeBatch(claim, ParseMethod(options), kLimits); }

std::string Outcome(const Batch& batch, uint64_t uid) {
  for (const auto& [id, outcome] : batch.outcomes) {
    if (id == uid) return outcome;
  }
  return "missing";
}

}  // namespace

TEST_CASE("every rollout has an outcome, and the counts add up") {
  auto group = [](uint64_t id, std::vector<double> rewards) {
    std::vector<record::Rollout> rollouts;
    for (size_t i = 0; i < rewards.size(); ++i) rollouts.push_back(MakeRollout(id, static_cast<int64_t>(i), 5, rewards[i]));
    return rollouts;
  };
  Claim claim = MakeClaim(0, {group(9, {1, 0, 0, 1}), group(2, {0, 0, 0}), group(5, {1, 0, 0}), group(7, {1, 0})});
  claim.groups[0].rollouts[1].reward->status = "error";
  claim.groups[2].rollouts[0].status = record::Status::kFailed;
  claim.groups[3].rollouts[0].reward->status = "timeout";
  const Batch batch = Make(claim);

  CHECK(batch.num_trained == 3);
  CHECK(batch.num_skipped == 5);
  CHECK(batch.num_excluded == 4);
  CHECK(Outcome(batch, 9001) == "excluded:reward-error");
  CHECK(Outcome(batch, 5000) == "excluded:failed");
  CHECK(Outcome(batch, 7000) == "excluded:reward-timeout");
  CHECK(Outcome(batch, 7001) == "excluded:group-too-small");
  CHECK(Outcome(batch, 2000) == "skipped");
  CHECK(Outcome(batch, 5001) == "skipped");  // both that are left have reward 0
  CHECK(Outcome(batch, 9000) == "trained");

  REQUIRE(batch.groups.size() == 3);  // by group id
  CHECK(batch.groups[0].claim_group->group.group_id == 2);
  CHECK(batch.groups[1].claim_group->group.group_id == 5);
  CHECK(batch.groups[2].claim_group->group.group_id == 9);
  // An error outcome is not a zero: the mean is over 1, 0, 1.
  CHECK(batch.groups[2].sequences[0].advantage == Approx((1 - 2.0 / 3) / (std::sqrt(1.0 / 3) + 1e-6)));
  // Zero-advantage groups stay in the denominators.
  CHECK(Totals(batch.groups).num_sequences == 8);
  CHECK(Totals(batch.groups).num_tokens == 40);
}

TEST_CASE("the order of a claim's groups and members does not matter") {
  const Claim claim = MakeMixedClaim(5);
  Claim shuffled = claim;
  std::swap(shuffled.groups[0], shuffled.groups[2]);
  std::swap(shuffled.groups[1].rollouts[0], shuffled.groups[1].rollouts[2]);
  const Batch a = Make(claim), b = Make(shuffled);
  CHECK(a.outcomes == b.outcomes);
  for (size_t g = 0; g < a.groups.size(); ++g) {
    for (size_t s = 0; s < a.groups[g].sequences.size(); ++s) CHECK(a.groups[g].sequences[s].rollout->uid == b.groups[g].sequences[s].rollout->uid);
  }
}

TEST_CASE("zero-advantage groups are trained when there is a reference policy or an entropy term") {
  MethodOptions options;
  SECTION("reference") {
    options.kl = "k3";
    options.kl_coef = 0.01;
  }
  SECTION("entropy") { options.entropy_coef = 0.01; }
  const Batch batch = Make(MakeMixedClaim(5), options);
  CHECK(batch.num_trained == 9);
  CHECK(batch.num_skipped == 0);
}

TEST_CASE("only generated, unmasked tokens are trained, each with its own staleness") {
  Claim claim = MakeClaim(0, {{MakeRollout(1, 0, 6, 1), MakeRollout(1, 1, 6, 0)}});
  record::Rollout& rollout = claim.groups[0].rollouts[0];
  rollout.weight_versions = {{2, 22, 0, 1, {}}, {5, 54, 1, 2, {}}, {5, 55, 3, 6, {}}};  // token 2 is a tool's; 54: of a course that a rewind left
  rollout.per_token["loss_mask"] = {"u8", 0, std::string("\1\1\0\1\0\1", 6)};
  rollout.segments[0].engine = "local";
  rollout.segments[0].kernels = "portable-f32";
  const Batch batch = Make(claim);
  const TrainingSequence& sequence = batch.groups[0].sequences[0];
  CHECK(sequence.trained == std::vector<int32_t>{0, 1, 3, 5});
  CHECK(sequence.staleness == std::vector<int32_t>{3, 1, 0, 0});
  CHECK(sequence.same_forward == std::vector<uint8_t>{0, 0, 1, 1});
  CHECK(sequence.behaviour[2] == static_cast<double>(rollout.logprobs[3]));
}

TEST_CASE("the off-policy mask takes older versions' tokens from the loss, and no token from the denominators") {
  Claim claim = MakeClaim(0, {{MakeRollout(1, 0, 6, 1, 5), MakeRollout(1, 1, 6, 0, 4)}, {MakeRollout(2, 0, 4, 1, 3), MakeRollout(2, 1, 4, 0, 4)}});
  claim.groups[0].rollouts[0].weight_versions = {{3, 33, 0, 2, {}}, {5, 55, 2, 6, {}}};
  MethodOptions options;
  const ClaimTotals plain = Totals(Make(claim, options).groups);
  options.token_filter = "off-policy-mask";
  const Batch batch = Make(claim, options);
  CHECK(batch.groups[0].sequences[0].trained == std::vector<int32_t>{2, 3, 4, 5});
  CHECK(batch.groups[0].sequences[0].filtered == std::vector<int32_t>{2, 2});
  CHECK(batch.groups[0].sequences[0].NumCounted() == 6);
  CHECK(batch.groups[0].sequences[1].trained.empty());
  CHECK(batch.groups[0].sequences[0].advantage != 0);  // the masked rollout's reward counts
  CHECK(Totals(batch.groups).num_tokens == plain.num_tokens);
  CHECK(Totals(batch.groups).num_sequences == 4);
  CHECK(!batch.groups[0].skipped);
  CHECK(batch.groups[1].skipped);  // every token is older
  CHECK(!batch.groups[1].zero_advantage);
  CHECK(batch.num_trained == 2);
  CHECK(batch.num_skipped == 2);
}

TEST_CASE("truncated responses have no policy loss, and their rewards count") {
  Claim claim = MakeMixedClaim(5);
  claim.groups[0].rollouts[0].finish = record::Finish::kLength;
  MethodOptions options;
  const Batch plain = Make(claim, options);
  options.mask_truncated = true;
  const Batch masked = Make(claim, options);
  CHECK(plain.groups[0].sequences[0].advantage != 0);
  CHECK(masked.groups[0].sequences[0].advantage == 0);
  CHECK(masked.groups[0].sequences[0].policy_masked);
  CHECK(masked.groups[0].sequences[1].advantage == plain.groups[0].sequences[1].advantage);
  CHECK(Totals(masked.groups).num_tokens == Totals(plain.groups).num_tokens);
  CHECK(!masked.groups[0].skipped);
  for (auto& rollout : claim.groups[0].rollouts) rollout.finish = record::Finish::kLength;
  CHECK(Make(claim, options).groups[0].skipped);
  options.entropy_coef = 0.01;
  CHECK(!Make(claim, options).groups[0].skipped);
}

TEST_CASE("groups without a gradient are trained all the same where that is asked for") {
  MethodOptions options;
  options.zero_advantage = "train";
  const Batch batch = Make(MakeMixedClaim(5), options);
  CHECK(batch.num_trained == 9);
  CHECK(batch.groups[1].zero_advantage);
}

TEST_CASE("what must not be trained on is refused, naming the rollout") {
  Claim claim = MakeMixedClaim(5);
  record::Rollout& rollout = claim.groups[0].rollouts[1];
  std::string expected;
  SECTION("without log-probabilities") {
    rollout.logprobs.clear();
    expected = "0 log-probabilities for";
  }
  SECTION("a token outside the vocabulary") {
    rollout.tokens[0] = 64;
    expected = "token 64 is outside";
  }
  SECTION("too long") {
    rollout.tokens.resize(200);
    rollout.logprobs.resize(200);
    expected = "128 positions";
  }
  SECTION("not complete") {
    rollout.status = record::Status::kPartial;
    expected = "not complete";
  }
  SECTION("from the future") {
    rollout.weight_versions[0].version = 6;
    expected = "policy version 6, and the trainer is at 5";
  }
  SECTION("greedy") {
    rollout.segments[0].temperature = 0;
    expected = "evaluation only";
  }
  SECTION("another temperature than its group") {
    rollout.segments[0].temperature = 0.5;
    expected = "another temperature";
  }
  SECTION("truncated sampling") {
    rollout.segments[0].top_p = 0.9;
    expected = "top_p 0.9";
    MethodOptions accepting;
    accepting.truncated_sampling = "ignore";
    CHECK_NOTHROW(Make(claim, accepting));
  }
  SECTION("another prompt than its group") {
    rollout.prompt_tokens[0] ^= 1;
    expected = "prompt";
  }
  CHECK_THROWS_WITH(Make(claim), Catch::Contains(expected) && Catch::Contains("index 1"));
}

TEST_CASE("micro-batches are whole groups within the budget, in order, at one temperature") {
  Claim claim = MakeMixedClaim(5);
  const Batch batch = Make(claim);
  using Indices = std::vector<std::vector<size_t>>;
  const std::vector<int> alone(3, 0);
  CHECK(MicroBatches(batch.groups, 1, alone, 0) == Indices{{0}, {2}});
  CHECK(MicroBatches(batch.groups, 10000, alone, 0) == Indices{{0, 2}});  // the second has no gradient
  MethodOptions all;
  all.entropy_coef = 0.01;
  const Batch every = Make(claim, all);
  CHECK(MicroBatches(every.groups, 1, alone, 0) == Indices{{0}, {1}, {2}});
  CHECK(MicroBatches(every.groups, 10000, alone, 0) == Indices{{0, 1, 2}});
  CHECK(MicroBatches(every.groups, every.groups[0].NumTokens() + every.groups[1].NumTokens(), alone, 0) == Indices{{0, 1}, {2}});
  for (auto& rollout : claim.groups[1].rollouts) rollout.segments[0].temperature = 0.7;
  CHECK(MicroBatches(Make(claim, all).groups, 10000, alone, 0) == Indices{{0}, {1}, {2}});
}

TEST_CASE("every loss has its own bounds unless they are given") {
  MethodOptions options;
  options.loss = "gspo";
  options.clip_low = "0.001";
  const Method method = ParseMethod(options);
  CHECK(method.loss.clip.low == 0.001);
  CHECK(method.loss.clip.high == 4e-4);
}

TEST_CASE("fixed-length divides by the largest budget of the claim") {
  Claim claim = MakeMixedClaim(5);
  claim.groups[2].rollouts[0].max_tokens = 100;
  CHECK(Totals(Make(claim).groups).budget_tokens == 100);
}

TEST_CASE("choices that exclude each other are refused with the reason") {
  MethodOptions options;
  SECTION("behaviour as the denominator, and a correction") {
    options.old = "behaviour";
    CHECK_NOTHROW(ParseMethod(options));
    CHECK(Text(ParseMethod(options).loss.correction) == "none");
    options.is_correction = "tis:2";
    CHECK_THROWS_WITH(ParseMethod(options), Catch::Contains("corrected twice"));
  }
  SECTION("an advantage that its spread would make another one") {
    options.advantage = "drgrpo";
    CHECK(ParseMethod(options).spread->name == std::string("none"));
    options.adv_std = "unbiased";
    CHECK_THROWS_WITH(ParseMethod(options), Catch::Contains("not divided"));
    options.advantage = "reinforce-pp";
    CHECK_THROWS_WITH(ParseMethod(options), Catch::Contains("claim's spread"));
    options.adv_std = "batch";
    CHECK_NOTHROW(ParseMethod(options));
  }
  SECTION("a bound that the loss does not have") {
    options.dual_clip = "2";
    CHECK_THROWS_WITH(ParseMethod(options), Catch::Contains("no other loss"));
    options.loss = "dual";
    CHECK(ParseMethod(options).loss.clip.dual == 2);
    options.dual_clip = "1";
    CHECK(ParseMethod(options).loss.clip.dual == 1);
    options.dual_clip = "0.99";
    CHECK_THROWS_WITH(ParseMethod(options), Catch::Contains("from 1 to"));
  }
  SECTION("a bound that is no number") {
    for (const char* text : {"", "x", "0.2x", "-0.1", "2", "nan"}) {
      options.clip_low = text;
      CHECK_THROWS_WITH(ParseMethod(options), Catch::Contains("--clip-low"));
    }
  }
  SECTION("a reset of no reference") {
    options.ref_reset = "every:10";
    CHECK_THROWS_WITH(ParseMethod(options), Catch::Contains("no reference policy"));
  }
  SECTION("a reset that says no step") {
    options.kl = "k3";
    options.kl_coef = 0.1;
    for (const char* text : {"", "10", "@", "@0", "every", "every:", "every:-1", "@5x", "always"}) {
      INFO(text);
      options.ref_reset = text;
      CHECK_THROWS_WITH(ParseMethod(options), Catch::Contains("--ref-reset"));
    }
    options.ref_reset = "@5";
    CHECK(ParseMethod(options).reference_reset.Text() == "@5");
  }
  SECTION("a coefficient of nothing") {
    options.kl_coef = 0.1;
    CHECK_THROWS_AS(ParseMethod(options), Error);
  }
}

TEST_CASE("what is allowed and seldom meant is told, and nothing else") {
  using Catch::Contains;
  MethodOptions options;
  CHECK(Doubts(options).empty());
  SECTION("another loss where every ratio is 1") {
    options.loss = "cispo";
    REQUIRE(Doubts(options).size() == 1);
    CHECK_THAT(Doubts(options)[0], Contains("every ratio is 1") && Contains("--old behaviour"));
    options.optimizer_steps = 2;
    CHECK(Doubts(options).empty());
  }
  SECTION("a ratio of responses, and tokens that count the same") {
    options.loss = "gspo";
    options.old = "behaviour";
    REQUIRE(Doubts(options).size() == 1);
    CHECK_THAT(Doubts(options)[0], Contains("(--agg seq-mean)"));
    options.agg = "seq-mean";
    CHECK(Doubts(options).empty());
  }
  SECTION("a divergence that is only measured") {
    options.kl = "k3";
    REQUIRE(Doubts(options).size() == 1);
    CHECK_THAT(Doubts(options)[0], Contains("only measures"));
  }
  SECTION("a divergence that moves nothing") {
    options.kl_coef = 0.1;
    options.kl = "k1";
    CHECK_NOTHROW(ParseMethod(options));
    REQUIRE(Doubts(options).size() == 1);
    CHECK_THAT(Doubts(options)[0], Contains("--kl k1") && Contains("--kl k3"));
    for (const char* kl : {"k2", "k3"}) {
      options.kl = kl;
      CHECK(Doubts(options).empty());
    }
  }
}
