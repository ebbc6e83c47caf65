// What a journal adds up to, written as new segments: what compaction puts in its place, and what an upgrade copies.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "buffer/buffer_manifest.h"
#include "buffer/store.h"

namespace april::buffer {

struct SnapshotPlace {
  uint32_t last_segment = 0;  ///< number of the last one that the store's state covers; 0: to the end of its journal
  uint64_t writer_epoch = 1;
  uint32_t first_number = 1;  ///< of the segments that are written
  uint32_t numbers = 0;       ///< how many it may be
};

struct WrittenSnapshot {
  std::vector<SegmentName> segments;  ///< closed, durable, named in no manifest yet
  uint64_t bytes = 0, bytes_read = 0;
};

/// Writes into `directory`/journal what the store's state is, prompts included, and reads it back. Throws Data when a rollout's record does not hold
/// what was journaled, or the copy differs; what it wrote is removed then.
WrittenSnapshot WriteSnapshot(Store& store, FileSystem& files, const std::string& directory, int64_t ns, const SnapshotPlace& place);

/// Of files that no manifest names; one that cannot be removed stays.
void RemoveSegments(FileSystem& files, const std::string& directory, const std::vector<SegmentName>& segments);

}  // namespace april::buffer
