// What the files of a journal say of themselves, for when the manifest cannot be believed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "buffer/buffer_manifest.h"

namespace april::buffer {

/// Makes a segment's file, which no manifest names yet, in place of one that a crash left. Durable when it returns.
void CreateSegment(FileSystem& files, const std::string& directory, const SegmentName& segment, std::string_view content = {});

/// The segment that a file is, by its own intact frames, with their number; nullopt when it has none.
std::optional<SegmentName> SegmentOfFile(FileSystem& files, const std::string& directory, const std::string& name);

/// The journal before its last compaction: the retired files, then what was written since. Empty when these are not all there, or not sound.
std::vector<SegmentName> BeforeCompaction(FileSystem& files, const std::string& directory, const Manifest& manifest);

/// A manifest made of the files of journal/ that continue each other from the run's init entry to the newest frame. Throws Data when no files do.
Manifest RebuildManifest(FileSystem& files, const std::string& directory);

}  // namespace april::buffer
