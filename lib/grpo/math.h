// Every formula of the update, from rewards to d(loss)/d(log-probability), to be read from top to bottom. Plain f64 arithmetic on spans: the inputs
// are f32 log-probabilities, so nothing is lost, and reference values hold to 1e-10. No formula knows models, records or masks: a caller passes
// trained tokens only.
//
// Names: l = current log-probability, o = old one (the ratio's denominator), b = behaviour's (recorded while sampling), f = the reference policy's.
// A choice on an axis is one row of a table: a name, its formula and its identity setting. Reference values: tests/parity/grpo_reference.py.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace april::grpo {

/// e^x within 1 unit in the last place, by the same operations on every machine (a C library picks its code by CPU, and a step must replay bit for
/// bit). Exp(0) = 1.
double Exp(double x);

// ---- 1. Advantages: from the rewards of one group ----

/// What the deviations from the group's mean reward are divided by.
struct SpreadRule {
  const char* name;
  const char* help;
  double (*divisor)(std::span<const double> rewards, double mean);
};
std::span<const SpreadRule> SpreadRules();  ///< --adv-std; identity: none

/// A_i = (R_i - mean R) / spread. Exactly 0 for all when all rewards are equal, so that rounding of the mean makes no gradient.
///   Source  GRPO, arXiv 2402.03300, section 4.1.2; `none`: Dr. GRPO, arXiv 2503.20783, section 3.2.
void GrpoAdvantages(std::span<const double> rewards, const SpreadRule& spread, std::span<double> advantages);

// ---- 2. Correction for tokens that other weights sampled: one weight per token, no gradient flows through it ----

struct CorrectionRule {
  const char* name;
  const char* help;
  std::vector<double> defaults;  ///< of the parameters after the colon
  void (*weigh)(std::span<const double> old_logprobs, std::span<const double> behaviour_logprobs, std::span<const double> parameters,
                std::span<double> weights);
};
std::span<const CorrectionRule> CorrectionRules();  ///< --is-correction; identity: none

struct Correction {
  const CorrectionRule* rule = nullptr;
  std::vector<double> parameters;
  std::string Text() const;  ///< "tis:2"
};
/// "none", "tis", "tis:2". Throws Usage naming the choices.
Correction ParseCorrection(const std::string& text);

// ---- 3. Policy loss: per token of one sequence ----

/// The ratio counts within [1 - low, 1 + high].
struct ClipBounds {
  double low = 0.2, high = 0.28;
};

/// loss_t = -min(r A, clip(r, 1 - low, 1 + high) A), r = exp(log_ratio_t); gradient_t = d loss_t / d l_t, which is 0 where the clip holds.
///   Source  PPO, arXiv 1707.06347, equation 7; separate bounds: DAPO, arXiv 2503.14476, equation 10.
void PpoLoss(std::span<const double> log_ratios, double advantage, const ClipBounds& clip, std::span<double> losses, std::span<double> gradients);

// ---- 4. Divergence from a reference policy: per token ----

struct KlTerm {
  double value = 0;
  double gradient = 0;  ///< d value / d l
};
struct KlRule {
  const char* name;
  const char* help;
  KlTerm (*term)(double logprob, double reference_logprob);  ///< nullptr: off
};
std::span<const KlRule> KlRules();  ///< --kl; identity: off
KlTerm KlK1(double logprob, double reference_logprob);
KlTerm KlK3(double logprob, double reference_logprob);

// ---- 5. Aggregation: what one token's loss counts ----

/// Totals over the whole claim, zero-advantage groups included, excluded rollouts not.
struct ClaimTotals {
  int64_t num_sequences = 0;
  int64_t num_tokens = 0;
};
struct AggregationRule {
  const char* name;
  const char* help;
  double (*weight)(const ClaimTotals& totals, int64_t sequence_tokens);
};
std::span<const AggregationRule> AggregationRules();  ///< --agg

// ---- 6. One sequence ----

/// One value on each axis.
struct LossRules {
  Correction correction;
  ClipBounds clip;
  const KlRule* kl = nullptr;
  double kl_coef = 0;
  const AggregationRule* aggregation = nullptr;
};

/// The trained tokens of one response. `reference` may be empty when KL is off.
struct SequenceInputs {
  std::span<const double> logprobs, old_logprobs, behaviour_logprobs, reference_logprobs;
  double advantage = 0;
  double token_weight = 0;  ///< AggregationRule::weight
};

/// Per trained token; all of the inputs' size.
struct SequenceTerms {
  std::vector<double> gradients;         ///< d(claim's loss) / d l_t
  std::vector<double> weights;           ///< the correction's
  std::vector<double> policy_gradients;  ///< of the policy loss alone, before weights: 0 where the clip holds
  double loss = 0;                       ///< this sequence's part of the claim's loss
  double kl = 0;                         ///< sum of KL terms, before the coefficient

 private:
  friend void SequenceLoss(const LossRules& rules, const SequenceInputs& inputs, SequenceTerms* terms);
  std::vector<double> log_ratios_, losses_;
};

/// loss = sum over tokens of token_weight * (w_t * policy loss_t + kl_coef * kl_t); its derivatives by l_t.
void SequenceLoss(const LossRules& rules, const SequenceInputs& inputs, SequenceTerms* terms);

/// The row of that name. Throws Usage naming the choices.
template <typename Rule>
const Rule& FindRule(std::span<const Rule> rules, const std::string& axis, const std::string& name);

}  // namespace april::grpo
