// What a user chooses about the update: one value on each axis, checked against the others before anything is read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/options.h"
#include "grpo/math.h"

namespace april::grpo {

struct MethodOptions {
  std::string preset = "none";
  std::string advantage = "grpo";
  std::string adv_std = "auto";
  std::string loss = "ppo";
  std::string clip_low = "auto", clip_high = "auto", dual_clip = "auto";
  std::string old = "current";
  std::string is_correction = "auto";
  std::string agg = "token-mean";
  std::string kl = "off";
  double kl_coef = 0;
  std::string ref_reset = "never";
  double entropy_coef = 0;
  std::string token_filter = "off";
  bool mask_truncated = false;
  std::string zero_advantage = "skip";
  int64_t optimizer_steps = 1;
  std::string truncated_sampling = "refuse";
  void Register(OptionsVisitor& options);
};

/// Claims before which the reference policy becomes the current one.   Source  ReMix, arXiv 2507.06892 (@T); ProRL, arXiv 2505.24864 (every:T).
struct ReferenceReset {
  int64_t at = 0, every = 0;  ///< 0: never
  bool At(int64_t step) const { return step > 0 && (step == at || (every > 0 && step % every == 0)); }
  std::string Text() const;  ///< "never", "@50", "every:50"
};

/// MethodOptions as rows of the tables in grpo/math.h.
struct Method {
  const AdvantageRule* advantage = nullptr;
  const SpreadRule* spread = nullptr;
  bool spread_was_chosen = false;  ///< by --adv-std, not by the advantage's rule
  LossRules loss;
  const TokenFilterRule* token_filter = nullptr;
  bool mask_truncated = false;
  bool skip_zero_advantage = true;
  ReferenceReset reference_reset;
  bool old_is_behaviour = false;
  int64_t optimizer_steps = 1;
  bool accept_truncated_sampling = false;

  bool UsesReference() const { return loss.kl->term != nullptr; }
  bool UsesEntropy() const { return loss.entropy_coef != 0; }
  /// Whether tokens have a gradient although their advantage is zero.
  bool HasOtherTerms() const { return loss.kl_coef != 0 || UsesEntropy(); }
  /// "adv-std=unbiased clip=0.2,0.28 …": what the run does, for a person and for the checkpoint.
  std::string Text() const;
};
/// Throws Usage with the reason when two choices exclude each other.
Method ParseMethod(const MethodOptions& options);
/// What is allowed and seldom meant, one sentence each.
std::vector<std::string> Doubts(const MethodOptions& options);

/// "none", "tis", "tis:2", "icepop:0.5,5". Throws Usage naming the choices.
Correction ParseCorrection(const std::string& text);
std::string Text(const Correction& correction);  ///< "tis:2"

struct OptimizerOptions {
  double lr = 1e-6;
  std::string lr_schedule = "constant";
  double lr_floor = 0;
  int64_t warmup_steps = 0, total_steps = 0;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  double max_grad_norm = 1;
  void Register(OptionsVisitor& options);
};
/// "lr=1e-06 betas=0.9,0.999 epsilon=1e-08 …": for a person, and for the checkpoint.
std::string Text(const OptimizerOptions& options);
/// Throws Usage with the reason when the schedule's options do not go together.
Schedule ParseSchedule(const OptimizerOptions& options);

}  // namespace april::grpo
