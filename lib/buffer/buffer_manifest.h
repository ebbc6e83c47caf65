// The buffer's manifest: which segments make the journal, and which versions of the program may read and write it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"

namespace april::buffer {

struct SegmentName {
  uint32_t number = 0;
  std::string name;                ///< relative to the buffer's directory
  uint64_t epoch = 0;              ///< writer epoch: only writers of this epoch append to it
  uint64_t first = 1;              ///< sequence of its first frame
  std::optional<uint64_t> frames;  ///< how many it has, once it is closed
  bool operator==(const SegmentName&) const = default;
};

struct Manifest {
  std::string run;
  uint64_t writer_epoch = 1;
  uint64_t compactions = 0;  ///< so far: a change means that no position in the journal holds any more
  uint32_t next_number = 1;  ///< that no file of the journal has had
  std::vector<SegmentName> segments;
  std::vector<std::string> retired;  ///< files that the last compaction replaced; the next one deletes them
  bool may_write = true;             ///< whether min_writer allows this build
  std::string text;                  ///< of the file that was read
};

/// What to type when a buffer is damaged.
std::string RepairHint(const std::string& directory);

/// Throws Usage when `directory` is no buffer, Incompatible when min_reader forbids this build, Data when the manifest is damaged.
Manifest ReadManifest(FileSystem& files, const std::string& directory);
/// Reads it again, and parses it only when the file has changed.
void Reread(FileSystem& files, const std::string& directory, Manifest* manifest);
/// Durable when it returns.
void WriteManifest(FileSystem& files, const std::string& directory, const Manifest& manifest);

/// A copy of the journal's first frame, which names the run: for repair alone.
inline constexpr char kInitCopy[] = "init.zst";

/// "journal/00000007.zst"
std::string SegmentPath(uint32_t number);

}  // namespace april::buffer
