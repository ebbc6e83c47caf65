#include "rollout/memory_plan.h"

#include <algorithm>
#include <string>

#include "base/available_memory.h"
#include "base/bytes.h"
#include "base/error.h"
#include "model/kv_cache.h"

namespace april::rollout {

int64_t PlanKvBlocks(const MemoryPlan& plan) {
  const int64_t longest = plan.expected_positions > 0 ? std::min(plan.expected_positions, plan.max_positions) : plan.max_positions;
  // A shared prompt and the rollout's own copy of its last block stand side by side.
  const int64_t alone = model::KvCache::BlocksFor(longest) + 2;
  const int64_t useful = plan.num_slots * alone + alone;
  const uint64_t available = AvailableMemoryBytes();
  uint64_t kv_bytes = available / 2;
  if (plan.memory_bytes > 0) kv_bytes = plan.memory_bytes > plan.weight_bytes ? plan.memory_bytes - plan.weight_bytes : 0;
  const int64_t blocks = std::min(useful, static_cast<int64_t>(kv_bytes / plan.block_bytes));
  if (const uint64_t bytes = static_cast<uint64_t>(std::max<int64_t>(0, blocks)) * plan.block_bytes; bytes > available) {
    throw Error::Runtime("--memory " + HumanBytes(plan.memory_bytes) + " leaves " + HumanBytes(bytes) + " for keys and values, but only " +
                             HumanBytes(available) + " of memory is available",
                         "give a smaller --memory, or fewer --in-flight");
  }
  if (blocks >= alone) return blocks;
  throw Error::Runtime("memory is too small: beside " + HumanBytes(plan.weight_bytes) + " of weights, " + HumanBytes(kv_bytes) +
                           " is left for keys and values, and one rollout of " + std::to_string(longest) + " tokens needs " +
                           HumanBytes(static_cast<uint64_t>(alone) * plan.block_bytes),
                       plan.memory_bytes > 0
                           ? "give --memory at least " + HumanBytes(plan.weight_bytes + static_cast<uint64_t>(alone) * plan.block_bytes) +
                                 ", or shorten prompts or --max-tokens"
                           : "shorten prompts or --max-tokens, or free memory: with --memory SIZE more than half of it may be used");
}

}  // namespace april::rollout
