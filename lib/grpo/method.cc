#include "grpo/method.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/error.h"
#include "grpo/number_text.h"
#include "grpo/preset.h"

namespace april::grpo {
namespace {

/// Names of a table's rows, and their meanings for the help text.
template <typename Rule>
std::vector<std::string> Names(std::span<const Rule> rules, const char* first = nullptr) {
  std::vector<std::string> names;
  if (first != nullptr) names.emplace_back(first);
  for (const Rule& rule : rules) names.emplace_back(rule.name);
  return names;
}
template <typename Rule>
std::string Help(const char* what, std::span<const Rule> rules) {
  std::string help = what;
  for (const Rule& rule : rules) help += (&rule == rules.data() ? " " : "; ") + std::string(rule.name) + " = " + rule.help;
  return help;
}

/// "ppo 0.2, gspo 0.0003": a bound's defaults.
std::string BoundHelp(const char* what, double ClipBounds::*bound) {
  std::string help = std::string(what) + " auto =";
  for (const PolicyRule& rule : PolicyRules())
    help += (&rule == PolicyRules().data() ? " " : ", ") + std::string(rule.name) + " " + NumberText(rule.clip.*bound);
  return help;
}
std::string PresetHelp() {
  std::string help =
      "sets what follows, except options that are given by themselves, and says so; the rest keeps its defaults, also --is-correction, whose tis:2 "
      "the "
      "papers of grpo, dapo, gspo and drgrpo do not have:";
  for (const Preset& preset : Presets().subspan(1)) {
    help += std::string(&preset == &Presets()[1] ? " " : "; ") + preset.name + " =";
    for (const auto& [name, value] : preset.options) help += std::string(" --") + name + " " + value;
    help += std::string(" (") + preset.help + ")";
  }
  return help;
}
std::string CorrectionDefaults() {
  std::string help;
  for (const CorrectionRule& rule : CorrectionRules()) {
    if (!rule.parameters.empty()) help += (help.empty() ? "" : ", ") + Text(ParseCorrection(rule.name));
  }
  return help;
}

/// "auto", or a number within the range.
double NumberOr(double automatic, const char* option, const std::string& text, double min, double max) {
  if (text == "auto") return automatic;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0' || !(value >= min && value <= max))
    throw Error::Usage("--" + std::string(option) + " " + text + ": auto or a number from " + NumberText(min) + " to " + NumberText(max) +
                       " is needed");
  return value;
}

ReferenceReset ParseReset(const std::string& text) {
  if (text == "never") return {};
  const bool repeats = text.starts_with("every:");
  const std::string number = text.substr(repeats ? 6 : text.starts_with("@") ? 1 : 0);
  int64_t step = 0;
  const auto [end, status] = std::from_chars(number.data(), number.data() + number.size(), step);
  if (number.size() == text.size() || status != std::errc() || end != number.data() + number.size() || step < 1)
    throw Error::Usage("--ref-reset " + text + ": never, @T or every:T is needed, with a step T of at least 1", "for example --ref-reset every:200");
  return repeats ? ReferenceReset{0, step} : ReferenceReset{step, 0};
}

/// A choice, or two, that would not do what it says, and why.
struct Remark {
  bool (*applies)(const MethodOptions& options);
  const char* reason;
  const char* hint;
};
using O = MethodOptions;

const Remark kConflicts[] = {
    {[](const O& o) { return o.old == "behaviour" && o.is_correction != "auto" && o.is_correction != "none"; },
     "--old behaviour with --is-correction: the ratio already divides by the behaviour policy, so the stale part would be corrected twice",
     "leave --is-correction out, or use --old current"},
    {[](const O& o) { return o.advantage == "drgrpo" && o.adv_std != "auto" && o.adv_std != "none"; },
     "--advantage drgrpo with --adv-std: Dr. GRPO is the advantage that is not divided", "use --advantage grpo, or leave --adv-std out"},
    {[](const O& o) { return o.advantage == "reinforce-pp" && o.adv_std != "auto" && o.adv_std != "batch"; },
     "--advantage reinforce-pp with another --adv-std than batch: REINFORCE++ is the advantage that is divided by the claim's spread",
     "use --advantage grpo, or leave --adv-std out"},
    {[](const O& o) { return o.loss != "dual" && o.dual_clip != "auto"; }, "--dual-clip without --loss dual: no other loss has that bound",
     "add --loss dual, or leave --dual-clip out"},
    {[](const O& o) { return o.kl == "off" && o.kl_coef != 0; }, "--kl-coef without --kl: there is no divergence to weigh",
     "add --kl k3, or leave --kl-coef out"},
    {[](const O& o) { return o.kl == "off" && o.ref_reset != "never"; }, "--ref-reset without --kl: there is no reference policy",
     "add --kl k3, or leave --ref-reset out"},
};

const Remark kDoubts[] = {
    {[](const O& o) { return o.loss != "ppo" && o.old == "current" && o.optimizer_steps == 1; },
     "with --old current and one optimiser step a claim every ratio is 1, and all losses have the gradient of ppo",
     "--optimizer-steps 4, or --old behaviour"},
    {[](const O& o) { return o.loss == "gspo" && o.agg != "seq-mean"; },
     "--loss gspo counts whole responses, and another --agg than seq-mean gives a long response more weight than a short one", "--agg seq-mean"},
    {[](const O& o) { return o.kl != "off" && o.kl_coef == 0; },
     "--kl with --kl-coef 0 only measures the divergence from the reference policy: nothing keeps the policy near it", "--kl-coef 0.001"},
    {[](const O& o) { return o.kl == "k1" && o.kl_coef != 0; },
     "--kl k1 has a gradient of 0 in expectation over the current policy's tokens: as a loss it adds noise and keeps nothing near the reference",
     "--kl k2 or --kl k3"},
};

}  // namespace

void MethodOptions::Register(OptionsVisitor& options) {
  options.Section("Method");
  static const std::string advantage_help = Help("what a response's reward becomes:", AdvantageRules());
  static const std::string spread_help = Help("what advantages are divided by: auto = what belongs to --advantage;", SpreadRules());
  static const std::string loss_help =
      Help("policy loss of a token (A = advantage, l = log-probability, r = current / --old, clip = within the bounds):", PolicyRules());
  static const std::string low_help = BoundHelp("the ratio counts down to 1 minus this;", &ClipBounds::low);
  static const std::string high_help = BoundHelp("the ratio counts up to 1 plus this;", &ClipBounds::high);
  static const std::string correction_help =
      Help("weight of tokens that older weights sampled: auto = tis:2, or none with --old behaviour;", CorrectionRules()) + "; without a colon " +
      CorrectionDefaults();
  static const std::string agg_help = Help("what one token's loss counts, among the responses of its optimiser step's groups:", AggregationRules());
  static const std::string filter_help = Help("which tokens the loss sees:", TokenFilterRules());
  static const std::string kl_help = Help(
      "divergence from the reference policy, the initial weights unless --ref-reset says another, added to the loss (l = current, f = reference "
      "log-probability; gradients are those expected of a token that the current policy samples):",
      KlRules());
  static const std::string preset_help = PresetHelp();
  options.Choice("preset", &preset, Names(Presets()), preset_help.c_str());
  options.Choice("advantage", &advantage, Names(AdvantageRules()), advantage_help.c_str());
  options.Choice("adv-std", &adv_std, Names(SpreadRules(), "auto"), spread_help.c_str());
  options.Choice("loss", &loss, Names(PolicyRules()), loss_help.c_str());
  options.Text("clip-low", &clip_low, "NUMBER", low_help.c_str());
  options.Text("clip-high", &clip_high, "NUMBER", high_help.c_str());
  options.Text("dual-clip", &dual_clip, "NUMBER",
               "for --loss dual, at least 1: where the advantage is negative, the ratio counts up to this; auto = 3");
  options.Choice("old", &old, {"current", "behaviour"},
                 "the ratio's denominator: current = the policy at the start of the claim; behaviour = the recorded log-probabilities");
  options.Text("is-correction", &is_correction, "NAME[:C]", correction_help.c_str());
  options.Choice("agg", &agg, Names(AggregationRules()), agg_help.c_str());
  options.Choice("token-filter", &token_filter, Names(TokenFilterRules()), filter_help.c_str());
  options.Flag("mask-truncated", &mask_truncated,
               "overlong filtering: responses that ended at their token budget have no policy loss; their reward counts for their group's "
               "advantages, their tokens in the denominators of --agg and for --kl and --entropy-coef");
  options.Choice("kl", &kl, Names(KlRules()), kl_help.c_str());
  options.Real("kl-coef", &kl_coef, 0, 1e6, "factor of the divergence; 0 = it is measured, and the weights are those of --kl off");
  options.Text(
      "ref-reset", &ref_reset, "never|@T|every:T",
      "when --kl's reference becomes the policy of that moment: @T = before the claim of step T, every:T = before steps T, 2T, …; checkpoints "
      "hold it");
  options.Real(
      "entropy-coef", &entropy_coef, 0, 1e6,
      "factor of the entropy of each trained token's distribution, taken from the loss as --agg counts tokens: keeps exploration up; 0 = off");
  options.Choice(
      "zero-advantage", &zero_advantage, {"skip", "train"},
      "groups that get no gradient, such as those with equal rewards: skip = not computed, denominators as with them; train = computed, to "
      "the same weights: for comparisons of speed");
  options.Integer("optimizer-steps", &optimizer_steps, 1, 1024,
                  "optimiser steps per claim, each on its share of the groups and at most one a group; with 1 and --old current the ratio is 1 and "
                  "the clip never holds");
  options.Choice("truncated-sampling", &truncated_sampling, {"refuse", "ignore"},
                 "rollouts sampled with top-k, top-p or min-p: refuse them, or train on them as if nothing had been cut off");
}

Method ParseMethod(const MethodOptions& options) {
  for (const Remark& conflict : kConflicts) {
    if (conflict.applies(options)) throw Error::Usage(conflict.reason, conflict.hint);
  }
  Method method;
  method.old_is_behaviour = options.old == "behaviour";
  method.advantage = &FindRule(AdvantageRules(), "advantage", options.advantage);
  method.spread_was_chosen = options.adv_std != "auto";
  method.spread = &FindRule(SpreadRules(), "adv-std", method.spread_was_chosen ? options.adv_std : method.advantage->spread);
  method.loss.correction = ParseCorrection(options.is_correction != "auto" ? options.is_correction : method.old_is_behaviour ? "none" : "tis:2");
  method.loss.policy = &FindRule(PolicyRules(), "loss", options.loss);
  const ClipBounds& clip = method.loss.policy->clip;
  method.loss.clip.low = NumberOr(clip.low, "clip-low", options.clip_low, 0, 1);
  method.loss.clip.high = NumberOr(clip.high, "clip-high", options.clip_high, 0, 1e6);
  method.loss.clip.dual = NumberOr(clip.dual, "dual-clip", options.dual_clip, 1, 1e6);
  method.loss.kl = &FindRule(KlRules(), "kl", options.kl);
  method.loss.kl_coef = options.kl_coef;
  method.reference_reset = ParseReset(options.ref_reset);
  method.loss.entropy_coef = options.entropy_coef;
  method.loss.aggregation = &FindRule(AggregationRules(), "agg", options.agg);
  method.token_filter = &FindRule(TokenFilterRules(), "token-filter", options.token_filter);
  method.mask_truncated = options.mask_truncated;
  method.skip_zero_advantage = options.zero_advantage == "skip";
  method.optimizer_steps = options.optimizer_steps;
  method.accept_truncated_sampling = options.truncated_sampling == "ignore";
  return method;
}

std::string ReferenceReset::Text() const { return every > 0 ? "every:" + std::to_string(every) : at > 0 ? "@" + std::to_string(at) : "never"; }

std::vector<std::string> Doubts(const MethodOptions& options) {
  std::vector<std::string> doubts;
  for (const Remark& doubt : kDoubts) {
    if (doubt.applies(options)) doubts.push_back(std::string(doubt.reason) + " (" + doubt.hint + ")");
  }
  return doubts;
}

std::string Method::Text() const {
  std::string text = "advantage=" + std::string(advantage->name) + " adv-std=" + spread->name + " loss=" + loss.policy->name +
                     " clip=" + NumberText(loss.clip.low) + "," + NumberText(loss.clip.high);
  if (loss.policy->name == std::string("dual")) text += "," + NumberText(loss.clip.dual);
  text += std::string(" old=") + (old_is_behaviour ? "behaviour" : "current") + " is-correction=" + grpo::Text(loss.correction) +
          " agg=" + loss.aggregation->name + " kl=" + loss.kl->name;
  if (UsesReference()) text += ":" + NumberText(loss.kl_coef);
  if (reference_reset.Text() != "never") text += " ref-reset=" + reference_reset.Text();
  if (UsesEntropy()) text += " entropy=" + NumberText(loss.entropy_coef);
  if (token_filter != TokenFilterRules().data()) text += " token-filter=" + std::string(token_filter->name);
  if (mask_truncated) text += " mask-truncated";
  if (optimizer_steps != 1) text += " optimizer-steps=" + std::to_string(optimizer_steps);
  if (accept_truncated_sampling) text += " truncated-sampling=ignore";
  return text;
}

Correction ParseCorrection(const std::string& text) {
  const size_t colon = text.find(':');
  Correction correction;
  correction.rule = &FindRule(CorrectionRules(), "is-correction", text.substr(0, colon));
  for (const CorrectionParameter& parameter : correction.rule->parameters) correction.parameters.push_back(parameter.value);
  if (colon == std::string::npos) return correction;
  const auto& ranges = correction.rule->parameters;
  const char* next = text.c_str() + colon + 1;
  for (size_t i = 0; i < ranges.size(); ++i) {
    char* end = nullptr;
    const double value = std::strtod(next, &end);
    if (end == next || !std::isfinite(value) || value < ranges[i].min || value > ranges[i].max) {
      throw Error::Usage("--is-correction " + text + ": number " + std::to_string(i + 1) + " after the colon must be from " +
                         NumberText(ranges[i].min) + " to " + NumberText(ranges[i].max));
    }
    correction.parameters[i] = value;
    next = *end == ',' && i + 1 < ranges.size() ? end + 1 : end;
  }
  if (*next != '\0' || ranges.empty()) throw Error::Usage("--is-correction " + text + ": '" + next + "' is not understood");
  return correction;
}

std::string Text(const Correction& correction) {
  std::string text = correction.rule->name;
  for (size_t i = 0; i < correction.parameters.size(); ++i) text += (i == 0 ? ":" : ",") + NumberText(correction.parameters[i]);
  return text;
}

void OptimizerOptions::Register(OptionsVisitor& options) {
  options.Section("Optimiser (AdamW)");
  options.Real("lr", &lr, 0, 1, "learning rate");
  static const std::string schedule_help = Help("the learning rate after the warm-up:", ScheduleRules());
  options.Choice("lr-schedule", &lr_schedule, Names(ScheduleRules()), schedule_help.c_str());
  options.Integer("warmup-steps", &warmup_steps, 0, kNoUpperLimit, "optimiser steps over which the learning rate rises from 0 to --lr");
  options.Integer(
      "total-steps", &total_steps, 0, kNoUpperLimit,
      "optimiser steps, those of the warm-up included, at whose end linear and cosine reach --lr-floor, and stay there: usually the run's claims "
      "times --optimizer-steps; a claim without any gradient is no step");
  options.Real("lr-floor", &lr_floor, 0, 1, "learning rate that linear and cosine fall to");
  options.Real("beta1", &beta1, 0, 0.999999, "decay of the gradient's mean");
  options.Real("beta2", &beta2, 0, 0.9999999, "decay of the squared gradient's mean");
  options.Real("adam-epsilon", &epsilon, 1e-30, 1, "added to the root of the squared gradient's mean");
  options.Real("weight-decay", &weight_decay, 0, 1, "decoupled decay: each step multiplies the weights by 1 - lr * this");
  options.Real("max-grad-norm", &max_grad_norm, 0, 1e30, "larger gradients are scaled down to this norm over all parameters; 0 = never");
}

std::string Text(const OptimizerOptions& options) {
  std::string text = "lr=" + NumberText(options.lr);
  if (options.lr_schedule != "constant")
    text += " schedule=" + options.lr_schedule + " total-steps=" + std::to_string(options.total_steps) + " floor=" + NumberText(options.lr_floor);
  if (options.warmup_steps > 0) text += " warmup-steps=" + std::to_string(options.warmup_steps);
  text += " betas=" + NumberText(options.beta1) + "," + NumberText(options.beta2) + " epsilon=" + NumberText(options.epsilon);
  if (options.weight_decay > 0) text += " weight-decay=" + NumberText(options.weight_decay);
  return text + " max-grad-norm=" + NumberText(options.max_grad_norm);
}

Schedule ParseSchedule(const OptimizerOptions& options) {
  Schedule schedule{&FindRule(ScheduleRules(), "lr-schedule", options.lr_schedule), options.lr, options.lr_floor, options.warmup_steps,
                    options.total_steps};
  const bool falls = schedule.rule->height != nullptr;
  if (falls && options.total_steps <= options.warmup_steps) {
    throw Error::Usage("--lr-schedule " + options.lr_schedule + " with --total-steps " + std::to_string(options.total_steps) +
                           ": the learning rate would have no step to fall over after --warmup-steps " + std::to_string(options.warmup_steps),
                       "give --total-steps: the run's claims times --optimizer-steps");
  }
  if (!falls && (options.total_steps != 0 || options.lr_floor != 0))
    throw Error::Usage("--total-steps and --lr-floor do nothing while --lr-schedule is constant", "add --lr-schedule cosine, or leave them out");
  if (options.lr_floor > options.lr) {
    throw Error::Usage("--lr-floor " + NumberText(options.lr_floor) + " is above --lr " + NumberText(options.lr),
                       "the learning rate falls from --lr to --lr-floor");
  }
  return schedule;
}

}  // namespace april::grpo
