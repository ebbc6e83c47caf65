// Where a journal stops being sound: the first frame that is not whole, or whose entries cannot stand where they are.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "buffer/buffer_manifest.h"
#include "buffer/buffer_state.h"

namespace april::buffer {

struct Cut {
  size_t segment = 0;    ///< index in the manifest
  uint64_t offset = 0;   ///< everything of the segment before it is sound
  uint64_t frames = 0;   ///< of the segment, before it
  bool missing = false;  ///< the segment's file is not there
  bool torn = false;     ///< of a transaction that nobody was told had happened
  std::string why;
};

/// Reads the segments up to the cut; nullopt when all is sound. Throws Incompatible for a newer format. `whole`, if given, tells whether a snapshot
/// in it has all that it counts.
std::optional<Cut> FindCut(FileSystem& files, const std::string& directory, const std::vector<SegmentName>& segments, bool* whole = nullptr);

/// The state that the journal has before the cut.
std::unique_ptr<State> StateBefore(FileSystem& files, const std::string& directory, const std::vector<SegmentName>& segments, const Cut& cut);

}  // namespace april::buffer
