// A claim as it is told to a trainer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace april::buffer {

struct ClaimInfo {
  std::string id;
  int64_t step = 0;                        ///< index from 0
  std::optional<std::string> parent;       ///< checkpoint that the claim builds on
  std::optional<uint64_t> policy_version;  ///< trainer's version when it was made
  bool replay = false;                     ///< made before: emitted again
  int64_t groups = 0, rollouts = 0;
  std::optional<uint64_t> trained_version, trained_weights;  ///< of a replay that was committed: what recomputing it must give
};

/// The newest whole checkpoint in a directory of them.
struct CheckpointInfo {
  std::string name;
  int64_t step = 0;  ///< index of the next step: it contains those below
};

}  // namespace april::buffer
