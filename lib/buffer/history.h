// What the journal tells of one rollout or one group, entry by entry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "buffer/journal.h"
#include "record/records.h"

namespace april::buffer {

struct HistoryEvent {
  int64_t ns = 0;  ///< wall clock
  Position at;
  std::string what;
};

struct History {
  uint64_t uid = 0;       ///< 0: it is a group's
  uint64_t group_id = 0;  ///< of the group, or the rollout's
  std::vector<uint64_t> members;
  std::vector<HistoryEvent> events;          ///< oldest first
  std::optional<record::Rollout> journaled;  ///< with all of its tokens; nullopt when none was put, and for a group
};

/// Of the only rollout or group whose digits begin with `digits`, also when the state has forgotten it. Reads the whole journal, without a lock.
/// Throws Usage when there is none, or several.
History ReadHistory(FileSystem& files, const std::string& directory, const std::string& digits);

/// "2026-01-31 12:00:00.123Z": UTC.
std::string TimeText(int64_t ns);

}  // namespace april::buffer
