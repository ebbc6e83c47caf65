// What was scored so far: for the summary and for metrics.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "record/rollout.h"

namespace april::reward {

/// read = scored + passed + errors, after every record.
class Tally {
 public:
  void AddPassed() { ++passed_; }
  /// A rollout that has its reward or error outcome now.
  void AddJudged(const record::Rollout& rollout);

  int64_t errors() const { return errors_; }
  int64_t num_read() const { return scored_ + passed_ + errors_; }
  std::string Text() const;

  /// Rollouts scored, or found impossible to judge, since the last TakeWindow.
  int64_t window_judged() const { return window_scored_ + window_errors_; }
  /// Of the window's scored ones the number, mean reward, mean length in tokens and truncated share (0 to 1; null when there are none), beside the
  /// totals of scored and errors; begins a new window.
  Json TakeWindow();

 private:
  int64_t scored_ = 0, passed_ = 0, errors_ = 0;
  int64_t window_scored_ = 0, window_errors_ = 0, window_tokens_ = 0, window_truncated_ = 0;
  double sum_ = 0, window_sum_ = 0;
};

}  // namespace april::reward
