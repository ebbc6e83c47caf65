// The formulas against reference values (tests/parity/grpo_reference.py), against published golden vectors, and against finite differences.
#include "grpo/math.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "grpo/method.h"

using namespace april;
using namespace april::grpo;
using Doubles = std::vector<double>;

namespace {

const Json& Golden() {
  static const Json reference = Json::parse(ReadFile(SystemFiles(), std::string(APRIL_SOURCE_DIR) + "/tests/parity/grpo_reference.json"));
  return reference;
}

/// Within 1e-10. Catch's comparison allows a hundred-thousandth of the value beside its margin, unless it is told not to.
Approx Near(double value) { return Approx(value).margin(1e-10).epsilon(0); }

Doubles AdvantagesOf(const Doubles& rewards, const std::string& rule, const std::string& spread) {
  const std::vector<Doubles> claim{rewards};
  return Advantages(FindRule(AdvantageRules(), "advantage", rule), FindRule(SpreadRules(), "adv-std", spread), claim)[0];
}

/// The rules of one case of the reference; what is left out is plain.
LossRules RulesOf(const Json& names) {
  LossRules rules;
  rules.correction = ParseCorrection(names.value("correction", "none"));
  rules.policy = &FindRule(PolicyRules(), "loss", names.value("loss", "ppo"));
  rules.clip = rules.policy->clip;
  rules.kl = &FindRule(KlRules(), "kl", names.value("kl", "off"));
  rules.kl_coef = rules.kl->term == nullptr ? 0 : Golden()["kl_coef"].get<double>();
  rules.entropy_coef = names.value("entropy", false) ? Golden()["entropy_coef"].get<double>() : 0;
  rules.aggregation = &FindRule(AggregationRules(), "agg", names.value("agg", "token-mean"));
  return rules;
}

double Uniform(uint64_t index) { return RandomUnit(5, RandomUse::kTest, 1, index); }

/// Random log-probabilities of one response: what each policy gives its tokens.
struct RandomResponse {
  Doubles logprobs, old, behaviour, reference, entropies;
  double advantage;
  RandomResponse(uint64_t round, size_t num_tokens) : advantage(4 * (Uniform(round * 100 + 99) - 0.5)) {
    for (size_t t = 0; t < num_tokens; ++t) {
      const auto near = [&](uint64_t which, double width) { return logprobs[t] + width * (Uniform(round * 100 + which * 10 + t) - 0.5); };
      logprobs.push_back(-3 * Uniform(round * 100 + t));
      old.push_back(near(1, 0.8));
      behaviour.push_back(near(2, 2));
      reference.push_back(near(3, 2));
      entropies.push_back(2 * Uniform(round * 100 + 40 + t));
    }
  }
  SequenceInputs Inputs(double token_weight) const { return {logprobs, old, behaviour, reference, entropies, advantage, token_weight}; }
};

}  // namespace

TEST_CASE("Exp is exact at 0 and as good as the reference elsewhere") {
  CHECK(Exp(0) == 1.0);
  CHECK(Exp(-0.0) == 1.0);
  CHECK(Exp(-800) == 0);
  CHECK(std::isinf(Exp(800)));
  CHECK(std::isnan(Exp(std::nan(""))));
  for (const auto& row : Golden()["exp"]) CHECK(Exp(row["x"].get<double>()) == Approx(row["exp"].get<double>()).epsilon(1e-15));
  double worst = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    const double x = (Uniform(i) - 0.5) * 60;
    worst = std::max(worst, std::abs(Exp(x) / std::exp(x) - 1));
  }
  CHECK(worst < 3e-16);
}

TEST_CASE("advantages equal the published vectors") {
  const Doubles rewards{1, 0, 0, 1, 0, 0, 0, 0};
  CHECK(AdvantagesOf(rewards, "grpo", "unbiased")[0] == Approx(1.620182).margin(1e-6));
  CHECK(AdvantagesOf(rewards, "grpo", "unbiased")[1] == Approx(-0.540061).margin(1e-6));
  CHECK(AdvantagesOf(rewards, "grpo", "population")[0] == Approx(1.732047).margin(1e-6));
  CHECK(AdvantagesOf(rewards, "grpo", "population")[1] == Approx(-0.577349).margin(1e-6));
  CHECK(AdvantagesOf(rewards, "drgrpo", "none") == Doubles{0.75, -0.25, -0.25, 0.75, -0.25, -0.25, -0.25, -0.25});
  CHECK(AdvantagesOf(rewards, "rloo", "none")[0] == Approx(0.857143).margin(1e-6));
  CHECK(AdvantagesOf(rewards, "rloo", "none")[1] == Approx(-0.285714).margin(1e-6));
  CHECK(AdvantagesOf({1, 0}, "grpo", "unbiased")[0] == Approx(0.7071).margin(1e-4));  // 2-GRPO
  CHECK(AdvantagesOf({1, 0}, "grpo", "population")[0] == Approx(1).margin(1e-5));
}

TEST_CASE("advantages equal the reference, and are exactly zero for equal rewards") {
  std::map<std::string, int> seen_rules;
  for (const auto& row : Golden()["advantages"]) {
    ++seen_rules[row["rule"].get<std::string>()];
    ++seen_rules[row["std"].get<std::string>()];
    INFO(row["rule"] << " " << row["std"]);
    const auto expected = row["advantages"].get<std::vector<Doubles>>();
    const auto rewards = row["rewards"].get<std::vector<Doubles>>();
    const auto seen = Advantages(FindRule(AdvantageRules(), "advantage", row["rule"]), FindRule(SpreadRules(), "adv-std", row["std"]), rewards);
    REQUIRE(seen.size() == expected.size());
    for (size_t g = 0; g < expected.size(); ++g) {
      for (size_t i = 0; i < expected[g].size(); ++i) CHECK(seen[g][i] == Near(expected[g][i]));
    }
  }
  for (const AdvantageRule& rule : AdvantageRules()) {
    CHECK(seen_rules[rule.name] > 0);  // no row without its reference value
    for (const SpreadRule& spread : SpreadRules()) {
      CHECK(seen_rules[spread.name] > 0);
      CHECK(AdvantagesOf({0.1, 0.1, 0.1}, rule.name, spread.name) == Doubles{0, 0, 0});
      CHECK(AdvantagesOf({0.7}, rule.name, spread.name) == Doubles{0});
    }
  }
}

TEST_CASE("correction weights equal the published vectors") {
  const Doubles behaviour(6, 0.0), log_ratios{-.8, -.5, 0, .5, 1, 2};
  const auto weights = [&](const char* text) {
    Doubles result(6);
    std::vector<uint8_t> bounded(6);
    ParseCorrection(text).Weigh(log_ratios, behaviour, result, bounded);
    return result;
  };
  const std::vector<std::pair<const char*, Doubles>> expected{
      {"none", {1, 1, 1, 1, 1, 1}},
      {"tis", {.44933, .60653, 1, 1.64872, 2, 2}},
      {"icepop", {0, .60653, 1, 1.64872, 2.71828, 0}},
      {"seq:100", Doubles(6, 9.02501)},
      {"seq", Doubles(6, 2)},
      {"geo", Doubles(6, 1.44292)},
      {"geo:1.2", Doubles(6, 1.2)},
  };
  for (const auto& [text, values] : expected) {
    INFO(text);
    for (size_t i = 0; i < 6; ++i) CHECK(weights(text)[i] == Approx(values[i]).margin(5e-6));
  }
  CHECK(weights("tis")[2] == 1.0);
  const auto bounded = [&](const char* text) {
    Doubles result(6);
    std::vector<uint8_t> is_bounded(6);
    ParseCorrection(text).Weigh(log_ratios, behaviour, result, is_bounded);
    return is_bounded;
  };
  CHECK(bounded("tis") == std::vector<uint8_t>{0, 0, 0, 0, 1, 1});
  CHECK(bounded("icepop") == std::vector<uint8_t>{1, 0, 0, 0, 0, 1});
  CHECK(bounded("seq:100") == std::vector<uint8_t>(6, 0));
}

TEST_CASE("a correction that makes no sense is refused") {
  for (const char* text : {"tis:", "tis:0.5", "tis:2,3", "tis:nan", "tis:inf", "none:1", "icepop:2,5", "icepop:0.5", "icepop:0.5,", "icepop:0.5,0.9",
                           "icepop:0.5,5,6", "mis", "tis:2x"}) {
    INFO(text);
    CHECK_THROWS_AS(ParseCorrection(text), Error);
  }
  CHECK(Text(ParseCorrection("tis:1.25")) == "tis:1.25");
  CHECK(Text(ParseCorrection("icepop")) == "icepop:0.5,5");
  CHECK(Text(ParseCorrection("none")) == "none");
}

TEST_CASE("loss and gradients of a claim equal the reference on every axis") {
  const Json& reference = Golden();
  const auto& sequences = reference["sequences"];
  ClaimTotals totals;
  totals.budget_tokens = reference["budget"];
  for (const auto& sequence : sequences) {
    ++totals.num_sequences;
    totals.num_tokens += static_cast<int64_t>(sequence["logprobs"].size());
  }
  const auto rewards = reference["group_rewards"].get<std::vector<Doubles>>();
  std::map<std::string, int> rules_seen;
  for (const auto& claim : reference["claims"]) {
    LossRules rules = RulesOf(claim);
    const auto& bounds = reference["bounds"][claim["loss"].get<std::string>()];
    rules.clip = {bounds[0], bounds[1], bounds.size() > 2 ? bounds[2].get<double>() : 0};
    INFO(claim["advantage"] << " " << claim["std"] << " " << claim["loss"] << " " << claim["old"] << " " << claim["correction"] << " " << claim["agg"]
                            << " " << claim["kl"] << " " << claim["entropy"]);
    const auto advantages =
        Advantages(FindRule(AdvantageRules(), "advantage", claim["advantage"]), FindRule(SpreadRules(), "adv-std", claim["std"]), rewards);
    double loss = 0;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const auto& sequence = sequences[s];
      const auto logprobs = sequence["logprobs"].get<Doubles>(), behaviour = sequence["behaviour"].get<Doubles>(),
                 kl = sequence["reference"].get<Doubles>(), entropies = sequence["entropies"].get<Doubles>();
      const auto old = claim["old"] == "behaviour" ? behaviour : sequence["old"].get<Doubles>();
      SequenceTerms terms;
      SequenceLoss(rules,
                   {logprobs, old, behaviour, kl, entropies, advantages[sequence["group"].get<size_t>()][sequence["index"].get<size_t>()],
                    rules.aggregation->weight(totals, static_cast<int64_t>(logprobs.size()))},
                   &terms);
      loss += terms.loss;
      const auto expected = claim["gradients"][s].get<Doubles>();
      REQUIRE(terms.gradients.size() == expected.size());
      for (size_t t = 0; t < expected.size(); ++t) CHECK(terms.gradients[t] == Near(expected[t]));
      CHECK(terms.entropy_gradient == Near(claim["entropy_gradients"][s].get<double>()));
    }
    CHECK(loss == Near(claim["value"].get<double>()));
    ++rules_seen[rules.policy->name];
    ++rules_seen[rules.correction.rule->name];
    ++rules_seen[rules.kl->name];
    ++rules_seen[rules.aggregation->name];
  }
  for (const auto& rule : PolicyRules()) CHECK(rules_seen[rule.name] > 0);  // no row without its reference value
  for (const auto& rule : CorrectionRules()) CHECK(rules_seen[rule.name] > 0);
  for (const auto& rule : KlRules()) CHECK(rules_seen[rule.name] > 0);
  for (const auto& rule : AggregationRules()) CHECK(rules_seen[rule.name] > 0);
}

TEST_CASE("gradients are the loss's finite differences") {
  const double step = 1e-6;
  for (const PolicyRule& policy : PolicyRules()) {
    for (const char* correction : {"none", "tis:1.5", "icepop:0.8,1.5", "seq", "geo"}) {
      for (const char* kl : {"off", "k1", "k2", "k3"}) {
        LossRules rules = RulesOf({{"loss", policy.name}, {"correction", correction}, {"kl", kl}, {"entropy", true}});
        rules.clip = {0.1, 0.15, 1.2};
        for (uint64_t round = 0; round < 20; ++round) {
          const RandomResponse response(round, 7);
          SequenceTerms terms, plus, minus;
          SequenceLoss(rules, response.Inputs(0.125), &terms);
          for (size_t t = 0; t < 7; ++t) {
            const auto moved = [&](double by) {
              RandomResponse result = response;
              result.logprobs[t] += by;
              if (policy.name == std::string("cispo")) result.old[t] += by, result.behaviour[t] += by;  // holds what no gradient flows through
              return result;
            };
            SequenceLoss(rules, moved(step).Inputs(0.125), &plus);
            SequenceLoss(rules, moved(-step).Inputs(0.125), &minus);
            if (plus.clips != minus.clips) continue;  // a corner has no slope
            INFO(policy.name << " " << correction << " " << kl << " round " << round << " token " << t);
            CHECK((plus.loss - minus.loss) / (2 * step) == Approx(terms.gradients[t]).epsilon(1e-6).margin(1e-8));
          }
        }
      }
    }
  }
}

TEST_CASE("on policy, every correction equals none bit for bit and every gradient is -A times the token's weight") {
  const Doubles logprobs{-0.7f, -3.25f, -0.0013f, -11.5f, -1.25f, -0.3f, -2.7f};
  const SequenceInputs inputs{logprobs, logprobs, logprobs, {}, {}, 1.620182, 0.01};
  SequenceTerms none, corrected;
  SequenceLoss(RulesOf(Json::object()), inputs, &none);
  for (const double gradient : none.gradients) CHECK(gradient == 0.01 * -1.620182);
  for (const CorrectionRule& rule : CorrectionRules()) {
    SequenceLoss(RulesOf({{"correction", rule.name}}), inputs, &corrected);
    CHECK(none.gradients == corrected.gradients);
    CHECK(none.loss == corrected.loss);
    CHECK(corrected.bounded == std::vector<uint8_t>(logprobs.size(), 0));
  }
}

TEST_CASE("at ratio 1 all losses have the same gradient, bit for bit") {
  const Doubles logprobs{-0.7f, -3.25f, -0.0013f, -11.5f, -1.25f, -0.3f, -2.7f}, behaviour{-1, -3, -0.2, -9, -1, -0.3, -3};
  for (const char* correction : {"none", "seq"}) {
    SequenceTerms ppo, other;
    const SequenceInputs inputs{logprobs, logprobs, behaviour, {}, {}, -0.57, 1.0 / 7 / 3};
    SequenceLoss(RulesOf({{"correction", correction}}), inputs, &ppo);
    for (const PolicyRule& rule : PolicyRules()) {
      INFO(rule.name);
      SequenceLoss(RulesOf({{"correction", correction}, {"loss", rule.name}}), inputs, &other);
      for (size_t t = 0; t < logprobs.size(); ++t) CHECK(other.gradients[t] == Approx(ppo.gradients[t]).epsilon(correction[0] == 'n' ? 0 : 1e-15));
      CHECK(other.clips == std::vector<int8_t>(logprobs.size(), 0));
    }
  }
}

TEST_CASE("learning rates equal the reference") {
  std::map<std::string, int> seen_rules;
  for (const auto& row : Golden()["schedules"]) {
    const Schedule schedule{&FindRule(ScheduleRules(), "lr-schedule", row["name"]), row["lr"], row["floor"], row["warmup"], row["total"]};
    INFO(row["name"]);
    ++seen_rules[row["name"].get<std::string>()];
    int64_t step = 0;
    for (const double expected : row["rates"].get<Doubles>()) CHECK(LearningRate(schedule, step++) == Approx(expected).epsilon(1e-14));
  }
  for (const ScheduleRule& rule : ScheduleRules()) {  // it begins at --lr and ends at the floor, exactly
    CHECK(seen_rules[rule.name] > 0);                 // no row without its reference value
    const Schedule schedule{&rule, 1e-5, 1e-6, 0, 7};
    CHECK(LearningRate(schedule, 0) == 1e-5);
    if (rule.height != nullptr) CHECK(LearningRate(schedule, 7) == 1e-6);
  }
}

TEST_CASE("schedules that cannot be meant are refused") {
  OptimizerOptions options;
  SECTION("no end") { options.lr_schedule = "cosine"; }
  SECTION("an end within the warm-up") {
    options.lr_schedule = "linear";
    options.warmup_steps = options.total_steps = 5;
  }
  SECTION("a floor that nothing falls to") { options.lr_floor = 1e-7; }
  SECTION("a floor above") {
    options.lr_schedule = "linear";
    options.total_steps = 5;
    options.lr_floor = 1e-3;
  }
  CHECK_THROWS_AS(ParseSchedule(options), Error);
}

TEST_CASE("k3 is never negative") {
  for (uint64_t i = 0; i < 1000; ++i) CHECK(KlK3(-5 * Uniform(i), -5 * Uniform(i + 5000)).value >= -1e-15);
}

TEST_CASE("a name that no row has is refused with the choices") {
  CHECK_THROWS_WITH(FindRule(AggregationRules(), "agg", "sum"), Catch::Contains("token-mean, seq-mean, fixed-length"));
}
