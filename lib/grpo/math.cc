#include "grpo/math.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/error.h"

namespace april::grpo {

double Exp(double x) {
  if (std::isnan(x)) return x;
  if (x > 709.78) return std::numeric_limits<double>::infinity();
  if (x < -745.2) return 0;
  // x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, the first with enough trailing zeros that n * kLn2High is exact.
  constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10, kLog2E = 1.44269504088896338700e+00;
  const double n = std::floor(x * kLog2E + 0.5);
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double sum = 1.0 / 6227020800.0;  // Taylor series to r^13 / 13!, whose remainder is below 1e-17
  for (const double factorial : {479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0, 720.0, 120.0, 24.0, 6.0, 2.0})
    sum = sum * r + 1.0 / factorial;
  return std::ldexp(1.0 + (r + r * r * sum), static_cast<int>(n));
}

// ---- 1. Advantages ----

namespace {

constexpr double kSpreadEpsilon = 1e-6;

double SquaredDeviations(std::span<const double> rewards, double mean) {
  double sum = 0;
  for (const double reward : rewards) sum += (reward - mean) * (reward - mean);
  return sum;
}
// sqrt(sum of squared deviations / (G - 1)) + 1e-6: over the group's members less one.
double UnbiasedSpread(std::span<const double> rewards, double mean) {
  return std::sqrt(SquaredDeviations(rewards, mean) / static_cast<double>(rewards.size() - 1)) + kSpreadEpsilon;
}
// sqrt(sum of squared deviations / G) + 1e-6: over the group's members.
double PopulationSpread(std::span<const double> rewards, double mean) {
  return std::sqrt(SquaredDeviations(rewards, mean) / static_cast<double>(rewards.size())) + kSpreadEpsilon;
}
double NoSpread(std::span<const double>, double) { return 1; }

const SpreadRule kSpreadRules[] = {
    {"unbiased", "standard deviation with G-1, plus 1e-6", UnbiasedSpread},
    {"population", "standard deviation with G, plus 1e-6", PopulationSpread},
    {"none", "1: deviations from the mean as they are (Dr. GRPO)", NoSpread},
};

}  // namespace

std::span<const SpreadRule> SpreadRules() { return kSpreadRules; }

void GrpoAdvantages(std::span<const double> rewards, const SpreadRule& spread, std::span<double> advantages) {
  const auto [low, high] = std::minmax_element(rewards.begin(), rewards.end());
  if (rewards.size() < 2 || *low == *high) {
    std::fill(advantages.begin(), advantages.end(), 0.0);
    return;
  }
  double sum = 0;
  for (const double reward : rewards) sum += reward;
  const double mean = sum / static_cast<double>(rewards.size());
  const double divisor = spread.divisor(rewards, mean);
  for (size_t i = 0; i < rewards.size(); ++i) advantages[i] = (rewards[i] - mean) / divisor;
}

// ---- 2. Correction ----

namespace {

// w = 1.   Source  APRIL, arXiv 2509.18521: its update is uncorrected.
void NoCorrection(std::span<const double>, std::span<const double>, std::span<const double>, std::span<double> weights) {
  std::fill(weights.begin(), weights.end(), 1.0);
}
// w_t = min(exp(o_t - b_t), C): exactly 1 where o_t = b_t.   Source  truncated importance sampling, Ionides 2008; per token between sampler and
// trainer.
void TruncatedWeights(std::span<const double> old_logprobs, std::span<const double> behaviour_logprobs, std::span<const double> parameters,
                      std::span<double> weights) {
  for (size_t t = 0; t < weights.size(); ++t) weights[t] = std::min(Exp(old_logprobs[t] - behaviour_logprobs[t]), parameters[0]);
}

const CorrectionRule kCorrectionRules[] = {
    {"none", "every token counts 1, whichever weights sampled it", {}, NoCorrection},
    {"tis", "min(old / behaviour, C) per token; C after the colon, at least 1", {2.0}, TruncatedWeights},
};

}  // namespace

std::span<const CorrectionRule> CorrectionRules() { return kCorrectionRules; }

Correction ParseCorrection(const std::string& text) {
  const size_t colon = text.find(':');
  Correction correction;
  correction.rule = &FindRule(CorrectionRules(), "is-correction", text.substr(0, colon));
  correction.parameters = correction.rule->defaults;
  if (colon == std::string::npos) return correction;
  const char* next = text.c_str() + colon + 1;
  for (double& parameter : correction.parameters) {
    char* end = nullptr;
    parameter = std::strtod(next, &end);
    if (end == next || !std::isfinite(parameter) || parameter < 1)
      throw Error::Usage("--is-correction " + text + ": a number of at least 1 is needed after the colon");
    next = *end == ',' ? end + 1 : end;
  }
  if (*next != '\0' || correction.parameters.empty()) throw Error::Usage("--is-correction " + text + ": '" + next + "' is not understood");
  return correction;
}

std::string Correction::Text() const {
  std::string text = rule->name;
  for (size_t i = 0; i < parameters.size(); ++i) {
    std::string number = std::to_string(parameters[i]);
    number.erase(number.find_last_not_of('0') + 1);
    if (number.back() == '.') number.pop_back();
    text += (i == 0 ? ":" : ",") + number;
  }
  return text;
}

// ---- 3. Policy loss ----

void PpoLoss(std::span<const double> log_ratios, double advantage, const ClipBounds& clip, std::span<double> losses, std::span<double> gradients) {
  for (size_t t = 0; t < log_ratios.size(); ++t) {
    const double ratio = Exp(log_ratios[t]);
    const double free = ratio * advantage;
    const double clipped = std::clamp(ratio, 1 - clip.low, 1 + clip.high) * advantage;
    const bool holds = clipped < free;  // false for NaN, which then shows in the loss
    losses[t] = holds ? -clipped : -free;
    gradients[t] = holds ? 0 : -free;
  }
}

// ---- 4. Divergence from a reference policy ----
// Source  "Approximating KL divergence", J. Schulman 2020: k1, k2 and k3 estimate KL(current || reference) from tokens of the current policy.

KlTerm KlK1(double logprob, double reference_logprob) { return {logprob - reference_logprob, 1}; }

namespace {

KlTerm KlK2(double logprob, double reference_logprob) {
  const double difference = logprob - reference_logprob;
  return {difference * difference / 2, difference};
}

}  // namespace

KlTerm KlK3(double logprob, double reference_logprob) {
  const double difference = reference_logprob - logprob;
  const double ratio = Exp(difference);
  return {ratio - 1 - difference, 1 - ratio};
}

namespace {

const KlRule kKlRules[] = {
    {"off", "no reference policy", nullptr},
    {"k1", "l - f", KlK1},
    {"k2", "(l - f)^2 / 2", KlK2},
    {"k3", "exp(f - l) - 1 - (f - l), never negative (GRPO)", KlK3},
};

}  // namespace

std::span<const KlRule> KlRules() { return kKlRules; }

// ---- 5. Aggregation ----

namespace {

// Every trained token of the claim counts the same: sum over tokens / number of trained tokens in the claim.   Source  DAPO, arXiv 2503.14476,
// section 3.3.
double TokenMean(const ClaimTotals& totals, int64_t) { return 1 / static_cast<double>(totals.num_tokens); }
// Every response counts the same: mean over its trained tokens, then mean over the claim's responses.   Source  GRPO, arXiv 2402.03300, equation 3.
double SequenceMean(const ClaimTotals& totals, int64_t sequence_tokens) {
  return 1 / (static_cast<double>(totals.num_sequences) * static_cast<double>(sequence_tokens));
}

const AggregationRule kAggregationRules[] = {
    {"token-mean", "mean over all trained tokens of the claim (DAPO)", TokenMean},
    {"seq-mean", "mean over each response's trained tokens, then over responses (GRPO)", SequenceMean},
};

}  // namespace

std::span<const AggregationRule> AggregationRules() { return kAggregationRules; }

// ---- 6. One sequence ----

void SequenceLoss(const LossRules& rules, const SequenceInputs& inputs, SequenceTerms* terms) {
  const size_t num_tokens = inputs.logprobs.size();
  for (auto* values : {&terms->gradients, &terms->weights, &terms->policy_gradients, &terms->log_ratios_, &terms->losses_})
    values->resize(num_tokens);
  for (size_t t = 0; t < num_tokens; ++t) terms->log_ratios_[t] = inputs.logprobs[t] - inputs.old_logprobs[t];
  PpoLoss(terms->log_ratios_, inputs.advantage, rules.clip, terms->losses_, terms->policy_gradients);
  rules.correction.rule->weigh(inputs.old_logprobs, inputs.behaviour_logprobs, rules.correction.parameters, terms->weights);
  terms->loss = terms->kl = 0;
  for (size_t t = 0; t < num_tokens; ++t) {
    double loss = terms->weights[t] * terms->losses_[t];
    double gradient = terms->weights[t] * terms->policy_gradients[t];
    if (rules.kl->term != nullptr) {
      const KlTerm kl = rules.kl->term(inputs.logprobs[t], inputs.reference_logprobs[t]);
      loss += rules.kl_coef * kl.value;
      gradient += rules.kl_coef * kl.gradient;
      terms->kl += kl.value;
    }
    terms->loss += inputs.token_weight * loss;
    terms->gradients[t] = inputs.token_weight * gradient;
  }
}

template <typename Rule>
const Rule& FindRule(std::span<const Rule> rules, const std::string& axis, const std::string& name) {
  std::string names;
  for (const Rule& rule : rules) {
    if (name == rule.name) return rule;
    names += (names.empty() ? "" : ", ") + std::string(rule.name);
  }
  throw Error::Usage("--" + axis + " " + name + ": not one of " + names);
}
template const SpreadRule& FindRule(std::span<const SpreadRule>, const std::string&, const std::string&);
template const CorrectionRule& FindRule(std::span<const CorrectionRule>, const std::string&, const std::string&);
template const KlRule& FindRule(std::span<const KlRule>, const std::string&, const std::string&);
template const AggregationRule& FindRule(std::span<const AggregationRule>, const std::string&, const std::string&);

}  // namespace april::grpo
