#include "grpo/math.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

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

double Mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// R_i - mean R.   Source  GRPO, arXiv 2402.03300, section 4.1.2; Dr. GRPO, arXiv 2503.20783, section 3.2; REINFORCE++ with a baseline, arXiv
// 2501.03262.
void FromMean(std::span<const double> rewards, std::span<double> centred) {
  const double mean = Mean(rewards);
  for (size_t i = 0; i < rewards.size(); ++i) centred[i] = rewards[i] - mean;
}
// R_i - mean of the other members' R.   Source  RLOO, arXiv 2402.14740.
void FromOthersMean(std::span<const double> rewards, std::span<double> centred) {
  const auto size = static_cast<double>(rewards.size());
  FromMean(rewards, centred);
  for (double& value : centred) value *= size / (size - 1);
}

const AdvantageRule kAdvantageRules[] = {
    {"grpo", "reward less the group's mean, divided by the group's spread", "unbiased", false, FromMean},
    {"drgrpo", "reward less the group's mean, not divided", "none", false, FromMean},
    {"rloo", "reward less the mean of the group's other members, not divided", "none", false, FromOthersMean},
    {"reinforce-pp", "reward less the group's mean, divided by the spread of all these over the claim (REINFORCE++ with a baseline)", "batch", true,
     FromMean},
};

// sqrt(sum of squared deviations / (n - degrees)) + 1e-6
double Deviation(std::span<const double> values, double degrees) {
  const double mean = Mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / (static_cast<double>(values.size()) - degrees)) + kSpreadEpsilon;
}
double UnbiasedDeviation(std::span<const double> values) { return Deviation(values, 1); }
double PopulationDeviation(std::span<const double> values) { return Deviation(values, 0); }
double NoSpread(std::span<const double>) { return 1; }

// Source  of unbiased and population: GRPO, arXiv 2402.03300, section 4.1.2, which says "std" and not which (libraries differ); of none: Dr. GRPO,
// arXiv 2503.20783, section 3.2; of batch: "Tricks or traps?", arXiv 2508.08221: the group's mean, the batch's standard deviation.
const SpreadRule kSpreadRules[] = {
    {"unbiased", "the group's standard deviation with G-1, plus 1e-6", false, UnbiasedDeviation},
    {"population", "the group's standard deviation with G, plus 1e-6", false, PopulationDeviation},
    {"none", "not divided", false, NoSpread},
    {"batch", "standard deviation of all the claim's rewards (reinforce-pp: less their groups' means) with n-1, plus 1e-6", true, UnbiasedDeviation},
};

}  // namespace

std::span<const AdvantageRule> AdvantageRules() { return kAdvantageRules; }
std::span<const SpreadRule> SpreadRules() { return kSpreadRules; }

std::vector<std::vector<double>> Advantages(const AdvantageRule& rule, const SpreadRule& spread, std::span<const std::vector<double>> rewards) {
  std::vector<std::vector<double>> result;
  std::vector<double> claim;
  for (const std::vector<double>& group : rewards) {
    std::vector<double> centred(group.size(), 0.0);
    const auto [low, high] = std::minmax_element(group.begin(), group.end());
    if (group.size() > 1 && *low != *high) rule.centre(group, centred);
    const std::vector<double>& values = rule.spread_of_centred ? centred : group;
    claim.insert(claim.end(), values.begin(), values.end());
    result.push_back(std::move(centred));
  }
  for (size_t g = 0; g < result.size(); ++g) {
    const std::vector<double>& group = rule.spread_of_centred ? result[g] : rewards[g];
    const double divisor = spread.divisor(spread.over_claim ? claim : group);
    for (double& advantage : result[g]) advantage = advantage == 0 ? 0 : advantage / divisor;
  }
  return result;
}

// ---- 2. Correction ----

namespace {

using Values = std::span<const double>;

void OneForAll(Values, Values, std::span<double> ratios) { std::fill(ratios.begin(), ratios.end(), 1.0); }
// exp(o_t - b_t): exactly 1 where o_t = b_t.
void TokenRatios(Values old_logprobs, Values behaviour_logprobs, std::span<double> ratios) {
  for (size_t t = 0; t < ratios.size(); ++t) ratios[t] = Exp(old_logprobs[t] - behaviour_logprobs[t]);
}
double LogRatio(Values old_logprobs, Values behaviour_logprobs) {
  double sum = 0;
  for (size_t t = 0; t < old_logprobs.size(); ++t) sum += old_logprobs[t] - behaviour_logprobs[t];
  return sum;
}
// exp(sum over the response's trained tokens of o - b): what makes the expectation right, at the price of its variance.
void SequenceRatio(Values old_logprobs, Values behaviour_logprobs, std::span<double> ratios) {
  std::fill(ratios.begin(), ratios.end(), Exp(LogRatio(old_logprobs, behaviour_logprobs)));
}

// The n-th root of that: a sequence's mean drift, whatever its length.   Source  GSPO, arXiv 2507.18071, equation 7, of old to behaviour.
void GeometricMeanRatio(Values old_logprobs, Values behaviour_logprobs, std::span<double> ratios) {
  std::fill(ratios.begin(), ratios.end(), Exp(LogRatio(old_logprobs, behaviour_logprobs) / static_cast<double>(ratios.size())));
}

double AsItIs(double ratio, Values) { return ratio; }
double AtMost(double ratio, Values parameters) { return std::min(ratio, parameters[0]); }
double WithinOrZero(double ratio, Values parameters) { return ratio >= parameters[0] && ratio <= parameters[1] ? ratio : 0; }

constexpr CorrectionParameter kCap{2, 1, 1e300};

// Sources  none: APRIL, arXiv 2509.18521, whose update is uncorrected. tis, seq: truncated importance sampling, Ionides 2008. icepop:
// Ring-1T, arXiv 2510.18855; a token outside counts 0 and stays in the denominator.
const CorrectionRule kCorrectionRules[] = {
    {"none", "every token counts 1, whichever weights sampled it", {}, OneForAll, AsItIs},
    {"tis", "min(old / behaviour, C) per token", {kCap}, TokenRatios, AtMost},
    {"icepop", "A,B: old / behaviour per token where that is from A to B, elsewhere 0", {{0.5, 0, 1}, {5, 1, 1e300}}, TokenRatios, WithinOrZero},
    {"seq", "min(product of a response's ratios, C), for all its tokens", {kCap}, SequenceRatio, AtMost},
    {"geo", "min(geometric mean of a response's ratios, C), for all its tokens", {kCap}, GeometricMeanRatio, AtMost},
};

}  // namespace

std::span<const CorrectionRule> CorrectionRules() { return kCorrectionRules; }

void Correction::Weigh(Values old_logprobs, Values behaviour_logprobs, std::span<double> weights, std::span<uint8_t> bounded) const {
  rule->ratios(old_logprobs, behaviour_logprobs, weights);
  for (size_t t = 0; t < weights.size(); ++t) {
    const double ratio = weights[t];
    weights[t] = rule->weight(ratio, parameters);
    bounded[t] = weights[t] != ratio;
  }
}

// ---- 3. Policy loss ----

namespace {

// -min(r A, clip(r, 1 - low, 1 + high) A); the gradient is 0 where the clip holds.
//   Source  PPO, arXiv 1707.06347, equation 7; separate bounds: DAPO, arXiv 2503.14476, equation 10.
PolicyTerm PpoTerm(double ratio, double, double advantage, const ClipBounds& clip) {
  const double bounded = std::clamp(ratio, 1 - clip.low, 1 + clip.high);
  const double free = ratio * advantage, clipped = bounded * advantage;
  if (clipped < free) return {-clipped, 0, ratio < bounded ? -1 : 1};  // false for NaN, which then shows in the loss
  return {-free, -free, 0};
}
// As ppo, but where A < 0 at most -c A: a ratio that has run away pulls no more.   Source  dual-clip PPO, arXiv 1912.09729, equation 5.
PolicyTerm DualTerm(double ratio, double logprob, double advantage, const ClipBounds& clip) {
  if (advantage < 0 && ratio > clip.dual) return {-clip.dual * advantage, 0, 1};
  return PpoTerm(ratio, logprob, advantage, clip);
}
// -clip(r) A l with clip(r) held constant: a bound limits a token's weight and never silences it.   Source  CISPO, arXiv 2506.13585, equations 4, 5.
PolicyTerm CispoTerm(double ratio, double logprob, double advantage, const ClipBounds& clip) {
  const double bounded = std::clamp(ratio, 1 - clip.low, 1 + clip.high);
  return {-bounded * advantage * logprob, -bounded * advantage, ratio < bounded ? -1 : ratio > bounded ? 1 : 0};
}

// Sources of the bounds  ppo, dual: DAPO, section 4.1, and dual-clip PPO's constant; gspo: arXiv 2507.18071, section 5.1 (its ratio: equation 7);
// cispo: no lower one, as in its paper, and at most 5, which arXiv 2510.13786 found to be among the good ones.
const PolicyRule kPolicyRules[] = {
    {"ppo", "-min(r A, clip(r) A)", {0.2, 0.28}, false, PpoTerm},
    {"dual", "ppo, and where A < 0 at most -A times --dual-clip", {0.2, 0.28}, false, DualTerm},
    {"gspo", "ppo with one r for a response, the geometric mean of its tokens' ratios", {3e-4, 4e-4}, true, PpoTerm},
    {"cispo", "-clip(r) A l, clip(r) held constant: a clipped token keeps a gradient", {1, 4}, false, CispoTerm},
};

}  // namespace

std::span<const PolicyRule> PolicyRules() { return kPolicyRules; }

// ---- 4. Divergence from a reference policy ----
// Source  "Approximating KL divergence", J. Schulman 2020: k1, k2 and k3 estimate KL(current || reference) from tokens of the current policy.
// A loss of them goes elsewhere, in expectation over such a token: k1 nowhere (E[d l] = 0), k2 down KL(current || reference), k3 down KL(reference ||
// current).

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
    {"k1", "l - f, whose gradient is 0 in expectation", KlK1},
    {"k2", "(l - f)^2 / 2, whose gradient is that of KL(current || reference)", KlK2},
    {"k3", "exp(f - l) - 1 - (f - l), never negative (GRPO), whose gradient is that of KL(reference || current)", KlK3},
};

}  // namespace

std::span<const KlRule> KlRules() { return kKlRules; }

// ---- 5. Filter and aggregation ----

namespace {

bool EveryToken(int64_t) { return true; }
// Source  the mask that APRIL's authors added to slime, --mask-offpolicy-in-partial-rollout; there a masked token leaves the denominator, too.
bool OnPolicyToken(int64_t staleness) { return staleness <= 0; }

const TokenFilterRule kTokenFilterRules[] = {
    {"off", "all trained tokens", EveryToken},
    {"off-policy-mask", "only those that the trainer's own version sampled; the others stay in the denominators of --agg", OnPolicyToken},
};

// Every trained token of the totals' groups counts the same: sum over tokens / number of their trained tokens.   Source  DAPO, arXiv 2503.14476,
// section 3.3.
double TokenMean(const ClaimTotals& totals, int64_t) { return 1 / static_cast<double>(totals.num_tokens); }
// Every response counts the same: mean over its trained tokens, then mean over the responses.   Source  GRPO, arXiv 2402.03300, equation 3.
double SequenceMean(const ClaimTotals& totals, int64_t sequence_tokens) {
  return 1 / (static_cast<double>(totals.num_sequences) * static_cast<double>(sequence_tokens));
}

// Every trained token counts the same, whatever the number of tokens: sum over tokens / (responses * the largest token budget of one).
// Source  Dr. GRPO, arXiv 2503.20783, section 3.2 and appendix.
double FixedLength(const ClaimTotals& totals, int64_t) {
  return 1 / (static_cast<double>(totals.num_sequences) * static_cast<double>(totals.budget_tokens));
}

const AggregationRule kAggregationRules[] = {
    {"token-mean", "mean over all trained tokens (DAPO)", TokenMean},
    {"seq-mean", "mean over each response's trained tokens, then over responses (GRPO)", SequenceMean},
    {"fixed-length", "sum over all trained tokens, divided by responses times the largest token budget (Dr. GRPO)", FixedLength},
};

}  // namespace

std::span<const TokenFilterRule> TokenFilterRules() { return kTokenFilterRules; }
std::span<const AggregationRule> AggregationRules() { return kAggregationRules; }

// ---- 6. One sequence ----

void SequenceLoss(const LossRules& rules, const SequenceInputs& inputs, SequenceTerms* terms) {
  const size_t num_tokens = inputs.logprobs.size();
  for (auto* values : {&terms->gradients, &terms->weights, &terms->log_ratios_}) values->resize(num_tokens);
  for (size_t t = 0; t < num_tokens; ++t) terms->log_ratios_[t] = inputs.logprobs[t] - inputs.old_logprobs[t];
  terms->bounded.resize(num_tokens);
  rules.correction.Weigh(inputs.old_logprobs, inputs.behaviour_logprobs, terms->weights, terms->bounded);
  terms->loss = terms->kl = 0;
  terms->clips.resize(num_tokens);
  double mean_weight = 0;  // of one ratio for all tokens each token's log-probability moves an n-th, for every token's weight
  if (rules.policy->per_sequence && num_tokens > 0) {
    std::fill(terms->log_ratios_.begin(), terms->log_ratios_.end(), Mean(terms->log_ratios_));
    mean_weight = Mean(terms->weights);
  }
  for (size_t t = 0; t < num_tokens; ++t) {
    const PolicyTerm policy = rules.policy->term(Exp(terms->log_ratios_[t]), inputs.logprobs[t], inputs.advantage, rules.clip);
    terms->clips[t] = static_cast<int8_t>(policy.clip);
    double loss = terms->weights[t] * policy.loss;
    double gradient = (rules.policy->per_sequence ? mean_weight : terms->weights[t]) * policy.gradient;
    if (rules.kl->term != nullptr) {
      const KlTerm kl = rules.kl->term(inputs.logprobs[t], inputs.reference_logprobs[t]);
      terms->kl += kl.value;
      if (rules.kl_coef != 0) {
        loss += rules.kl_coef * kl.value;
        gradient += rules.kl_coef * kl.gradient;
      }
    }
    // Source  of the entropy bonus: A3C, arXiv 1602.01783, section 4.
    if (rules.entropy_coef != 0) loss -= rules.entropy_coef * inputs.entropies[t];
    terms->loss += inputs.token_weight * loss;
    terms->gradients[t] = inputs.token_weight * gradient;
  }
  terms->entropy_gradient = inputs.token_weight * -rules.entropy_coef;
}

// ---- 7. Learning rate ----

namespace {

// Source  of the line and of the warm-up before each: BERT, arXiv 1810.04805, appendix A.2.
double Line(double progress) { return 1 - progress; }
// (1 + cos(pi p)) / 2 = cos(pi p / 2)^2, by the same operations on every machine: the Taylor series to x^22 / 22!, whose remainder is below 1e-17.
// Source  SGDR, arXiv 1608.03983, equation 5, without restarts.
double HalfCosine(double progress) {
  constexpr double kHalfPi = 1.57079632679489661923;
  const double square = kHalfPi * progress * kHalfPi * progress;
  double cosine = 1;
  for (int k = 22; k >= 2; k -= 2) cosine = 1 - square / (k * (k - 1)) * cosine;
  return progress < 1 ? cosine * cosine : 0;
}

const ScheduleRule kScheduleRules[] = {
    {"constant", "--lr", nullptr},
    {"linear", "falls on a line to --lr-floor at --total-steps", Line},
    {"cosine", "falls on half a cosine to --lr-floor at --total-steps", HalfCosine},
};

}  // namespace

std::span<const ScheduleRule> ScheduleRules() { return kScheduleRules; }

double LearningRate(const Schedule& schedule, int64_t step) {
  if (step < schedule.warmup_steps) return schedule.lr * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup_steps);
  if (schedule.rule->height == nullptr) return schedule.lr;
  const auto falling_steps = static_cast<double>(schedule.total_steps - schedule.warmup_steps);
  const double progress = std::min(static_cast<double>(step - schedule.warmup_steps) / falling_steps, 1.0);
  return schedule.floor + (schedule.lr - schedule.floor) * schedule.rule->height(progress);
}

}  // namespace april::grpo
