// How many blocks of keys and values to make room for, decided before any work.
#pragma once

#include <cstdint>

namespace april::rollout {

struct MemoryPlan {
  uint64_t memory_bytes = 0;  ///< for weights, keys and values; 0 = half of the machine's free memory for keys and values
  uint64_t weight_bytes = 0;  ///< of all versions that are in memory at once
  uint64_t block_bytes = 0;   ///< of one block, all layers
  int64_t num_slots = 0;
  int64_t expected_positions = 0;  ///< longest prompt and budget; 0 = the model's context
  int64_t max_positions = 0;       ///< the model's context
};

/// Blocks that the memory holds, and no more than all slots can use. Throws Runtime when not even one rollout of the expected length fits.
int64_t PlanKvBlocks(const MemoryPlan& plan);

}  // namespace april::rollout
