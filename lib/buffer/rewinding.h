// Takes a run back to a checkpoint: later steps' groups are ready again, newer checkpoints are set aside. Only a folder with a checkpoint's name
// (record/checkpoint_name.h) is one, as for the trainer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "buffer/store.h"

namespace april::buffer {

struct RewindTarget {
  std::string name;      ///< of the checkpoint
  int64_t step = 0;      ///< index of its next step
  uint64_t version = 0;  ///< policy version
};

/// Reads a checkpoint's manifest. Throws Usage when `path` is no whole checkpoint, has no checkpoint's name or that of another step, or is of another
/// run than `run`.
RewindTarget ReadRewindTarget(FileSystem& files, const std::string& path, const std::string& run);

struct RewindCounts {
  int64_t steps = 0, groups = 0, rollouts = 0;
};

/// trained, consumed, claimed → ready for every step from the target's on; nothing when there is none. Throws Runtime, having changed nothing, when
/// groups that it needs are no longer kept, when an earlier step is not committed, or when the checkpoint is not one of this buffer's.
RewindCounts Rewind(const State& state, Batch& batch, const RewindTarget& target);

/// Renames the manifests of the checkpoints beside `path` that have a later step than `step`. Returns their names. What is called otherwise, such as
/// a copy that somebody keeps, stays.
std::vector<std::string> SetNewerAside(FileSystem& files, const std::string& path, int64_t step);

}  // namespace april::buffer
