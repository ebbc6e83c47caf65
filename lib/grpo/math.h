// Every formula of the update, from rewards to d(loss)/d(log-probability), to be read from top to bottom. Plain f64 arithmetic on spans: the inputs
// are f32 log-probabilities, so nothing is lost, and reference values hold to 1e-10. No formula knows models, records or masks: a caller passes
// trained tokens only.
//
// Names: l = current log-probability, o = old one (the ratio's denominator), b = behaviour's (recorded while sampling), f = the reference policy's.
// A choice on an axis is one row of a table: a name, its meaning for --help, its formula. Reference values: tests/parity/grpo_reference.py.
// Elsewhere: the optimiser (kernels/cpu/optimizer.h); which responses --mask-truncated leaves without a policy loss, by setting their advantage to 0
// behind all others' (DAPO, arXiv 2503.14476, section 3.4; batch.cc); shaped rewards, which are reward-score's.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace april::grpo {

/// e^x within 1 unit in the last place, by the same operations on every machine (a C library picks its code by CPU, and a step must replay bit for
/// bit). Exp(0) = 1.
double Exp(double x);

// ---- 1. Advantages: from the rewards of one claim's groups ----

/// What is taken from a group's rewards.
struct AdvantageRule {
  const char* name;
  const char* help;
  const char* spread;      ///< of SpreadRules: what belongs to it
  bool spread_of_centred;  ///< the divisor is the spread of what `centre` gives, not of the rewards
  void (*centre)(std::span<const double> rewards, std::span<double> centred);
};
std::span<const AdvantageRule> AdvantageRules();  ///< --advantage; plain: drgrpo, which is grpo with --adv-std none

/// What that is divided by.
struct SpreadRule {
  const char* name;
  const char* help;
  bool over_claim;  ///< of all values of the claim, otherwise of the group's own
  double (*divisor)(std::span<const double> values);
};
std::span<const SpreadRule> SpreadRules();  ///< --adv-std; identity: none

/// A_i = centre_i / spread, one list a group. Exactly 0 for all of a group when all its rewards are equal, so that rounding of the mean makes no
/// gradient; 0 for a group of one.
std::vector<std::vector<double>> Advantages(const AdvantageRule& rule, const SpreadRule& spread, std::span<const std::vector<double>> rewards);

// ---- 2. Correction for tokens that other weights sampled: one weight per token, no gradient flows through it ----

struct CorrectionParameter {
  double value, min, max;  ///< its default and its range
};
struct CorrectionRule {
  const char* name;
  const char* help;
  std::vector<CorrectionParameter> parameters;  ///< after the colon
  /// ratio_t, of old to behaviour: a token's own, or one for the whole sequence.
  void (*ratios)(std::span<const double> old_logprobs, std::span<const double> behaviour_logprobs, std::span<double> ratios);
  double (*weight)(double ratio, std::span<const double> parameters);
};
std::span<const CorrectionRule> CorrectionRules();  ///< --is-correction; identity: none

struct Correction {
  const CorrectionRule* rule = nullptr;
  std::vector<double> parameters;
  /// The weights of one sequence's tokens; `bounded`: whether the weight is not the ratio itself, because the rule bounds it.
  void Weigh(std::span<const double> old_logprobs, std::span<const double> behaviour_logprobs, std::span<double> weights,
             std::span<uint8_t> bounded) const;
};

// ---- 3. Policy loss: per token of one sequence ----

/// The ratio counts within [1 - low, 1 + high]; `dual` bounds it once more where the advantage is negative.
struct ClipBounds {
  double low = 0.2, high = 0.28, dual = 3;
};

struct PolicyTerm {
  double loss = 0;
  double gradient = 0;  ///< d loss / d l
  int clip = 0;         ///< -1: the lower bound holds; +1: an upper one does
};
struct PolicyRule {
  const char* name;
  const char* help;
  ClipBounds clip;    ///< by default
  bool per_sequence;  ///< log r is the mean of l - o over the sequence, the same for all its tokens, and the gradient flows through that mean
  PolicyTerm (*term)(double ratio, double logprob, double advantage, const ClipBounds& clip);
};
std::span<const PolicyRule> PolicyRules();  ///< --loss; plain: ppo. At ratio 1 all have its gradient

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

// ---- 5. Which tokens the loss sees, and what one token's loss counts ----

struct TokenFilterRule {
  const char* name;
  const char* help;
  bool (*keeps)(int64_t staleness);  ///< a token sampled that many policy versions before the trainer's
};
std::span<const TokenFilterRule> TokenFilterRules();  ///< --token-filter; identity: off

/// Totals over the groups of one optimiser step (with --optimizer-steps 1 the whole claim's), zero-advantage groups included, excluded rollouts not.
/// What a filter keeps from the loss is counted all the same: the denominators are those without it, so that masking does not raise what the other
/// tokens count.
struct ClaimTotals {
  int64_t num_sequences = 0;
  int64_t num_tokens = 0;
  int64_t budget_tokens = 0;  ///< the largest that one of their rollouts was issued with
};
struct AggregationRule {
  const char* name;
  const char* help;
  double (*weight)(const ClaimTotals& totals, int64_t sequence_tokens);
};
std::span<const AggregationRule> AggregationRules();  ///< --agg; plain: token-mean

// ---- 6. One sequence ----

/// One value on each axis.
struct LossRules {
  Correction correction;
  const PolicyRule* policy = nullptr;
  ClipBounds clip;
  const KlRule* kl = nullptr;
  double kl_coef = 0;
  double entropy_coef = 0;
  const AggregationRule* aggregation = nullptr;
};

/// The trained tokens of one response. `reference_logprobs` may be empty when KL is off, `entropies` when their coefficient is 0.
struct SequenceInputs {
  std::span<const double> logprobs, old_logprobs, behaviour_logprobs, reference_logprobs, entropies;
  double advantage = 0;
  double token_weight = 0;  ///< AggregationRule::weight
};

/// Vectors are per trained token.
struct SequenceTerms {
  std::vector<double> gradients;  ///< d(step's loss) / d l_t
  std::vector<double> weights;    ///< the correction's
  std::vector<int8_t> clips;      ///< PolicyTerm::clip
  std::vector<uint8_t> bounded;   ///< whether the correction is not the token's ratio
  double entropy_gradient = 0;    ///< d(step's loss) / d(entropy of each token's distribution)
  double loss = 0;                ///< this sequence's part of the loss of its optimiser step
  double kl = 0;                  ///< sum over tokens, before the coefficient

 private:
  friend void SequenceLoss(const LossRules& rules, const SequenceInputs& inputs, SequenceTerms* terms);
  std::vector<double> log_ratios_;
};

/// loss = sum over tokens of token_weight * (w_t * policy loss_t + kl_coef * kl_t - entropy_coef * entropy_t); its derivatives by l_t and entropy_t.
void SequenceLoss(const LossRules& rules, const SequenceInputs& inputs, SequenceTerms* terms);

// ---- 7. Learning rate: of the optimiser step of that index ----

struct ScheduleRule {
  const char* name;
  const char* help;
  double (*height)(double progress);  ///< from 1 at progress 0 to 0 at progress 1; nullptr: always 1
};
std::span<const ScheduleRule> ScheduleRules();  ///< --lr-schedule; identity: constant

struct Schedule {
  const ScheduleRule* rule = nullptr;
  double lr = 0, floor = 0;
  int64_t warmup_steps = 0, total_steps = 0;
};
/// Step s of the first W: lr (s + 1) / W. Then floor + (lr - floor) height((s - W) / (T - W)); from step T on, the floor.
double LearningRate(const Schedule& schedule, int64_t step);

/// The row of that name. Throws Usage naming the choices.
template <typename Rule>
const Rule& FindRule(std::span<const Rule> rules, const std::string& axis, const std::string& name) {
  std::string names;
  for (const Rule& rule : rules) {
    if (name == rule.name) return rule;
    names += (names.empty() ? "" : ", ") + std::string(rule.name);
  }
  throw Error::Usage("--" + axis + " " + name + ": not one of " + names);
}

}  // namespace april::grpo
