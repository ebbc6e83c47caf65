#include "buffer/upgrade.h"

#include <optional>

#include "base/error.h"
#include "buffer/entries.h"
#include "buffer/journal.h"
#include "buffer/journal_files.h"
#include "buffer/owner.h"
#include "buffer/snapshot_writer.h"

namespace april::buffer {

void Upgrade(FileSystem& files, const Clock& clock, const std::string& source, const std::string& destination) {
  if (files.Exists(destination) && !files.List(destination).empty()) {
    throw Error::Usage(destination + " is not empty", "choose a new directory: the copy is a buffer of its own");
  }
  Store store(files, clock, source);
  const auto lock = store.LockBuffer();
  if (IsServed(files, source)) throw Error::Runtime(source + " is served by a hub", "stop it first: the copy would miss what comes later");
  store.Refresh();
  MakeDirectoryDurably(files, JoinPath(destination, "journal"));
  constexpr uint32_t kNumbers = 1u << 24;
  WrittenSnapshot written = WriteSnapshot(store, files, destination, clock.WallNs(), {.numbers = kNumbers});
  std::string first;
  AppendEntry(InitEntry{store.state().config()}, clock.WallNs(), {}, &first);
  Journal::CopyFirst(files, destination, first, 1);
  Manifest manifest;
  manifest.run = store.state().config().run;
  manifest.segments = std::move(written.segments);
  // What was copied is closed, so that damage in it is told; writers go on in a segment of their own.
  const SegmentName& last = manifest.segments.back();
  const SegmentName open = {last.number + 1, SegmentPath(last.number + 1), last.epoch, last.first + *last.frames, std::nullopt};
  CreateSegment(files, destination, open);
  manifest.segments.push_back(open);
  manifest.next_number = open.number + 1;
  WriteManifest(files, destination, manifest);
}

}  // namespace april::buffer
