#include "buffer/compaction.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "buffer/buffer_manifest.h"
#include "buffer/snapshot_writer.h"

namespace april::buffer {
namespace {

/// Everything in journal/ that the manifest does not name: what an earlier compaction replaced, or a crash left.
uint64_t RemoveUnnamed(FileSystem& files, const std::string& directory, const Manifest& manifest) {
  std::vector<std::string> named = manifest.retired;
  for (const SegmentName& segment : manifest.segments) named.push_back(segment.name);
  uint64_t bytes = 0;
  for (const std::string& file : files.List(JoinPath(directory, "journal"))) {
    const std::string name = "journal/" + file;
    if (std::find(named.begin(), named.end(), name) != named.end()) continue;
    bytes += files.OpenForRead(JoinPath(directory, name))->Size();
    files.Remove(JoinPath(directory, name));
  }
  files.SyncDirectory(JoinPath(directory, "journal"));
  return bytes;
}

CompactionResult CompactWith(FileSystem& files, const Clock& clock, const std::string& directory, const StoreOptions& options) {
  ReadManifest(files, directory);  // before a lock file is made where no buffer is
  const auto alone = files.Lock(JoinPath(directory, "compact.lock"), 0);
  if (!alone) throw Error::Runtime(directory + " is being compacted by another program");

  // Without the index: the new segments replace the journal that alone could prove it wrong.
  StoreOptions unindexed = options;
  unindexed.index = false;
  Store store(files, clock, directory, unindexed);
  const auto numbers = static_cast<uint32_t>(store.journal().manifest().segments.size()) + 2;
  const uint32_t first_number = store.CloseJournal(numbers);
  const Manifest before = store.journal().manifest();
  const size_t replaced = before.segments.size() - 1;

  const WrittenSnapshot written =
      WriteSnapshot(store, files, directory, clock.WallNs(), {before.segments[replaced - 1].number, before.writer_epoch, first_number, numbers});

  CompactionResult result;
  result.bytes_before = written.bytes_read;
  result.bytes_after = written.bytes;
  const auto lock = store.LockBuffer();
  Manifest manifest = ReadManifest(files, directory);
  manifest.retired.clear();
  for (size_t i = 0; i < replaced; ++i) manifest.retired.push_back(manifest.segments[i].name);
  manifest.segments.erase(manifest.segments.begin(), manifest.segments.begin() + static_cast<std::ptrdiff_t>(replaced));
  manifest.segments.insert(manifest.segments.begin(), written.segments.begin(), written.segments.end());
  ++manifest.compactions;
  try {
    WriteManifest(files, directory, manifest);
  } catch (const Error& error) {
    if (IsDiskFull(error)) RemoveSegments(files, directory, written.segments);  // the old manifest holds
    throw;
  }
  result.bytes_deleted = RemoveUnnamed(files, directory, manifest);
  return result;
}

}  // namespace

CompactionResult Compact(FileSystem& files, const Clock& clock, const std::string& directory, const StoreOptions& options) {
  try {
    return CompactWith(files, clock, directory, options);
  } catch (const Error& error) {
    if (!error.hint().empty() || error.kind() != ErrorKind::kRuntime) throw;
    throw error.Within(directory + " was not compacted, it goes on as it was")
        .WithHint("free space or repair the disk; nothing needs to be compacted before the buffer is used again");
  }
}

}  // namespace april::buffer
