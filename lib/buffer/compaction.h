// Compaction: what the closed part of a journal adds up to replaces it, while readers and writers go on. formats/buffer.md, "Compaction".
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/file.h"
#include "buffer/store.h"

namespace april::buffer {

struct CompactionResult {
  uint64_t bytes_before = 0, bytes_after = 0;  ///< of the part that was replaced
  uint64_t bytes_deleted = 0;                  ///< of files that earlier compactions had replaced, or that a crash had left
};

/// Durable when it returns. Throws Runtime when another compaction is under way, or the lock is not free in time. Nothing happened when it throws
/// before the new manifest; files that it leaves then are removed by the next one.
CompactionResult Compact(FileSystem& files, const Clock& clock, const std::string& directory, const StoreOptions& options = {});

}  // namespace april::buffer
