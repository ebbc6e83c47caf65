#include "buffer/repairing.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "buffer/audit.h"
#include "buffer/buffer_manifest.h"
#include "buffer/cut.h"
#include "buffer/following.h"
#include "buffer/index_check.h"
#include "buffer/index_file.h"
#include "buffer/journal_files.h"
#include "buffer/owner.h"
#include "buffer/segment_scan.h"
#include "buffer/store.h"
#include "buffer/verification.h"

namespace april::buffer {
namespace {

class Repairer {
 public:
  Repairer(FileSystem& files, const Clock& clock, const std::string& directory, const RepairOptions& options)
      : files_(files), clock_(clock), directory_(directory), options_(options) {}

  RepairReport Run() {
    CheckIsBuffer();
    if (!options_.dry_run) LockBuffer();
    ReadManifestOrRebuild();
    CheckIndex();
    std::optional<Cut> cut = FindCut(files_, directory_, manifest_.segments);
    if (cut && !cut->torn) cut = TryBeforeCompaction(*cut);
    if (cut) Explain(*cut);
    if (options_.dry_run) {
      TellUnnamed();
      if (cut) FollowInThought(*cut);
      return std::move(report_);
    }
    if (cut) {
      MoveAside(*cut);
    } else if (manifest_changed_) {
      WriteManifest(files_, directory_, manifest_);
    }
    MoveUnnamed();
    lock_.reset();
    if (cut) Follow();
    if (!report_.folder.empty()) WriteReport();
    return std::move(report_);
  }

 private:
  /// A file of which a part is looked at for entries that can still stand.
  struct Source {
    std::string name;  ///< relative to the buffer
    uint32_t number;
    uint64_t offset;
  };

  std::string Path(const std::string& name) const { return JoinPath(directory_, name); }
  void Say(std::string line) { report_.actions.push_back(std::move(line)); }
  std::string Did(const char* done, const char* planned) const { return options_.dry_run ? planned : done; }

  void CheckIsBuffer() {
    try {
      ReadManifest(files_, directory_);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kData) throw;
    }
  }

  void LockBuffer() {
    compacting_ = files_.Lock(Path("compact.lock"), 0);
    if (!compacting_) throw Error::Runtime(directory_ + " is being compacted by another program", "wait until it has ended, or stop it");
    lock_ = files_.Lock(Path("lock"), options_.lock_timeout_ms);
    if (!lock_) throw Error::Runtime(directory_ + ": another process holds the lock", "stop it first: fuser -v " + Path("lock"));
    if (IsServed(files_, directory_))
      throw Error::Runtime(directory_ + " is served by a hub: nothing was changed", "stop the hub first, then run repair again");
    if (!files_.Exists(Path("journal"))) MakeDirectoryDurably(files_, Path("journal"));
  }

  void ReadManifestOrRebuild() {
    std::string what;
    try {
      manifest_ = ReadManifest(files_, directory_);
      if (!manifest_.may_write) throw Error::Incompatible(directory_ + ": only a newer build may write this buffer");
      return;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kData) throw;
      what = error.message();
    }
    manifest_ = RebuildManifest(files_, directory_);
    manifest_changed_ = true;
    Say(what + ": " + Did("made a new one of ", "would make a new one of ") + std::to_string(manifest_.segments.size()) + " files of journal/");
    if (!options_.dry_run && files_.Exists(Path("manifest.json"))) Copy("manifest.json", 0, Folder() + "/manifest.json");
  }

  void CheckIndex() {
    const std::string what = manifest_changed_ ? "" : CompareIndex(files_, directory_);
    if (what.empty()) return;
    Say(std::string(kIndex) + ": " + what + ": " + Did("moved", "would move") + " it aside; the next writer makes a new one, and nothing is lost");
    if (!options_.dry_run) Move(kIndex);
  }

  /// The newest compaction's files are damaged, but those that they replaced are still whole.
  std::optional<Cut> TryBeforeCompaction(const Cut& cut) {
    std::vector<SegmentName> before = BeforeCompaction(files_, directory_, manifest_);
    if (before.empty()) return cut;
    const std::optional<Cut> other = FindCut(files_, directory_, before);
    const size_t newer = manifest_.segments.size() - cut.segment;  // segments that this cut takes away
    if (other && before.size() - other->segment >= newer) return cut;
    Say(manifest_.segments[cut.segment].name + ": " + cut.why + ": " + Did("went", "would go") +
        " back to the files that the last compaction replaced, which are whole; nothing is lost");
    manifest_.segments = std::move(before);
    manifest_.retired.clear();
    ++manifest_.compactions;
    manifest_changed_ = true;
    return other;
  }

  void Explain(const Cut& cut) {
    const SegmentName& segment = manifest_.segments[cut.segment];
    std::string text = segment.name + " at offset " + std::to_string(cut.offset) + ": " + cut.why + (cut.torn ? ": a torn tail" : ": damaged") +
                       "; " + Did("kept", "would keep") + " everything before, " + Did("moved", "would move") + " what follows aside";
    const size_t more = manifest_.segments.size() - cut.segment - 1;
    if (more > 0) text += ", " + std::to_string(more) + " more segments too";
    Say(text);
    if (cut.missing) report_.lost.push_back(segment.name + ": all that it held; how much that was, nothing tells");
    if (cut.segment == 0 && cut.frames == 0 && !files_.Exists(Path(kInitCopy)))
      throw Error::Data(directory_ + ": not even the run's first entry is whole, and there is no " + kInitCopy, "restore the buffer from a copy");
  }

  /// "lost+found/3", made when it is needed first.
  const std::string& Folder() {
    if (!report_.folder.empty()) return report_.folder;
    for (int number = 1;; ++number) {
      const std::string name = "lost+found/" + std::to_string(number);
      if (files_.Exists(Path(name))) continue;
      files_.MakeDirectory(Path(name));
      files_.SyncDirectory(Path("lost+found"));
      files_.SyncDirectory(directory_);
      return report_.folder = name;
    }
  }

  void Copy(const std::string& from, uint64_t offset, const std::string& to) {
    const auto source = files_.OpenForRead(Path(from));
    const auto target = files_.Create(Path(to));
    for (std::string bytes;; offset += bytes.size()) {
      bytes.resize(4u << 20);
      bytes.resize(source->ReadAt(offset, bytes.data(), bytes.size()));
      if (bytes.empty()) break;
      target->Append(bytes);
    }
    target->Sync();
    target->Close();
    files_.SyncDirectory(DirectoryOf(Path(to)));
  }

  void Move(const std::string& name) {
    const std::string target = Folder() + "/" + name.substr(name.find('/') + 1);
    files_.Rename(Path(name), Path(target));
    files_.SyncDirectory(Path(Folder()));
    files_.SyncDirectory(DirectoryOf(Path(name)));
  }

  /// A copy first, then the cut; the files behind it first, then the manifest that does not name them: no crash in between loses a byte, nor lets a
  /// compaction delete a file as one that nobody names.
  void MoveAside(const Cut& cut) {
    std::vector<SegmentName>& segments = manifest_.segments;
    SegmentName& last = segments[cut.segment];
    if (!cut.missing && cut.frames > 0) {
      const std::string copy = Folder() + "/" + last.name.substr(last.name.find('/') + 1) + ".from-" + std::to_string(cut.offset);
      Copy(last.name, cut.offset, copy);
      sources_.push_back({copy, last.number, 0});
      const auto file = files_.OpenForAppend(Path(last.name));
      file->Truncate(cut.offset);
      file->Sync();
      file->Close();
    }
    for (size_t i = cut.segment + (cut.frames > 0 ? 1 : 0); i < segments.size(); ++i) {
      if (!files_.Exists(Path(segments[i].name))) continue;
      Move(segments[i].name);
      sources_.push_back({Folder() + "/" + segments[i].name.substr(segments[i].name.find('/') + 1), segments[i].number, 0});
    }
    if (cut.torn && cut.frames > 0 && !manifest_changed_) return;  // what is left is what every writer knows
    last.frames = cut.frames;
    segments.resize(cut.segment + (cut.frames > 0 ? 1 : 0));
    ++manifest_.writer_epoch;
    if (segments.empty()) segments.push_back(FirstSegment());
    const SegmentName& sound = segments.back();
    AddSegment("", sound.first + *sound.frames);
    WriteManifest(files_, directory_, manifest_);
  }

  /// A new file with this content, behind the others.
  void AddSegment(std::string_view content, uint64_t first) {
    const uint32_t number = manifest_.next_number++;
    manifest_.segments.push_back({number, SegmentPath(number), manifest_.writer_epoch, first, std::nullopt});
    CreateSegment(files_, directory_, manifest_.segments.back(), content);
  }

  /// The run's init entry again, from the copy that was made of it.
  SegmentName FirstSegment() {
    const std::string raw = ReadInitCopy();
    FrameHeader header;
    header.sequence = 1;
    header.writer_epoch = manifest_.writer_epoch;
    header.segment = manifest_.next_number;
    header.num_entries = 1;
    AddSegment(EncodeFrame(header, raw), 1);
    SegmentName first = manifest_.segments.back();
    manifest_.segments.pop_back();
    first.frames = 1;
    return first;
  }

  std::string ReadInitCopy() {
    const std::string bytes = ReadFile(files_, Path(kInitCopy));
    const auto header = ParseFrameHeader(bytes);
    if (!header) throw Error::Data(Path(kInitCopy) + " is damaged as well", "restore the buffer from a copy");
    return DecodeFrame(*header, std::string_view(bytes).substr(kFrameHeaderBytes));
  }

  void TellUnnamed() {
    for (const std::string& name : UnnamedFiles(files_, directory_, manifest_)) Say(name + ": no manifest names it; would move it aside");
  }
  void MoveUnnamed() {
    for (const std::string& name : UnnamedFiles(files_, directory_, manifest_)) {
      Move(name);
      Say(name + ": no manifest names it; moved it aside");
    }
  }

  /// Visits every entry of the intact frames in a source, frame by frame.
  template <typename Visit>
  void ReadSource(const Source& source, const Visit& visit) {
    const auto file = files_.OpenForRead(Path(source.name));
    SegmentScanner scanner(*file, source.number);
    scanner.Seek(source.offset);
    while (const auto piece = scanner.Next()) {
      if (piece->header) {
        visit(piece->raw, source.name + " at offset " + std::to_string(piece->offset));
      } else {
        report_.lost.push_back(source.name + " at offset " + std::to_string(piece->offset) + ": " + std::to_string(piece->end - piece->offset) +
                               " bytes that cannot be read: " + piece->what);
      }
    }
  }

  /// Adds the entries of one frame that can follow on `state`; `add` changes it. When that throws, nothing is told of the frame.
  template <typename Add>
  void FollowFrame(const State& state, std::string_view raw, const std::string& where, const Add& add) {
    int64_t followed = 0;
    std::vector<std::string> lost;
    for (size_t offset = 0; offset < raw.size();) {
      DecodedEntry decoded;
      std::string why;
      try {
        decoded = ReadEntry(raw.substr(offset));
        why = WhyNotFollowing(state, decoded);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::kData) throw;
        lost.push_back(where + ": " + error.message());
        break;
      }
      offset += decoded.entry_bytes + decoded.payload.size();
      if (why.empty()) {
        add(decoded);
        ++followed;
      } else {
        lost.push_back(where + ": " + DescribeEntry(decoded) + ": " + why);
      }
    }
    report_.followed += followed;
    report_.lost.insert(report_.lost.end(), lost.begin(), lost.end());
  }

  void Follow() {
    Store store(files_, clock_, directory_, {.take_over = options_.take_over, .lock_timeout_ms = options_.lock_timeout_ms});
    for (const Source& source : sources_) {
      ReadSource(source, [&](const std::string& raw, const std::string& where) {
        try {
          store.Transact([&](Batch& batch) {
            FollowFrame(store.state(), raw, where, [&](const DecodedEntry& decoded) { batch.Add(decoded.entry, decoded.payload); });
          });
        } catch (const Error& error) {
          if (error.kind() != ErrorKind::kData) throw;
          report_.lost.push_back(where + ": all of it: " + error.message());
        }
      });
    }
  }

  void FollowInThought(const Cut& cut) {
    std::unique_ptr<State> state = StateBefore(files_, directory_, manifest_.segments, cut);
    if (!state->initialised()) {
      const std::string raw = ReadInitCopy();
      state->Apply(ReadEntry(raw), {1, 0, 0});
    }
    try {
      for (size_t i = cut.segment; i < manifest_.segments.size(); ++i) {
        const SegmentName& segment = manifest_.segments[i];
        if (!files_.Exists(Path(segment.name))) continue;
        ReadSource({segment.name, segment.number, i == cut.segment ? cut.offset : 0}, [&](const std::string& raw, const std::string& where) {
          FollowFrame(*state, raw, where, [&](const DecodedEntry& decoded) { state->Apply(decoded, {segment.number, 0, 0}); });
        });
      }
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kData) throw;
      report_.lost.push_back("what stands behind the following was not looked at: " + error.message());
    }
  }

  void WriteReport() {
    std::string text;
    for (const std::string& line : report_.actions) text += line + "\n";
    text += std::to_string(report_.followed) + " entries behind the damage still stand, " + std::to_string(report_.lost.size()) + " do not\n";
    for (const std::string& line : report_.lost) text += line + "\n";
    ReplaceFile(files_, Path(report_.folder + "/report.txt"), text, /*durable=*/true);
  }

  FileSystem& files_;
  const Clock& clock_;
  const std::string& directory_;
  const RepairOptions& options_;
  RepairReport report_;
  Manifest manifest_;
  bool manifest_changed_ = false;
  std::vector<Source> sources_;
  std::unique_ptr<FileLock> compacting_, lock_;
};

}  // namespace

RepairReport Repair(FileSystem& files, const Clock& clock, const std::string& directory, const RepairOptions& options) {
  return Repairer(files, clock, directory, options).Run();
}

}  // namespace april::buffer
