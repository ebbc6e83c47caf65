#include "buffer/compaction.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "buffer/buffer_manifest.h"
#include "buffer/entries.h"
#include "buffer/frame.h"
#include "buffer/journal.h"
#include "buffer/store.h"

namespace april::buffer {
namespace {

constexpr size_t kFrameBytes = 1u << 20;  // raw; small enough that reading one rollout does not decompress many

/// Writes entries into new segments, which no manifest names yet.
class SegmentWriter {
 public:
  SegmentWriter(FileSystem& files, const std::string& directory, uint64_t epoch, uint32_t first_number, uint32_t numbers)
      : files_(files), directory_(directory), epoch_(epoch), next_number_(first_number), end_number_(first_number + numbers) {}

  void Add(const Entry& entry, int64_t ns, std::string_view payload = {}) {
    AppendEntry(entry, ns, payload, &raw_);
    Added();
  }
  void AddRaw(std::string_view entry) {
    raw_.append(entry);
    Added();
  }
  /// Durable when it returns.
  std::vector<SegmentName> Finish() {
    WriteFrame();
    CloseFile();
    files_.SyncDirectory(JoinPath(directory_, "journal"));
    return std::move(segments_);
  }
  uint64_t bytes() const { return bytes_; }

 private:
  void Added() {
    ++num_entries_;
    if (raw_.size() >= kFrameBytes) WriteFrame();
  }
  void WriteFrame() {
    if (num_entries_ == 0) return;
    if (!file_) OpenFile();
    FrameHeader header;
    header.sequence = next_sequence_++;
    header.writer_epoch = epoch_;
    header.segment = segments_.back().number;
    header.num_entries = std::exchange(num_entries_, 0);
    const std::string frame = EncodeFrame(header, raw_);
    raw_.clear();
    file_->Append(frame);
    bytes_ += frame.size();
    if (file_->Size() >= JournalLimits().segment_bytes) CloseFile();
  }
  void OpenFile() {
    if (next_number_ == end_number_) throw Error::Runtime(directory_ + ": compacting makes more of the journal than there was; nothing was changed");
    const uint32_t number = next_number_++;
    segments_.push_back({number, SegmentPath(number), epoch_, next_sequence_, std::nullopt});
    file_ = files_.Create(JoinPath(directory_, segments_.back().name));
  }
  void CloseFile() {
    if (!file_) return;
    file_->Sync();
    file_->Close();
    file_.reset();
    segments_.back().frames = next_sequence_ - segments_.back().first;
  }

  FileSystem& files_;
  const std::string& directory_;
  uint64_t epoch_;
  uint32_t next_number_, end_number_;
  uint64_t next_sequence_ = 1, bytes_ = 0;
  std::vector<SegmentName> segments_;
  std::unique_ptr<WritableFile> file_;
  std::string raw_;
  uint32_t num_entries_ = 0;
};

/// The run and its prompts stay as they are, those of an addition that is still to be completed too.
void CopyPrompts(Journal& journal, SegmentWriter& writer) {
  const bool read = journal.ReadNew([&](std::string_view raw, Position) {
    for (size_t offset = 0; offset < raw.size();) {
      const DecodedEntry decoded = ReadEntry(raw.substr(offset));
      const size_t length = decoded.entry_bytes + decoded.payload.size();
      const Entry& entry = decoded.entry;
      if (std::holds_alternative<InitEntry>(entry) || std::holds_alternative<PromptEntry>(entry) || std::holds_alternative<PlanEntry>(entry))
        writer.AddRaw(raw.substr(offset, length));
      offset += length;
    }
  });
  if (!read) throw Error::Runtime("the journal was compacted by another program");
}

/// A rollout's newest whole record as it was put; merged with what came since.
std::string PayloadOf(Store& store, uint64_t key) {
  const RolloutMeta& meta = store.state().rollout(key);
  if (!meta.deltas.empty()) return record::EncodeRecord(store.ReadJournaled(key));
  return IsSomewhere(meta.payload) ? store.ReadPayload(meta.payload) : std::string();
}

void WriteState(Store& store, int64_t ns, SegmentWriter& writer) {
  const State& state = store.state();
  writer.Add(state.Snapshot(), ns);
  for (const auto& [admission, group] : state.groups()) {
    writer.Add(state.SnapshotOf(admission), ns);
    for (size_t i = 0; i < group.members.size(); ++i) writer.Add(state.SnapshotOf(admission, i), ns, PayloadOf(store, MakeKey(admission, i)));
  }
}

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

}  // namespace

CompactionResult Compact(FileSystem& files, const Clock& clock, const std::string& directory, int64_t lock_timeout_ms) {
  ReadManifest(files, directory);  // before a lock file is made where no buffer is
  const auto alone = files.Lock(JoinPath(directory, "compact.lock"), 0);
  if (!alone) throw Error::Runtime(directory + " is being compacted by another program");
  const auto lock_buffer = [&] {
    auto lock = files.Lock(JoinPath(directory, "lock"), lock_timeout_ms);
    if (!lock) throw Error::Runtime(directory + ": another process has held the lock for " + std::to_string(lock_timeout_ms / 1000) + " s");
    return lock;
  };

  // What is there now becomes the closed part. Most of it is read before the lock is taken.
  const auto skip = [](std::string_view, Position) {};
  Journal tail(files, directory);
  if (!tail.ReadNew(skip)) throw Error::Runtime(directory + ": compacted by another program");
  uint32_t first_number = 0, numbers = 0;
  {
    const auto lock = lock_buffer();
    if (!tail.ReadNew(skip)) throw Error::Runtime(directory + ": compacted by another program");
    numbers = static_cast<uint32_t>(tail.manifest().segments.size()) + 2;
    first_number = tail.CloseSegment(numbers);
  }
  const Manifest before = tail.manifest();
  const size_t replaced = before.segments.size() - 1;
  JournalLimits limits;
  limits.last_segment = before.segments[replaced - 1].number;

  Store store(files, clock, directory, {.journal = limits});
  SegmentWriter writer(files, directory, before.writer_epoch, first_number, numbers);
  Journal prompts(files, directory, limits);
  CopyPrompts(prompts, writer);
  WriteState(store, clock.WallNs(), writer);
  const std::vector<SegmentName> written = writer.Finish();

  CompactionResult result;
  result.bytes_before = store.journal().size_bytes();
  result.bytes_after = writer.bytes();
  const auto lock = lock_buffer();
  Manifest manifest = ReadManifest(files, directory);
  manifest.retired.clear();
  for (size_t i = 0; i < replaced; ++i) manifest.retired.push_back(manifest.segments[i].name);
  manifest.segments.erase(manifest.segments.begin(), manifest.segments.begin() + static_cast<std::ptrdiff_t>(replaced));
  manifest.segments.insert(manifest.segments.begin(), written.begin(), written.end());
  ++manifest.compactions;
  WriteManifest(files, directory, manifest);
  result.bytes_deleted = RemoveUnnamed(files, directory, manifest);
  return result;
}

}  // namespace april::buffer
