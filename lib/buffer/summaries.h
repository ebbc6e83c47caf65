// What a state knows beside its groups: claims and sums. A compacted journal carries them in its snapshot.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "buffer/length_counts.h"
#include "buffer/states.h"

namespace april::buffer {

struct ClaimMeta {
  std::string id;
  int64_t step = 0;
  std::optional<std::string> parent;
  std::optional<uint64_t> version;
  std::vector<uint64_t> groups;  ///< admissions, by group_id
  GroupState state = GroupState::kClaimed;
  uint64_t trained_version = 0, trained_weights = 0;
  std::optional<std::string> checkpoint;
  int64_t rollouts = 0;
};

/// Rollouts, and response tokens of them.
struct Account {
  int64_t rollouts = 0, tokens = 0;
  void Add(int64_t more_tokens) {
    ++rollouts;
    tokens += more_tokens;
  }
  Account& operator+=(const Account& other) {
    rollouts += other.rollouts;
    tokens += other.tokens;
    return *this;
  }
  bool operator==(const Account&) const = default;
};

/// Sums over the whole journal. Tokens are response tokens.
struct Totals {
  int64_t superseded = 0, superseded_tokens = 0;
  int64_t finished = 0, trained_rollouts = 0, trained_tokens = 0, resumes = 0;
  int64_t trained_groups = 0, forgotten_groups = 0;
  int64_t journaled_tokens = 0;                   ///< that rollouts and progress brought
  std::map<std::string, Account> dropped;         ///< never trained: reason → what
  std::map<std::string, int64_t> dropped_groups;  ///< reason → groups that were dropped
  double trained_reward = 0;
  std::map<int64_t, int64_t> trained_staleness;  ///< policy versions behind, by its oldest token → trained rollouts
  LengthCounts sampled_lengths, trained_lengths;
};

}  // namespace april::buffer
