// Generates with the model in this process: continuous batching over blocks of keys and values, each group's prompt computed once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/thread_pool.h"
#include "rollout/engine.h"
#include "rollout/policy_source.h"

namespace april::rollout {

struct LocalEngineOptions {
  int64_t num_slots = 64;
  int64_t prefill_rows = 256;      ///< most rows of prompts and resumed responses in one step, beside the decoding ones
  uint64_t memory_bytes = 0;       ///< for weights, keys and values; 0 = half of what the machine has free
  int64_t expected_positions = 0;  ///< longest prompt and budget to plan for, when known; 0 = the model's context
  bool keep_kv = false;            ///< keep keys and values over a change of weights instead of computing them again
  bool share_prompts = true;       ///< compute a prompt once for all rollouts that have it
};

/// Throws Runtime, before any work, when the memory cannot hold the weights and one rollout of the expected length.
std::unique_ptr<Engine> MakeLocalEngine(const LocalEngineOptions& options, PolicySource& policies, kernels::ThreadPool& pool);

}  // namespace april::rollout
