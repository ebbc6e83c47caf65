#include "buffer/snapshot_writer.h"

#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "buffer/entries.h"
#include "buffer/frame.h"
#include "buffer/journal.h"
#include "buffer/payloads.h"

namespace april::buffer {
namespace {

constexpr size_t kFrameBytes = 1u << 20;  // raw; small enough that reading one rollout does not decompress many

/// Writes entries into new segments, which no manifest names yet. What is not finished is removed: on a full disk others need its room.
class SegmentWriter {
 public:
  SegmentWriter(FileSystem& files, const std::string& directory, uint64_t epoch, uint32_t first_number, uint32_t numbers)
      : files_(files), directory_(directory), epoch_(epoch), next_number_(first_number), end_number_(first_number + numbers) {}

  ~SegmentWriter() {
    file_.reset();
    RemoveSegments(files_, directory_, segments_);
  }
  SegmentWriter(const SegmentWriter&) = delete;
  SegmentWriter& operator=(const SegmentWriter&) = delete;

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
    return std::exchange(segments_, {});
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
    ForEachEntry(raw, [&](const DecodedEntry& decoded, size_t offset) {
      const Entry& entry = decoded.entry;
      if (std::holds_alternative<InitEntry>(entry) || std::holds_alternative<PromptEntry>(entry) || std::holds_alternative<PlanEntry>(entry))
        writer.AddRaw(raw.substr(offset, decoded.entry_bytes + decoded.payload.size()));
    });
  });
  if (!read) throw Error::Runtime("the journal was compacted by another program");
}

/// The whole record of a rollout's response; what was put, unless progress came since. Throws Data when its tokens are not those that were journaled.
std::string PayloadOf(Store& store, uint64_t key) {
  const RolloutMeta& meta = store.state().rollout(key);
  if (!IsSomewhere(meta.payload) && meta.deltas.empty()) return {};
  const record::Rollout rollout = store.ReadJournaled(key);
  if (ExtendChain(0, rollout.tokens, rollout.logprobs, 0, rollout.tokens.size()) != meta.chain) {
    throw Error::Data(store.directory() + ": the record of rollout " + HexU64(meta.uid) + " does not hold the tokens that its entries count",
                      "partial-buffer verify tells more; nothing was changed");
  }
  return meta.deltas.empty() ? store.ReadPayload(meta.payload) : record::EncodeRecord(rollout);
}

/// Calls `each` with the entries that the state is made from, and the key of the rollout for those that may carry a record.
template <typename Each>
void ForEachEntryOf(const State& state, const Each& each) {
  each(Entry(state.Snapshot()), std::nullopt);
  for (const auto& [admission, group] : state.groups()) {
    each(Entry(state.SnapshotOf(admission)), std::nullopt);
    for (size_t i = 0; i < group.members.size(); ++i) each(Entry(state.SnapshotOf(admission, i)), std::optional(MakeKey(admission, i)));
  }
}

uint64_t DigestOf(const State& state) {
  std::string raw;
  uint64_t digest = 0;
  ForEachEntryOf(state, [&](const Entry& entry, std::optional<uint64_t>) {
    raw.assign(reinterpret_cast<const char*>(&digest), sizeof digest);
    AppendEntry(entry, 0, {}, &raw);
    digest = Digest(raw);
  });
  return digest;
}

/// Reads the new segments back: what they add up to must be what was there. Throws Data when it is not.
void Check(FileSystem& files, const std::string& directory, const std::vector<SegmentName>& written, const State& expected) {
  State state;
  for (const SegmentName& segment : written) {
    const auto file = files.OpenForRead(JoinPath(directory, segment.name));
    uint64_t offset = 0;
    for (uint64_t frame = 0; frame < *segment.frames; ++frame) {
      std::string bytes(kFrameHeaderBytes, '\0');
      bytes.resize(file->ReadAt(offset, bytes.data(), bytes.size()));
      const auto header = ParseFrameHeader(bytes);
      if (!header || header->sequence != segment.first + frame) throw Error::Data(segment.name + " does not read back as it was written");
      bytes.resize(header->compressed_bytes);
      bytes.resize(file->ReadAt(offset + kFrameHeaderBytes, bytes.data(), bytes.size()));
      const std::string raw = DecodeFrame(*header, bytes);
      ForEachEntry(raw, [&](const DecodedEntry& decoded, size_t entry) {
        state.Apply(decoded, {segment.number, static_cast<uint32_t>(entry), offset});
      });
      offset += kFrameHeaderBytes + bytes.size();
    }
  }
  state.CheckSnapshot();
  if (state.queue().num_groups() != expected.queue().num_groups() || DigestOf(state) != DigestOf(expected))
    throw Error::Data(directory + ": the compacted journal does not add up to what the journal holds", "nothing was changed: this is a defect");
}

}  // namespace

void RemoveSegments(FileSystem& files, const std::string& directory, const std::vector<SegmentName>& segments) {
  for (const SegmentName& segment : segments) {
    try {
      files.Remove(JoinPath(directory, segment.name));
    } catch (...) {
    }
  }
}

WrittenSnapshot WriteSnapshot(Store& store, FileSystem& files, const std::string& directory, int64_t ns, const SnapshotPlace& place) {
  SegmentWriter writer(files, directory, place.writer_epoch, place.first_number, place.numbers);
  Journal prompts(files, store.directory(), {.last_segment = place.last_segment});
  CopyPrompts(prompts, writer);
  ForEachEntryOf(store.state(),
                 [&](const Entry& entry, std::optional<uint64_t> key) { writer.Add(entry, ns, key ? PayloadOf(store, *key) : std::string()); });
  WrittenSnapshot written;
  written.segments = writer.Finish();
  written.bytes = writer.bytes();
  written.bytes_read = prompts.size_bytes();
  Check(files, directory, written.segments, store.state());
  return written;
}

}  // namespace april::buffer
