#include "rollout/memory_plan.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "model/kv_cache.h"

namespace april::rollout {
namespace {

/// What the kernel says can be had without swapping: free memory and droppable caches.
uint64_t AvailableMemoryBytes() {
  std::ifstream info("/proc/meminfo");
  for (std::string name, rest; info >> name;) {
    uint64_t kibibytes = 0;
    if (name == "MemAvailable:" && info >> kibibytes) return kibibytes << 10;
    std::getline(info, rest);
  }
  const long pages = sysconf(_SC_AVPHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
  return pages > 0 && page_bytes > 0 ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes) : 0;
}

}  // namespace

int64_t PlanKvBlocks(const MemoryPlan& plan) {
  const int64_t longest = plan.expected_positions > 0 ? std::min(plan.expected_positions, plan.max_positions) : plan.max_positions;
  // A shared prompt and the rollout's own copy of its last block stand side by side.
  const int64_t alone = model::KvCache::BlocksFor(longest) + 2;
  const int64_t useful = plan.num_slots * alone + alone;
  uint64_t kv_bytes = AvailableMemoryBytes() / 2;
  if (plan.memory_bytes > 0) kv_bytes = plan.memory_bytes > plan.weight_bytes ? plan.memory_bytes - plan.weight_bytes : 0;
  const int64_t blocks = std::min(useful, static_cast<int64_t>(kv_bytes / plan.block_bytes));
  if (blocks >= alone) return blocks;
  throw Error::Runtime("memory is too small: beside " + HumanBytes(plan.weight_bytes) + " of weights, " + HumanBytes(kv_bytes) +
                           " is left for keys and values, and one rollout of " + std::to_string(longest) + " tokens needs " +
                           HumanBytes(static_cast<uint64_t>(alone) * plan.block_bytes),
                       "raise --memory, or shorten prompts or --max-tokens");
}

}  // namespace april::rollout
