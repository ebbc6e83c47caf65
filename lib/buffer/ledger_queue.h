// The groups of a run in their order, by the additions that the journal has: formats/buffer.md, "Entries".
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace april::buffer {

class LedgerQueue {
 public:
  /// These prompts, each once an epoch, behind all that there are already.
  void Add(const std::vector<std::string>& prompt_ids, int64_t epochs, const std::optional<uint64_t>& shuffle_seed);
  /// Prompt and epoch of the group in this place, counted from 0; nullopt when there is none. Quick when asked from the front to the back: the order
  /// of an epoch is made when its first group is asked for, and forgotten with the next one's.
  std::optional<std::pair<int64_t, int64_t>> At(int64_t place);
  const std::string& prompt_id(int64_t prompt) const { return prompt_ids_[static_cast<size_t>(prompt)]; }

 private:
  struct Addition {
    int64_t first_prompt, num_prompts, epochs;
    std::optional<uint64_t> shuffle_seed;
  };
  struct Epoch {
    int64_t first_place = 0, number = 0;
    std::vector<int64_t> prompts;
  };

  std::vector<std::string> prompt_ids_;
  std::map<int64_t, Addition> additions_;  ///< by their first place
  int64_t num_places_ = 0;
  Epoch current_;
};

}  // namespace april::buffer
