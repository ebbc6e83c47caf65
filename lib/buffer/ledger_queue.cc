#include "buffer/ledger_queue.h"

#include <numeric>

#include "base/rng.h"

namespace april::buffer {

void LedgerQueue::Add(const std::vector<std::string>& prompt_ids, int64_t epochs, const std::optional<uint64_t>& shuffle_seed) {
  const auto first = static_cast<int64_t>(prompt_ids_.size()), count = static_cast<int64_t>(prompt_ids.size());
  prompt_ids_.insert(prompt_ids_.end(), prompt_ids.begin(), prompt_ids.end());
  if (count == 0 || epochs == 0) return;
  additions_[num_places_] = {first, count, epochs, shuffle_seed};
  num_places_ += count * epochs;
}

std::optional<std::pair<int64_t, int64_t>> LedgerQueue::At(int64_t place) {
  if (place < 0 || place >= num_places_) return std::nullopt;
  const auto held = static_cast<int64_t>(current_.prompts.size());
  if (place < current_.first_place || place >= current_.first_place + held) {
    const auto& [first_place, addition] = *std::prev(additions_.upper_bound(place));
    current_.number = (place - first_place) / addition.num_prompts;
    current_.first_place = first_place + current_.number * addition.num_prompts;
    std::vector<int64_t>& order = current_.prompts;
    order.resize(static_cast<size_t>(addition.num_prompts));
    std::iota(order.begin(), order.end(), addition.first_prompt);
    for (size_t i = order.size(); addition.shuffle_seed && i-- > 1;) {
      std::swap(order[i], order[RandomBits(*addition.shuffle_seed, RandomUse::kShuffle, static_cast<uint64_t>(current_.number), i) % (i + 1)]);
    }
  }
  return std::pair(current_.prompts[static_cast<size_t>(place - current_.first_place)], current_.number);
}

}  // namespace april::buffer
