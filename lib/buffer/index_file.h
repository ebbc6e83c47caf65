// The index: a state that is kept beside the journal, so that a long journal need not be read to open the buffer. A cache: it may be missing, damaged
// or of another build, and is ignored then. formats/buffer.md, "Directory".
#pragma once

#include <optional>
#include <string>

#include "base/file.h"
#include "buffer/buffer_state.h"
#include "buffer/journal.h"

namespace april::buffer {

inline constexpr char kIndex[] = "index";  ///< its name in the buffer's directory

/// Replaces the index; not synced. Returns its size in bytes. `point` must be on disk.
uint64_t WriteIndex(FileSystem& files, const std::string& directory, const JournalPoint& point, const State& state);

struct Index {
  JournalPoint point;  ///< up to which the state is the journal's
  uint64_t bytes = 0;
  State state;
};
/// nullopt without an index that this build can use.
std::optional<Index> ReadIndex(FileSystem& files, const std::string& directory);

}  // namespace april::buffer
