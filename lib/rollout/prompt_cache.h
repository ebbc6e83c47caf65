// Prompts that were computed once for several rollouts: their keys and values, and the logits after their last token.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/kv_cache.h"

namespace april::rollout {

struct SharedPrompt {
  std::vector<uint32_t> tokens;
  uint64_t digest = 0;
  model::Sequence sequence;   ///< owns one reference to its blocks
  std::vector<float> logits;  ///< [vocab] f32 after the last token, once complete
  bool complete = false;
  int64_t waiting = 0;  ///< rollouts that wait for it
  int64_t last_use = 0;
};

/// Entries belong to one policy: clear them when the weights change. Unused ones stay for members of the group that start later, until memory is
/// wanted.
class PromptCache {
 public:
  explicit PromptCache(model::KvCache& cache) : cache_(cache) {}
  ~PromptCache() { Clear(); }
  PromptCache(const PromptCache&) = delete;
  PromptCache& operator=(const PromptCache&) = delete;

  /// The entry of these tokens, new and empty when there was none; it stays where it is until it is dropped.
  SharedPrompt* Get(std::span<const uint32_t> tokens);
  const SharedPrompt* Find(std::span<const uint32_t> tokens) const;
  /// A rollout no longer waits for it.
  void Leave(SharedPrompt* prompt);
  /// Drops the unused entry that was not used for longest; false when there is none.
  bool DropOldestUnused();
  void Clear();

  const std::vector<std::unique_ptr<SharedPrompt>>& entries() const { return entries_; }

 private:
  static constexpr int64_t kMostUnused = 4;

  model::KvCache& cache_;
  std::vector<std::unique_ptr<SharedPrompt>> entries_;
  int64_t num_uses_ = 0;
};

}  // namespace april::rollout
