#include "buffer/journal.h"

#include <algorithm>
#include <system_error>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/log.h"
#include "buffer/journal_files.h"

namespace april::buffer {
namespace {

std::string At(const std::string& path, uint64_t offset) { return path + " at offset " + std::to_string(offset); }

Error WithSpaceHint(const Error& error) {
  return error.WithHint("nothing that was acknowledged is lost; free space or repair the disk, then run the command again");
}

std::string FirstFrame(std::string_view entries, uint32_t num_entries) {
  FrameHeader header;
  header.sequence = header.writer_epoch = header.segment = 1;
  header.num_entries = num_entries;
  return EncodeFrame(header, entries);
}

}  // namespace

void Journal::Create(FileSystem& files, const std::string& directory, const std::string& run, std::string_view first_entries, uint32_t num_entries) {
  files.MakeDirectory(JoinPath(directory, "journal"));
  const SegmentName first = {1, SegmentPath(1), 1, 1, std::nullopt};
  CopyFirst(files, directory, first_entries, num_entries);
  CreateSegment(files, directory, first, FirstFrame(first_entries, num_entries));
  Manifest manifest;
  manifest.run = run;
  manifest.segments = {first};
  manifest.next_number = 2;
  WriteManifest(files, directory, manifest);
}

void Journal::CopyFirst(FileSystem& files, const std::string& directory, std::string_view first_entries, uint32_t num_entries) {
  ReplaceFile(files, JoinPath(directory, kInitCopy), FirstFrame(first_entries, num_entries), /*durable=*/true);
}

Journal::Journal(FileSystem& files, std::string directory, JournalLimits limits) : files_(files), directory_(std::move(directory)), limits_(limits) {
  OpenSegments();
  OpenSegment(0);
}

/// Opens every file that the manifest names; reads the manifest again when one is gone, for a compaction may have replaced it.
void Journal::OpenSegments() {
  for (std::optional<uint64_t> compactions;;) {
    manifest_ = ReadManifest(files_, directory_);
    readers_.clear();
    try {
      for (const SegmentName& segment : manifest_.segments) readers_.push_back(files_.OpenForRead(PathOf(segment)));
      return;
    } catch (const Error&) {
      const std::string path = PathOf(manifest_.segments[readers_.size()]);
      if (files_.Exists(path)) throw;
      if (compactions == manifest_.compactions)
        throw Error::Data(path + " is missing, but the manifest names it", "restore it from a copy; or, " + RepairHint(directory_));
      compactions = manifest_.compactions;
    }
  }
}

void Journal::OpenSegment(size_t index) {
  EndSync();
  current_ = index;
  if (readers_.size() == index) readers_.push_back(files_.OpenForRead(PathOf(Current())));
  writer_.reset();
  end_ = entries_end_ = synced_ = torn_bytes_ = 0;
  next_sequence_ = Current().first;
}

bool Journal::ReadNew(const FrameVisitor& visit) {
  // The manifest before the frames: a segment that it shows closed gets no more of them.
  Manifest manifest = manifest_;
  Reread(files_, directory_, &manifest);
  if (manifest.compactions != manifest_.compactions) return false;
  manifest_on_disk_ = manifest_on_disk_ && manifest.text == manifest_.text;
  manifest_ = std::move(manifest);
  for (;;) {
    while (ReadOne(visit)) {
    }
    const bool closed = Current().frames.has_value();
    const bool short_of_frames = closed && next_sequence_ - Current().first < *Current().frames;
    torn_bytes_ = reader().Size() - std::min(reader().Size(), end_);
    if (torn_bytes_ > 0 || short_of_frames) {
      // A writer may have finished the frame since it was looked at: damage is what stays.
      const bool damaged = closed || IsDamage(end_);
      if (damaged && ReadOne(visit)) continue;
      if (damaged) {
        throw Error::Data(At(PathOf(Current()), end_) + ": damaged: a frame that was already on disk is not whole (" + std::to_string(torn_bytes_) +
                              " bytes follow)",
                          RepairHint(directory_));
      }
    }
    if (current_ + 1 == manifest_.segments.size() || Current().number == limits_.last_segment) return true;
    sealed_bytes_ += end_;
    OpenSegment(current_ + 1);
  }
}

std::optional<JournalPoint> Journal::Here() const {
  if (end_ == 0) return std::nullopt;
  return JournalPoint{manifest_.compactions, Current().number, last_frame_, last_header_, end_, next_sequence_};
}

bool Journal::GoTo(const JournalPoint& point) {
  const auto segment =
      std::find_if(manifest_.segments.begin(), manifest_.segments.end(), [&](const auto& name) { return name.number == point.segment; });
  if (point.compactions != manifest_.compactions || segment == manifest_.segments.end()) return false;
  const auto index = static_cast<size_t>(segment - manifest_.segments.begin());
  char head[kFrameHeaderBytes];
  const size_t got = readers_[index]->ReadAt(point.frame, head, sizeof head);
  if (got < sizeof head || Digest({head, sizeof head}) != point.header || readers_[index]->Size() < point.end) return false;
  for (size_t i = 0; i < index; ++i) sealed_bytes_ += readers_[i]->Size();
  OpenSegment(index);
  last_frame_ = point.frame;
  last_header_ = point.header;
  end_ = entries_end_ = point.end;
  next_sequence_ = point.sequence;
  return true;
}

bool Journal::ReadOne(const FrameVisitor& visit) {
  char head[kFrameHeaderBytes];
  const size_t got = reader().ReadAt(end_, head, sizeof head);
  std::optional<FrameHeader> header;
  try {
    header = ParseFrameHeader({head, got});
  } catch (const Error& error) {
    throw error.Within(At(PathOf(Current()), end_));
  }
  if (!header || header->sequence != next_sequence_ || header->segment != Current().number) return false;
  if (end_ + kFrameHeaderBytes + header->compressed_bytes > reader().Size()) return false;
  std::string compressed(header->compressed_bytes, '\0');
  compressed.resize(reader().ReadAt(end_ + kFrameHeaderBytes, compressed.data(), compressed.size()));
  std::string raw;
  try {
    raw = DecodeFrame(*header, compressed);
  } catch (const Error&) {
    return false;
  }
  visit(raw, {Current().number, 0, end_});
  last_frame_ = end_;
  last_header_ = Digest({head, sizeof head});
  ++next_sequence_;
  synced_ = std::max(synced_, header->synced);
  end_ += kFrameHeaderBytes + compressed.size();
  if (!raw.empty()) entries_end_ = end_;
  return true;
}

bool Journal::IsDamage(uint64_t offset) const {
  if (synced_ > offset) return true;
  // Frames behind the bad one tell what their writer knew to be on disk. The bad one's length cannot be trusted: look at every byte.
  constexpr size_t kChunk = 4u << 20;
  std::string bytes;
  for (uint64_t at = offset;; at += kChunk) {
    bytes.resize(kChunk + kFrameHeaderBytes - 1);
    bytes.resize(reader().ReadAt(at, bytes.data(), bytes.size()));
    for (size_t i = bytes.find("APRJ", 8); i != std::string::npos; i = bytes.find("APRJ", i + 1)) {
      const auto header = ParseFrameHeader(std::string_view(bytes).substr(i - 8));
      if (header && header->segment == Current().number && header->synced > offset) return true;
    }
    if (bytes.size() < kChunk + kFrameHeaderBytes - 1) return false;
  }
}

Position Journal::NextPosition() {
  RotateIfFull();
  return {Current().number, 0, end_};
}

void Journal::CheckNotBroken() const {
  if (!broken_) return;
  throw Error::Runtime(PathOf(Current()) + ": an earlier write or sync failed, what the disk holds is unknown",
                       "run the command again: it reads what is there");
}

void Journal::OpenForAppending() {
  CheckNotBroken();
  if (!manifest_.may_write) throw Error::Incompatible(directory_ + ": only a newer build may write this buffer");
  if (writer_epoch_ == 0) writer_epoch_ = manifest_.writer_epoch;
  if (writer_epoch_ != manifest_.writer_epoch || Current().epoch != writer_epoch_) {
    throw Error::Runtime(directory_ + ": another writer took the buffer over (writer epoch " + std::to_string(manifest_.writer_epoch) +
                         ", this one's is " + std::to_string(writer_epoch_) + ")");
  }
  SyncManifest();
  if (!writer_ || writer_->Size() != end_) {
    writer_ = files_.OpenForAppend(PathOf(Current()));
    if (writer_->Size() > end_) {
      log::Warn(At(PathOf(Current()), end_) + ": cut " + std::to_string(writer_->Size() - end_) +
                " bytes behind the last whole frame: a transaction that was interrupted before anybody was told of it, or damage in the last one");
      writer_->Truncate(end_);
    }
    torn_bytes_ = 0;
    // The writer before may have died between its append and its sync. From here on a frame tells that everything before it is on disk: without that,
    // damage in there would pass for a torn tail.
    if (!synced()) Sync();
  }
}

/// Who wrote the manifest may have been killed before its name was on disk: with the power it would go, and what the segments that it names have got.
void Journal::SyncManifest() {
  if (manifest_on_disk_) return;
  try {
    files_.SyncDirectory(directory_);
  } catch (const Error& error) {
    broken_ = true;
    throw WithSpaceHint(error);
  }
  manifest_on_disk_ = true;
}

void Journal::SyncWriter() {
  try {
    writer_->Sync();
  } catch (const Error& error) {
    broken_ = true;
    throw WithSpaceHint(error);
  }
  synced_ = end_;
}

void Journal::Append(std::string_view raw, uint32_t num_entries) {
  RotateIfFull();
  OpenForAppending();
  FrameHeader header;
  header.sequence = next_sequence_;
  header.writer_epoch = manifest_.writer_epoch;
  header.synced = synced_;
  header.segment = Current().number;
  header.num_entries = num_entries;
  const std::string frame = EncodeFrame(header, raw);
  try {
    writer_->Append(frame);
  } catch (const Error& error) {
    try {
      writer_->Truncate(end_);
    } catch (const Error&) {
      broken_ = true;  // the part of a frame that is left is a torn tail, which the next writer cuts
    }
    throw WithSpaceHint(error);
  }
  last_frame_ = end_;
  last_header_ = Digest(std::string_view(frame).substr(0, kFrameHeaderBytes));
  end_ += frame.size();
  if (num_entries > 0) entries_end_ = end_;
  ++next_sequence_;
}

void Journal::MarkEnd() {
  if (synced() && entries_end_ == end_ && end_ > 0) Append({}, 0);
}

void Journal::BeginSync() {
  EndSync();
  CheckNotBroken();
  if (synced()) return;
  SyncManifest();
  if (!writer_) writer_ = files_.OpenForAppend(PathOf(Current()));
  syncing_end_ = end_;
  try {
    syncing_ = std::async(std::launch::async, [file = writer_] { file->Sync(); });
  } catch (const std::system_error&) {  // no thread to be had
    SyncWriter();
  }
}

/// Waits for the sync that was begun.
void Journal::EndSync() {
  if (!syncing_.valid()) return;
  try {
    syncing_.get();
  } catch (const Error& error) {
    broken_ = true;
    throw WithSpaceHint(error);
  }
  synced_ = std::max(synced_, syncing_end_);
}

void Journal::Sync() {
  EndSync();
  CheckNotBroken();
  SyncManifest();
  if (synced_ == end_) return;
  // Needs no lock, so it must not cut anything: what stands behind `end_` may be another writer's.
  if (!writer_) writer_ = files_.OpenForAppend(PathOf(Current()));
  SyncWriter();
}

void Journal::RotateIfFull() {
  if (end_ < limits_.segment_bytes) return;
  OpenForAppending();
  Sync();
  BeginSegment(manifest_.writer_epoch);
}

void Journal::BeginSegment(uint64_t epoch) {
  const uint32_t number = manifest_.next_number;
  const SegmentName next = {number, SegmentPath(number), epoch, next_sequence_, std::nullopt};
  Manifest manifest = manifest_;
  manifest.writer_epoch = epoch;
  manifest.segments.back().frames = next_sequence_ - Current().first;
  manifest.segments.push_back(next);
  manifest.next_number = number + 1;
  try {
    // A crash between these lines leaves a file that no manifest names; the next writer replaces it.
    CreateSegment(files_, directory_, next);
    WriteManifest(files_, directory_, manifest);
  } catch (const Error& error) {
    broken_ = !IsDiskFull(error);  // without room nothing happened yet: the old manifest holds
    throw WithSpaceHint(error);
  }
  manifest_ = std::move(manifest);
  sealed_bytes_ += end_;
  OpenSegment(manifest_.segments.size() - 1);
}

uint32_t Journal::CloseSegment(uint32_t numbers) {
  OpenForAppending();
  Sync();
  const uint32_t first = manifest_.next_number;
  manifest_.next_number += numbers;
  BeginSegment(manifest_.writer_epoch);
  return first;
}

void Journal::RaiseEpoch() {
  OpenForAppending();
  Sync();
  BeginSegment(manifest_.writer_epoch + 1);
  writer_epoch_ = manifest_.writer_epoch;
}

std::shared_ptr<const std::string> Journal::ReadFrame(Position at) {
  const FrameName name(at.segment, at.frame);
  if (const auto found = cached_.find(name); found != cached_.end()) {
    cache_.splice(cache_.begin(), cache_, found->second);
    return found->second->raw;
  }
  const auto segment =
      std::find_if(manifest_.segments.begin(), manifest_.segments.end(), [&](const SegmentName& one) { return one.number == at.segment; });
  if (segment == manifest_.segments.end()) throw Error::Data("segment " + std::to_string(at.segment) + " is not in the manifest");
  const std::string path = PathOf(*segment);
  const ReadableFile& source = *readers_[static_cast<size_t>(segment - manifest_.segments.begin())];
  char head[kFrameHeaderBytes];
  const auto header = ParseFrameHeader({head, source.ReadAt(at.frame, head, sizeof head)});
  if (!header) throw Error::Data(At(path, at.frame) + ": damaged: no frame is where one was", RepairHint(directory_));
  std::string compressed(std::min<uint64_t>(header->compressed_bytes, source.Size()), '\0');
  compressed.resize(source.ReadAt(at.frame + kFrameHeaderBytes, compressed.data(), compressed.size()));
  std::shared_ptr<const std::string> raw;
  try {
    raw = std::make_shared<const std::string>(DecodeFrame(*header, compressed));
  } catch (const Error& error) {
    throw Error::Data(At(path, at.frame) + ": damaged frame: " + error.message(), RepairHint(directory_));
  }
  cache_.push_front({name, raw});
  cached_[name] = cache_.begin();
  cached_bytes_ += raw->size();
  while (cached_bytes_ > limits_.cache_bytes && cache_.size() > 1) {
    cached_bytes_ -= cache_.back().raw->size();
    cached_.erase(cache_.back().name);
    cache_.pop_back();
  }
  return raw;
}

}  // namespace april::buffer
