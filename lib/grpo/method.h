// What a user chooses about the update: one value on each axis, checked against the others before anything is read.
#pragma once

#include <cstdint>
#include <string>

#include "base/options.h"
#include "grpo/math.h"

namespace april::grpo {

struct MethodOptions {
  std::string adv_std = "unbiased";
  double clip_low = 0.2, clip_high = 0.28;
  std::string old = "current";
  std::string is_correction = "auto";
  std::string agg = "token-mean";
  std::string kl = "off";
  double kl_coef = 0;
  int64_t optimizer_steps = 1;
  std::string truncated_sampling = "refuse";
  void Register(OptionsVisitor& options);
};

/// MethodOptions as rows of the tables in grpo/math.h.
struct Method {
  const SpreadRule* spread = nullptr;
  LossRules loss;
  bool old_is_behaviour = false;
  int64_t optimizer_steps = 1;
  bool accept_truncated_sampling = false;

  bool UsesReference() const { return loss.kl->term != nullptr; }
  /// "adv-std=unbiased clip=0.2,0.28 …": what the run does, for a person and for the checkpoint.
  std::string Text() const;
};
/// Throws Usage with the reason when two choices exclude each other.
Method ParseMethod(const MethodOptions& options);

struct OptimizerOptions {
  double lr = 1e-6;
  int64_t warmup_steps = 0;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  double max_grad_norm = 1;
  void Register(OptionsVisitor& options);
};

}  // namespace april::grpo
