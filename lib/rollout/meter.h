// What a run says about itself: a line for a person, a map for --metrics, the summary.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "rollout/engine.h"
#include "rollout/scheduler.h"

namespace april::rollout {

class Meter {
 public:
  /// Both live as long as the meter. `target_groups` as the scheduler has it.
  Meter(const Engine& engine, const Scheduler& scheduler, int64_t target_groups);

  /// Whether a second has passed since the last line of metrics, or the policy changed.
  bool MetricsDue() const;
  /// Numbers since the last line, and totals.
  Json TakeMetrics();

  double done() const;
  double total() const;              ///< 0 = unknown
  std::string ProgressText() const;  ///< "1,204 tokens/s, 61/64 slots, 5/8 groups, …": the important first, for it may be cut
  std::string Summary() const;       ///< its counts add up

 private:
  double Seconds() const { return engine_.clock().MonotonicSeconds() - start_s_; }

  const Engine& engine_;
  const Scheduler& scheduler_;
  int64_t target_groups_;
  double start_s_;
  double last_s_ = 0;
  uint64_t last_version_;
  Counters last_;
};

}  // namespace april::rollout
