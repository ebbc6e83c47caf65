#include "buffer/index_check.h"

#include <optional>
#include <string_view>

#include "base/error.h"
#include "buffer/index_file.h"

namespace april::buffer {
namespace {

/// The state of the journal up to this point, as bytes; nullopt when the journal is damaged before it, or was compacted meanwhile.
std::optional<std::string> SavedUpTo(FileSystem& files, const std::string& directory, const JournalPoint& point) {
  State state;
  bool reached = false;
  Journal journal(files, directory);
  const auto visit = [&](std::string_view raw, Position at) {
    if (reached) return;
    reached = at.segment == point.segment && at.frame == point.frame;
    ForEachEntry(raw, [&](const DecodedEntry& decoded, size_t offset) {
      at.entry = static_cast<uint32_t>(offset);
      state.Apply(decoded, at);
    });
  };
  if (!journal.ReadNew(visit) || !reached) return std::nullopt;
  std::string saved;
  state.Save(&saved);
  return saved;
}

}  // namespace

std::string CompareIndex(FileSystem& files, const std::string& directory) {
  const std::optional<Index> index = ReadIndex(files, directory);
  if (!index) return "";
  try {
    if (!Journal(files, directory).GoTo(index->point)) return "";
    const std::optional<std::string> saved = SavedUpTo(files, directory, index->point);
    if (!saved) return "";
    std::string theirs;
    index->state.Save(&theirs);
    return theirs == *saved ? "" : "its state is not that of the journal up to frame " + std::to_string(index->point.sequence - 1);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kIncompatible) throw;
    return "";
  }
}

}  // namespace april::buffer
