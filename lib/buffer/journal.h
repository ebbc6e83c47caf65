// The journal's files: appends transactions, reads those that others appended, tells a torn tail from damage. Knows nothing of what entries mean.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "buffer/buffer_manifest.h"
#include "buffer/frame.h"

namespace april::buffer {

/// Where an entry is: segment, offset of its frame in the segment, offset in the frame's raw bytes.
struct Position {
  uint32_t segment = 0;
  uint32_t entry = 0;
  uint64_t frame = 0;
  bool operator==(const Position&) const = default;
};
inline constexpr Position kNowhere{};
inline bool IsSomewhere(const Position& position) { return position.segment != 0; }

/// How far a journal was read: to the end of a frame. Whoever has the state at this point need not read what stands before it.
struct JournalPoint {
  uint64_t compactions = 0;
  uint64_t segment = 0;   ///< number
  uint64_t frame = 0;     ///< offset of the last frame
  uint64_t header = 0;    ///< digest of its header
  uint64_t end = 0;       ///< offset behind it
  uint64_t sequence = 0;  ///< of the next frame
};

struct JournalLimits {
  uint64_t segment_bytes = 256u << 20;  ///< a segment that exceeds this is closed
  uint64_t cache_bytes = 64u << 20;     ///< raw frames kept for reading payloads
  uint32_t last_segment = 0;            ///< read no further than the segment of this number; 0: to the end
};

/// Called with a frame's raw entries, and where it begins (entry = 0).
using FrameVisitor = std::function<void(std::string_view raw, Position at)>;

/// Thread  one object, one thread. Several processes may have one each: readers need no lock, writers hold the buffer's lock from ReadNew to Sync.
class Journal {
 public:
  /// Makes the first segment with one transaction, then the manifest. Durable when it returns, as far as `directory` itself is.
  static void Create(FileSystem& files, const std::string& directory, const std::string& run, std::string_view first_entries, uint32_t num_entries);
  /// Makes only the copy of a journal's first frame that repair may need: of a journal that began in another way. Durable when it returns.
  static void CopyFirst(FileSystem& files, const std::string& directory, std::string_view first_entries, uint32_t num_entries);

  Journal(FileSystem& files, std::string directory, JournalLimits limits = {});

  /// Visits the frames that were appended since the last call. False, and nothing visited, once the journal was compacted: what was read before has
  /// other positions now, so a new Journal has to read it all. Throws Data on damage, Incompatible on a newer format.
  [[nodiscard]] bool ReadNew(const FrameVisitor& visit);
  /// How far it was read or appended; nullopt when the last segment has no frame yet.
  std::optional<JournalPoint> Here() const;
  /// Goes on from there instead of from the beginning, if that point is in this journal, which must not have been read.
  bool GoTo(const JournalPoint& point);
  /// Bytes behind the last whole frame: what a crash, or a writer at this moment, left.
  uint64_t torn_bytes() const { return torn_bytes_; }

  /// Where the next appended transaction will be.
  Position NextPosition();
  /// Appends one transaction; cuts a torn tail before. Nothing is left of it when this throws. Needs the lock, and ReadNew under it.
  void Append(std::string_view raw, uint32_t num_entries);
  /// Appends an empty frame, which tells that all before it is on disk: from then on damage in the last transaction cannot pass for a torn tail.
  /// Nothing while not all is synced, or when the last frame is one. Needs what Append needs.
  void MarkEnd();
  /// Everything that was read or appended is on disk when this returns. After a failure the journal takes no more. Needs no lock.
  void Sync();
  /// The same beside the caller's work: in a thread of its own, while more is appended. The next BeginSync or Sync waits for it and throws what it
  /// met.
  void BeginSync();
  /// Every entry that was read or appended is known to be on disk.
  bool synced() const { return synced_ >= entries_end_ && manifest_on_disk_ && !syncing(); }
  /// A sync was begun, and neither waited for.
  bool syncing() const { return syncing_.valid(); }
  /// A sync failed, or a tail could not be cut: what the disk holds is unknown, and this process must not go on writing.
  bool broken() const { return broken_; }
  /// Begins a segment under a higher writer epoch, which shuts out every writer of the old one.
  void RaiseEpoch();
  /// Closes the last segment, so that a compaction may replace it, and keeps so many numbers for the compaction's own; returns the first of them.
  uint32_t CloseSegment(uint32_t numbers);

  /// The raw entries of the frame at `at`; kept in a small cache. Throws Data when the frame is damaged.
  std::shared_ptr<const std::string> ReadFrame(Position at);

  const Manifest& manifest() const { return manifest_; }
  uint64_t size_bytes() const { return sealed_bytes_ + end_; }

 private:
  using FrameName = std::pair<uint32_t, uint64_t>;  ///< its segment's number, its offset
  struct CachedFrame {
    FrameName name;
    std::shared_ptr<const std::string> raw;
  };
  void OpenSegments();
  bool ReadOne(const FrameVisitor& visit);  ///< false at the end of the segment's whole frames
  const ReadableFile& reader() const { return *readers_[current_]; }
  bool IsDamage(uint64_t offset) const;
  const SegmentName& Current() const { return manifest_.segments[current_]; }
  std::string PathOf(const SegmentName& segment) const { return JoinPath(directory_, segment.name); }
  void OpenSegment(size_t index);
  void CheckNotBroken() const;
  void OpenForAppending();
  void SyncManifest();
  void SyncWriter();
  void EndSync();
  void BeginSegment(uint64_t epoch);
  void RotateIfFull();

  FileSystem& files_;
  std::string directory_;
  JournalLimits limits_;
  Manifest manifest_;
  size_t current_ = 0;                                  ///< index of the segment being read
  std::vector<std::unique_ptr<ReadableFile>> readers_;  ///< of each segment, held open: a compaction may remove its file
  std::shared_ptr<WritableFile> writer_;                ///< of the last segment
  uint64_t end_ = 0;                                    ///< offset behind the last whole frame of the current segment
  uint64_t entries_end_ = 0;                            ///< behind the last that has entries
  uint64_t sealed_bytes_ = 0;                           ///< of the segments before
  uint64_t synced_ = 0;                                 ///< of the current segment
  uint64_t syncing_end_ = 0;                            ///< what `synced_` will be after `syncing_`
  uint64_t last_frame_ = 0, last_header_ = 0;           ///< of the frame before `end_`: its offset, its header's digest
  uint64_t next_sequence_ = 1;
  uint64_t torn_bytes_ = 0;
  uint64_t writer_epoch_ = 0;      ///< under which this object appends; 0 until it does
  bool manifest_on_disk_ = false;  ///< its name too, as this object has it
  bool broken_ = false;
  std::list<CachedFrame> cache_;  ///< most recently used first
  std::map<FrameName, std::list<CachedFrame>::iterator> cached_;
  uint64_t cached_bytes_ = 0;
  std::future<void> syncing_;
};

}  // namespace april::buffer
