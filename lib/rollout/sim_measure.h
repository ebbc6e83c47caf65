// Measures an engine for a simulation profile: how long a step takes by rows and context, and how fast prompts are read.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "rollout/engine.h"
#include "rollout/sim_profile.h"

namespace april::rollout {

struct MeasureOptions {
  std::vector<int64_t> contexts{64, 256, 1024};  ///< positions; those that the engine has no room for are left out
  int64_t steps = 12;                            ///< timed at each point; their median holds
  std::function<void(double done, const std::string& now)> progress = [](double, const std::string&) {};
};

/// Times decoding at 1, 2, 4, … num_slots rows behind each context, and reading of prompts; fills `decode`, `prefill` and `max_positions`.
/// Throws Runtime when the engine's memory cannot hold all slots at the shortest context, Stopped on a stop request.
void MeasureEngine(Engine& engine, uint32_t vocab_size, const MeasureOptions& options, SimProfile* profile);

/// Equally likely lengths that stand for these: all of them, or 256 quantiles, ascending. Throws Usage when there are none.
LengthDistribution MeasuredLengths(std::vector<int64_t> tokens);

}  // namespace april::rollout
