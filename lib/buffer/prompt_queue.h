// The order in which groups leave the queue: every plan's prompts, epoch by epoch, shuffled or not.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "buffer/journal.h"

namespace april::buffer {

class FieldReader;
class FieldWriter;

struct PromptMeta {
  Position payload;  ///< of its prompt entry
  int32_t tokens = 0;
};

/// Thread  one thread: the permutation of the epoch at hand is kept.
class PromptQueue {
 public:
  struct Group {
    int64_t prompt = 0;  ///< counts from 0 over all plans
    int64_t epoch = 0;
  };

  /// A prompt of an addition whose plan is still to come.
  void AddPrompt(uint64_t add, const std::string& id, const PromptMeta& prompt);
  /// The addition is whole: its groups join the queue. Throws Data when it has another number of prompts, or a prompt that the queue
  /// has already.
  void AddPlan(uint64_t add, int64_t num_prompts, int64_t epochs, std::optional<uint64_t> shuffle);

  int64_t num_prompts() const { return static_cast<int64_t>(prompts_.size()); }
  int64_t num_groups() const { return num_groups_; }  ///< over all plans, those that left the queue included
  const PromptMeta& prompt(int64_t index) const { return prompts_.at(static_cast<size_t>(index)); }
  bool HasPrompt(const std::string& id) const;
  /// The group at `place`, 0 being the first of the run.
  Group At(int64_t place) const;

  /// For the index.
  void Save(FieldWriter& fields) const;
  void Load(FieldReader& fields);

 private:
  struct Plan {
    int64_t first_prompt = 0, num_prompts = 0, first_place = 0, epochs = 0;
    bool is_shuffled = false;
    uint64_t seed = 0;
  };
  struct Pending {
    std::vector<PromptMeta> prompts;
    std::vector<uint64_t> ids;
  };
  std::vector<PromptMeta> prompts_;
  std::unordered_set<uint64_t> ids_;  ///< digests
  std::map<uint64_t, Pending> pending_;
  std::vector<Plan> plans_;
  int64_t num_groups_ = 0;
  mutable std::vector<uint32_t> permutation_;
  mutable int64_t permuted_plan_ = -1;  ///< index of the plan whose epoch `permutation_` is
  mutable int64_t permuted_epoch_ = -1;
};

}  // namespace april::buffer
