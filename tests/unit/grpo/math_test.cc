// The formulas against reference values (tests/parity/grpo_reference.py), against published golden vectors, and against finite differences.
#include "grpo/math.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"

using namespace april;
using namespace april::grpo;
using Doubles = std::vector<double>;

namespace {

const Json& Reference() {
  static const Json reference = Json::parse(ReadFile(SystemFiles(), std::string(APRIL_SOURCE_DIR) + "/tests/parity/grpo_reference.json"));
  return reference;
}

Doubles Advantages(const Doubles& rewards, const std::string& spread) {
  Doubles out(rewards.size());
  GrpoAdvantages(rewards, FindRule(SpreadRules(), "adv-std", spread), out);
  return out;
}

LossRules Rules(const std::string& correction, const std::string& agg, const std::string& kl, double kl_coef) {
  return {ParseCorrection(correction), {0.2, 0.28}, &FindRule(KlRules(), "kl", kl), kl_coef, &FindRule(AggregationRules(), "agg", agg)};
}

double Uniform(uint64_t index) { return RandomUnit(5, RandomUse::kTest, 1, index); }

}  // namespace

TEST_CASE("Exp is exact at 0 and as good as the reference elsewhere") {
  CHECK(Exp(0) == 1.0);
  CHECK(Exp(-0.0) == 1.0);
  CHECK(Exp(-800) == 0);
  CHECK(std::isinf(Exp(800)));
  CHECK(std::isnan(Exp(std::nan(""))));
  for (const auto& row : Reference()["exp"]) CHECK(Exp(row["x"].get<double>()) == Approx(row["exp"].get<double>()).epsilon(1e-15));
  double worst = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    const double x = (Uniform(i) - 0.5) * 60;
    worst = std::max(worst, std::abs(Exp(x) / std::exp(x) - 1));
  }
  CHECK(worst < 3e-16);
}

TEST_CASE("advantages equal the published vectors") {
  const Doubles rewards{1, 0, 0, 1, 0, 0, 0, 0};
  CHECK(Advantages(rewards, "unbiased")[0] == Approx(1.620182).margin(1e-6));
  CHECK(Advantages(rewards, "unbiased")[1] == Approx(-0.540061).margin(1e-6));
  CHECK(Advantages(rewards, "population")[0] == Approx(1.732047).margin(1e-6));
  CHECK(Advantages(rewards, "population")[1] == Approx(-0.577349).margin(1e-6));
  CHECK(Advantages(rewards, "none") == Doubles{0.75, -0.25, -0.25, 0.75, -0.25, -0.25, -0.25, -0.25});
}

TEST_CASE("advantages equal the reference, and are exactly zero for equal rewards") {
  for (const auto& row : Reference()["advantages"]) {
    const auto expected = row["advantages"].get<Doubles>();
    const auto seen = Advantages(row["rewards"].get<Doubles>(), row["std"].get<std::string>());
    for (size_t i = 0; i < expected.size(); ++i) CHECK(seen[i] == Approx(expected[i]).margin(1e-10));
  }
  CHECK(Advantages({0.1, 0.1, 0.1}, "unbiased") == Doubles{0, 0, 0});
}

TEST_CASE("correction weights equal the published vectors") {
  const Doubles behaviour(6, 0.0), log_ratios{-.8, -.5, 0, .5, 1, 2};
  Doubles weights(6);
  const Correction tis = ParseCorrection("tis");
  CHECK(tis.Text() == "tis:2");
  tis.rule->weigh(log_ratios, behaviour, tis.parameters, weights);
  const Doubles expected{.44933, .60653, 1, 1.64872, 2, 2};
  for (size_t i = 0; i < 6; ++i) CHECK(weights[i] == Approx(expected[i]).margin(5e-6));
  CHECK(weights[2] == 1.0);
}

TEST_CASE("a correction that makes no sense is refused") {
  for (const char* text : {"tis:", "tis:0.5", "tis:2,3", "tis:nan", "none:1", "icepop", "tis:2x"}) CHECK_THROWS_AS(ParseCorrection(text), Error);
  CHECK(ParseCorrection("tis:1.25").Text() == "tis:1.25");
}

TEST_CASE("loss and gradients of a claim equal the reference on every axis") {
  const Json& reference = Reference();
  const auto& sequences = reference["sequences"];
  ClaimTotals totals;
  for (const auto& sequence : sequences) {
    ++totals.num_sequences;
    totals.num_tokens += static_cast<int64_t>(sequence["logprobs"].size());
  }
  for (const auto& claim : reference["claims"]) {
    const LossRules rules = Rules(claim["correction"], claim["agg"], claim["kl"], reference["kl_coef"]);
    INFO(claim["std"] << " " << claim["old"] << " " << claim["correction"] << " " << claim["agg"] << " " << claim["kl"]);
    double loss = 0;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const auto& sequence = sequences[s];
      const auto advantages = Advantages(reference["group_rewards"][sequence["group"].get<size_t>()].get<Doubles>(), claim["std"]);
      const auto logprobs = sequence["logprobs"].get<Doubles>(), behaviour = sequence["behaviour"].get<Doubles>(),
                 kl = sequence["reference"].get<Doubles>();
      const auto old = claim["old"] == "behaviour" ? behaviour : sequence["old"].get<Doubles>();
      SequenceTerms terms;
      SequenceLoss(rules,
                   {logprobs, old, behaviour, kl, advantages[sequence["index"].get<size_t>()],
                    rules.aggregation->weight(totals, static_cast<int64_t>(logprobs.size()))},
                   &terms);
      loss += terms.loss;
      const auto expected = claim["gradients"][s].get<Doubles>();
      REQUIRE(terms.gradients.size() == expected.size());
      for (size_t t = 0; t < expected.size(); ++t) CHECK(terms.gradients[t] == Approx(expected[t]).margin(1e-10));
    }
    CHECK(loss == Approx(claim["loss"].get<double>()).margin(1e-10));
  }
}

TEST_CASE("gradients are the loss's finite differences, and no gradient flows through the correction") {
  const double step = 1e-6;
  for (const char* correction : {"none", "tis:1.5"}) {
    for (const char* kl : {"off", "k1", "k2", "k3"}) {
      const LossRules rules = Rules(correction, "token-mean", kl, 0.3);
      for (uint64_t round = 0; round < 20; ++round) {
        const size_t n = 7;
        Doubles logprobs(n), old(n), behaviour(n), reference(n);
        for (size_t t = 0; t < n; ++t) {
          logprobs[t] = -3 * Uniform(round * 100 + t);
          old[t] = logprobs[t] + 0.8 * (Uniform(round * 100 + 20 + t) - 0.5);
          behaviour[t] = logprobs[t] + 2 * (Uniform(round * 100 + 40 + t) - 0.5);
          reference[t] = logprobs[t] + 2 * (Uniform(round * 100 + 60 + t) - 0.5);
        }
        const double advantage = 4 * (Uniform(round * 100 + 80) - 0.5);
        SequenceTerms terms, plus, minus;
        SequenceLoss(rules, {logprobs, old, behaviour, reference, advantage, 0.125}, &terms);
        for (size_t t = 0; t < n; ++t) {
          if (std::abs(std::exp(logprobs[t] - old[t]) - 0.8) < 1e-4 || std::abs(std::exp(logprobs[t] - old[t]) - 1.28) < 1e-4)
            continue;  // a corner has no slope
          Doubles moved = logprobs;
          moved[t] += step;
          SequenceLoss(rules, {moved, old, behaviour, reference, advantage, 0.125}, &plus);
          moved[t] -= 2 * step;
          SequenceLoss(rules, {moved, old, behaviour, reference, advantage, 0.125}, &minus);
          CHECK((plus.loss - minus.loss) / (2 * step) == Approx(terms.gradients[t]).epsilon(1e-6).margin(1e-8));
        }
      }
    }
  }
}

TEST_CASE("on policy, the correction equals none bit for bit and every gradient is -A times the token's weight") {
  const Doubles logprobs{-0.7f, -3.25f, -0.0013f, -11.5f};
  SequenceTerms none, tis;
  const SequenceInputs inputs{logprobs, logprobs, logprobs, {}, 1.620182, 0.01};
  SequenceLoss(Rules("none", "token-mean", "off", 0), inputs, &none);
  SequenceLoss(Rules("tis:2", "token-mean", "off", 0), inputs, &tis);
  CHECK(none.gradients == tis.gradients);
  CHECK(none.loss == tis.loss);
  for (const double gradient : none.gradients) CHECK(gradient == 0.01 * -1.620182);
}

TEST_CASE("k3 is never negative") {
  for (uint64_t i = 0; i < 1000; ++i) CHECK(KlK3(-5 * Uniform(i), -5 * Uniform(i + 5000)).value >= -1e-15);
}

TEST_CASE("a name that no row has is refused with the choices") {
  CHECK_THROWS_WITH(FindRule(AggregationRules(), "agg", "sum"), Catch::Contains("token-mean, seq-mean"));
}
