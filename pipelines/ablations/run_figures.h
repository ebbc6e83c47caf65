// What a simulated run did: time, slots and tokens while it generates, and what was trained.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/json.h"
#include "record/rollout.h"
#include "rollout/scheduler.h"

namespace april {

/// Sums since the run's begin; differences of two of them are a step's.
struct RunSums {
  double generating_s = 0, training_s = 0;
  double busy_slot_s = 0, slot_s = 0;  ///< while generating
  int64_t generated_tokens = 0, prefill_tokens = 0, evictions = 0;
  int64_t trained_tokens = 0, trained_rollouts = 0, trained_stale_tokens = 0, resumed_rollouts = 0;
  double staleness_sum = 0;  ///< over trained tokens, versions
  int64_t max_staleness = 0;

  RunSums Since(const RunSums& earlier) const;
  Json Figures() const;
};

/// Watches a scheduler, step by step.
class RunFigures {
 public:
  /// Between two calls the scheduler made at most one step, and `waited_s` of the time that passed are not generation.
  void NoteStep(const rollout::Counters& counters, int64_t num_slots, double now_s);
  /// A new scheduler counts from 0, at this time.
  void Restart(double now_s);
  void NoteTraining(double seconds, double now_s);
  void NoteTrained(const record::Rollout& rollout, uint64_t trainer_version);

  RunSums sums;

 private:
  rollout::Counters last_;
  double last_s_ = 0;
};

}  // namespace april
