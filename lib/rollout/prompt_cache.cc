#include "rollout/prompt_cache.h"

#include <algorithm>

#include "base/digest.h"

namespace april::rollout {

const SharedPrompt* PromptCache::Find(std::span<const uint32_t> tokens) const {
  const uint64_t digest = Digest(tokens.data(), tokens.size_bytes());
  for (const auto& entry : entries_) {
    if (entry->digest == digest && std::equal(tokens.begin(), tokens.end(), entry->tokens.begin(), entry->tokens.end())) return entry.get();
  }
  return nullptr;
}

SharedPrompt* PromptCache::Get(std::span<const uint32_t> tokens) {
  auto* found = const_cast<SharedPrompt*>(Find(tokens));
  if (found == nullptr) {
    entries_.push_back(std::make_unique<SharedPrompt>());
    found = entries_.back().get();
    found->tokens.assign(tokens.begin(), tokens.end());
    found->digest = Digest(tokens.data(), tokens.size_bytes());
  }
  found->last_use = num_uses_++;
  found->waiting++;
  return found;
}

void PromptCache::Leave(SharedPrompt* prompt) {
  prompt->waiting--;
  prompt->last_use = num_uses_++;
  if (std::count_if(entries_.begin(), entries_.end(), [](const auto& entry) { return entry->waiting == 0; }) > kMostUnused) DropOldestUnused();
}

bool PromptCache::DropOldestUnused() {
  auto oldest = entries_.end();
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if ((*it)->waiting == 0 && (oldest == entries_.end() || (*it)->last_use < (*oldest)->last_use)) oldest = it;
  }
  if (oldest == entries_.end()) return false;
  cache_.Release(&(*oldest)->sequence);
  entries_.erase(oldest);
  return true;
}

void PromptCache::Clear() {
  for (const auto& entry : entries_) cache_.Release(&entry->sequence);
  entries_.clear();
}

}  // namespace april::rollout
