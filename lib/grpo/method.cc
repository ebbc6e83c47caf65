#include "grpo/method.h"

#include <span>
#include <vector>

#include "base/error.h"

namespace april::grpo {
namespace {

/// Names of a table's rows, and their meanings for the help text.
template <typename Rule>
std::vector<std::string> Names(std::span<const Rule> rules) {
  std::vector<std::string> names;
  for (const Rule& rule : rules) names.emplace_back(rule.name);
  return names;
}
template <typename Rule>
std::string Help(const char* what, std::span<const Rule> rules) {
  std::string help = what;
  for (const Rule& rule : rules) help += (&rule == rules.data() ? " " : "; ") + std::string(rule.name) + " = " + rule.help;
  return help;
}

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

/// Two choices that exclude each other, and why.
struct Conflict {
  bool (*applies)(const MethodOptions& options);
  const char* reason;
  const char* hint;
};
const Conflict kConflicts[] = {
    {[](const MethodOptions& o) { return o.old == "behaviour" && o.is_correction != "auto" && o.is_correction != "none"; },
     "--old behaviour with --is-correction: the ratio already divides by the behaviour policy, so the stale part would be corrected twice",
     "leave --is-correction out, or use --old current"},
    {[](const MethodOptions& o) { return o.kl == "off" && o.kl_coef != 0; }, "--kl-coef without --kl: there is no divergence to weigh",
     "add --kl k3, or leave --kl-coef out"},
    {[](const MethodOptions& o) { return o.kl != "off" && o.kl_coef == 0; }, "--kl with --kl-coef 0 would compute a reference policy for nothing",
     "add --kl-coef 0.001, or use --kl off"},
};

}  // namespace

void MethodOptions::Register(OptionsVisitor& options) {
  options.Section("Method");
  static const std::string spread_help = Help("what deviations from the group's mean reward are divided by:", SpreadRules());
  static const std::string correction_help =
      Help("weight of tokens that older weights sampled: auto = tis:2, or none with --old behaviour;", CorrectionRules());
  static const std::string agg_help = Help("what one token's loss counts:", AggregationRules());
  static const std::string kl_help =
      Help("divergence from the initial weights, added to the loss (l = current, f = initial log-probability):", KlRules());
  options.Choice("adv-std", &adv_std, Names(SpreadRules()), spread_help.c_str());
  options.Real("clip-low", &clip_low, 0, 1, "the ratio counts down to 1 minus this");
  options.Real("clip-high", &clip_high, 0, 1e6, "the ratio counts up to 1 plus this");
  options.Choice("old", &old, {"current", "behaviour"},
                 "the ratio's denominator: current = the policy at the start of the claim; behaviour = the recorded log-probabilities");
  options.Text("is-correction", &is_correction, "NAME[:C]", correction_help.c_str());
  options.Choice("agg", &agg, Names(AggregationRules()), agg_help.c_str());
  options.Choice("kl", &kl, Names(KlRules()), kl_help.c_str());
  options.Real("kl-coef", &kl_coef, 0, 1e6, "factor of the divergence");
  options.Integer("optimizer-steps", &optimizer_steps, 1, 1024,
                  "optimiser steps per claim, each on its share of the groups; with 1 and --old current the ratio is 1 and the clip never holds");
  options.Choice("truncated-sampling", &truncated_sampling, {"refuse", "ignore"},
                 "rollouts sampled with top-k, top-p or min-p: refuse them, or train on them as if nothing had been cut off");
}

Method ParseMethod(const MethodOptions& options) {
  for (const Conflict& conflict : kConflicts) {
    if (conflict.applies(options)) throw Error::Usage(conflict.reason, conflict.hint);
  }
  Method method;
  method.old_is_behaviour = options.old == "behaviour";
  method.spread = &FindRule(SpreadRules(), "adv-std", options.adv_std);
  method.loss.correction = ParseCorrection(options.is_correction != "auto" ? options.is_correction : method.old_is_behaviour ? "none" : "tis:2");
  method.loss.clip = {options.clip_low, options.clip_high};
  method.loss.kl = &FindRule(KlRules(), "kl", options.kl);
  method.loss.kl_coef = options.kl_coef;
  method.loss.aggregation = &FindRule(AggregationRules(), "agg", options.agg);
  method.optimizer_steps = options.optimizer_steps;
  method.accept_truncated_sampling = options.truncated_sampling == "ignore";
  return method;
}

std::string Method::Text() const {
  std::string text = "adv-std=" + std::string(spread->name) + " clip=" + Number(loss.clip.low) + "," + Number(loss.clip.high) +
                     " old=" + (old_is_behaviour ? "behaviour" : "current") + " is-correction=" + loss.correction.Text() +
                     " agg=" + loss.aggregation->name + " kl=" + loss.kl->name;
  if (UsesReference()) text += ":" + Number(loss.kl_coef);
  if (optimizer_steps != 1) text += " optimizer-steps=" + std::to_string(optimizer_steps);
  if (accept_truncated_sampling) text += " truncated-sampling=ignore";
  return text;
}

void OptimizerOptions::Register(OptionsVisitor& options) {
  options.Section("Optimiser (AdamW)");
  options.Real("lr", &lr, 0, 1, "learning rate");
  options.Integer("warmup-steps", &warmup_steps, 0, kNoUpperLimit, "optimiser steps over which the learning rate rises from 0 to --lr");
  options.Real("beta1", &beta1, 0, 0.999999, "decay of the gradient's mean");
  options.Real("beta2", &beta2, 0, 0.9999999, "decay of the squared gradient's mean");
  options.Real("adam-epsilon", &epsilon, 1e-30, 1, "added to the root of the squared gradient's mean");
  options.Real("weight-decay", &weight_decay, 0, 1, "decoupled decay: each step multiplies the weights by 1 - lr * this");
  options.Real("max-grad-norm", &max_grad_norm, 0, 1e30, "larger gradients are scaled down to this norm over all parameters; 0 = never");
}

}  // namespace april::grpo
