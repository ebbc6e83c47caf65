#include "buffer/upgrade.h"

#include <optional>

#include "base/error.h"
#include "buffer/snapshot_writer.h"

namespace april::buffer {

void Upgrade(FileSystem& files, const Clock& clock, const std::string& source, const std::string& destination) {
  if (files.Exists(destination) && !files.List(destination).empty()) {
    throw Error::Usage(destination + " is not empty", "choose a new directory: the copy is a buffer of its own");
  }
  Store store(files, clock, source);
  const auto lock = store.LockBuffer();
  const std::string serving = JoinPath(source, "serve.lock");
  if (files.Exists(serving) && !files.Lock(serving, 0))
    throw Error::Runtime(source + " is served by a hub", "stop it first: the copy would miss what comes later");
  store.Refresh();
  files.MakeDirectory(JoinPath(destination, "journal"));
  constexpr uint32_t kNumbers = 1u << 24;
  WrittenSnapshot written = WriteSnapshot(store, files, destination, clock.WallNs(), {.numbers = kNumbers});
  Manifest manifest;
  manifest.run = store.state().config().run;
  manifest.segments = std::move(written.segments);
  manifest.segments.back().frames.reset();  // goes on to grow
  manifest.next_number = manifest.segments.back().number + 1;
  WriteManifest(files, destination, manifest);
  files.SyncDirectory(DirectoryOf(destination));
}

}  // namespace april::buffer
