// A whole training run on a virtual clock: the buffer's own policies and the generator's own scheduler, around a simulated engine.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/json.h"
#include "buffer/policies.h"
#include "rollout/sim_engine.h"

namespace april {

enum class Schedule {
  kSync,   ///< a step's rollouts are issued and all of them awaited
  kWave,   ///< the paper's: issued at once for each step, more than it needs; ends when enough groups are whole; what is unfinished goes on in the
           ///< next
  kTopUp,  ///< slots are refilled one by one, over steps too
};

struct SimulatedRunOptions {
  rollout::SimProfile profile;
  Schedule schedule = Schedule::kTopUp;
  buffer::Admission admission;
  double over_issue = 2;  ///< rollouts under way, as a multiple of a step's need; groups under way for a wave
  int64_t slots = 0;      ///< 0: as many as may be under way
  int64_t groups = 32, group_size = 8;
  int64_t prompt_tokens = 128, max_tokens = 16384;
  int64_t steps = 20, warm_up = 4;  ///< steps trained; those that figures do not count
  double train_token_ms = 0;        ///< time that the trainer takes for a response token; generation pauses meanwhile
  bool keep_kv = false;
  uint64_t seed = 1;
  std::string scratch;  ///< an empty or missing directory for the buffer
};

/// Returns the figures of the steps behind the warm-up; `on_step` is called with those of every step. Times are virtual.
Json Simulate(const SimulatedRunOptions& options, const std::function<void(const Json&)>& on_step);

}  // namespace april
