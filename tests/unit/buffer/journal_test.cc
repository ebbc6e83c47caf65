#include <catch2/catch.hpp>
#include <map>
#include <thread>

#include "base/error.h"
#include "buffer/frame.h"
#include "buffer/journal.h"
#include "buffer_support.h"
#include "failing_files.h"

namespace april {
namespace {

using buffer::Journal;
using buffer::JournalLimits;
using buffer::Position;
using test::FailingFiles;
using test::ScratchDir;

std::string Text(int number) { return "entry " + std::to_string(number) + std::string(static_cast<size_t>(number % 7) * 100, 'x'); }

/// A journal of frames Text(0), Text(1), …; the first is written by Create.
std::string MakeJournal(const ScratchDir& scratch, int frames, bool sync, JournalLimits limits = {}) {
  const std::string directory = scratch.Path("j");
  Journal::Create(SystemFiles(), directory, "run", Text(0), 1);
  Journal journal(SystemFiles(), directory, limits);
  REQUIRE(journal.ReadNew([](std::string_view, Position) {}));
  for (int i = 1; i < frames; ++i) {
    journal.Append(Text(i), 1);
    if (sync) journal.Sync();
  }
  return directory;
}

std::vector<std::string> ReadAll(Journal& journal) {
  std::vector<std::string> frames;
  const bool read = journal.ReadNew([&](std::string_view raw, Position) { frames.emplace_back(raw); });
  CHECK(read);
  return frames;
}

ErrorKind KindOf(const std::string& directory) {
  try {
    Journal journal(SystemFiles(), directory);
    ReadAll(journal);
  } catch (const Error& error) {
    return error.kind();
  }
  return ErrorKind::kStopped;  // none was thrown
}

std::string SegmentOf(const std::string& directory, uint32_t number = 1) { return JoinPath(directory, buffer::SegmentPath(number)); }

void Overwrite(const std::string& path, const std::string& contents) {
  const auto file = SystemFiles().Create(path);
  file->Append(contents);
  file->Close();
}

TEST_CASE("a frame's header and contents survive the way to disk and back") {
  buffer::FrameHeader header;
  header.sequence = 12;
  header.writer_epoch = 3;
  header.synced = 4567;
  header.segment = 9;
  header.num_entries = 2;
  const std::string frame = buffer::EncodeFrame(header, "raw bytes");
  const auto read = buffer::ParseFrameHeader(frame);
  REQUIRE(read);
  CHECK(read->sequence == 12);
  CHECK(read->writer_epoch == 3);
  CHECK(read->synced == 4567);
  CHECK(read->segment == 9);
  CHECK(read->num_entries == 2);
  CHECK(buffer::DecodeFrame(*read, std::string_view(frame).substr(buffer::kFrameHeaderBytes)) == "raw bytes");
  CHECK_FALSE(buffer::ParseFrameHeader(std::string_view(frame).substr(0, 71)));
  for (size_t i = 0; i < buffer::kFrameHeaderBytes; ++i) {
    std::string damaged = frame;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    CHECK_FALSE(buffer::ParseFrameHeader(damaged));
  }
}

TEST_CASE("what is appended is read by others, and payload frames are found again") {
  const ScratchDir scratch;
  const std::string directory = MakeJournal(scratch, 3, true);
  Journal reader(SystemFiles(), directory), writer(SystemFiles(), directory);
  CHECK(ReadAll(reader) == std::vector<std::string>{Text(0), Text(1), Text(2)});
  ReadAll(writer);
  const Position at = writer.NextPosition();
  writer.Append(Text(3), 1);
  writer.Sync();
  CHECK(ReadAll(reader) == std::vector<std::string>{Text(3)});
  CHECK(*reader.ReadFrame(at) == Text(3));
}

TEST_CASE("a tail that is cut at any byte is torn: the frames before it are whole, and the next writer goes on behind them") {
  const ScratchDir scratch;
  const std::string directory = MakeJournal(scratch, 4, true);
  const std::string whole = ReadFile(SystemFiles(), SegmentOf(directory));
  Journal measure(SystemFiles(), directory);
  std::vector<uint64_t> ends;
  REQUIRE(measure.ReadNew([&](std::string_view, Position at) { ends.push_back(at.frame); }));
  const uint64_t last = ends.back();
  for (uint64_t size = last; size < whole.size(); ++size) {
    Overwrite(SegmentOf(directory), whole.substr(0, size));
    Journal journal(SystemFiles(), directory);
    REQUIRE(ReadAll(journal).size() == 3);
    REQUIRE(journal.torn_bytes() == size - last);
    journal.Append("after the crash", 1);
    journal.Sync();
    Journal again(SystemFiles(), directory);
    REQUIRE(ReadAll(again).back() == "after the crash");
    REQUIRE(again.torn_bytes() == 0);
  }
}

TEST_CASE("a changed byte below the synced offset is damage, in the last unsynced frame a torn tail") {
  const ScratchDir scratch;
  const std::string directory = MakeJournal(scratch, 4, true);
  const std::string whole = ReadFile(SystemFiles(), SegmentOf(directory));
  Journal measure(SystemFiles(), directory);
  uint64_t last = 0;
  REQUIRE(measure.ReadNew([&](std::string_view, Position at) { last = at.frame; }));
  for (uint64_t i = 0; i < whole.size(); i += 3) {
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 0x40);
    Overwrite(SegmentOf(directory), changed);
    INFO("byte " << i << " of " << whole.size() << ", the last frame begins at " << last);
    REQUIRE(KindOf(directory) == (i < last ? ErrorKind::kData : ErrorKind::kStopped));
  }
}

TEST_CASE("of writers that append one frame each, the next one vouches for what the one before left") {
  const ScratchDir scratch;
  const std::string directory = scratch.Path("j");
  Journal::Create(SystemFiles(), directory, "run", Text(0), 1);
  std::vector<uint64_t> starts = {0};
  for (int i = 1; i < 4; ++i) {
    Journal journal(SystemFiles(), directory);
    ReadAll(journal);
    starts.push_back(journal.NextPosition().frame);
    journal.Append(Text(i), 1);  // and is killed before it syncs
  }
  const std::string whole = ReadFile(SystemFiles(), SegmentOf(directory));
  for (size_t frame = 0; frame < starts.size(); ++frame) {
    std::string damaged = whole;
    damaged[starts[frame] + buffer::kFrameHeaderBytes + 3] ^= 1;
    Overwrite(SegmentOf(directory), damaged);
    CHECK(KindOf(directory) == (frame + 1 < starts.size() ? ErrorKind::kData : ErrorKind::kStopped));
  }
}

TEST_CASE("frames that were never synced may vanish together") {
  const ScratchDir scratch;
  const std::string directory = MakeJournal(scratch, 6, false);
  std::string contents = ReadFile(SystemFiles(), SegmentOf(directory));
  Journal measure(SystemFiles(), directory);
  std::vector<uint64_t> starts;
  REQUIRE(measure.ReadNew([&](std::string_view, Position at) { starts.push_back(at.frame); }));
  // The third frame never reached the disk, the ones behind it did.
  std::fill(contents.begin() + static_cast<std::ptrdiff_t>(starts[2]), contents.begin() + static_cast<std::ptrdiff_t>(starts[3]), '\0');
  Overwrite(SegmentOf(directory), contents);
  Journal journal(SystemFiles(), directory);
  CHECK(ReadAll(journal).size() == 2);
}

TEST_CASE("full segments are closed, and reading goes on in the next") {
  const ScratchDir scratch;
  JournalLimits limits;
  limits.segment_bytes = 400;
  const std::string directory = MakeJournal(scratch, 20, true, limits);
  Journal journal(SystemFiles(), directory);
  CHECK(ReadAll(journal).size() == 20);
  CHECK(journal.manifest().segments.size() > 3);
  // Every segment but the last is wholly synced: a cut there is damage, and so is a missing file.
  const std::string first = ReadFile(SystemFiles(), SegmentOf(directory, 1));
  Overwrite(SegmentOf(directory, 1), first.substr(0, first.size() - 1));
  CHECK(KindOf(directory) == ErrorKind::kData);
  Overwrite(SegmentOf(directory, 1), first);
  CHECK(KindOf(directory) == ErrorKind::kStopped);
  SystemFiles().Remove(SegmentOf(directory, 2));
  CHECK(KindOf(directory) == ErrorKind::kData);
}

TEST_CASE("a raised writer epoch shuts the old writer out") {
  const ScratchDir scratch;
  const std::string directory = MakeJournal(scratch, 2, true);
  Journal old_writer(SystemFiles(), directory), new_writer(SystemFiles(), directory);
  ReadAll(old_writer);
  old_writer.Append("old", 1);
  ReadAll(new_writer);
  new_writer.RaiseEpoch();
  new_writer.Append("new", 1);
  new_writer.Sync();
  CHECK(ReadAll(old_writer) == std::vector<std::string>{"new"});
  CHECK_THROWS_WITH(old_writer.Append("too late", 1), Catch::Contains("took the buffer over"));
}

TEST_CASE("a newer manifest or frame is incompatible, never corrupt; a damaged manifest is corrupt") {
  const ScratchDir scratch;
  const std::string directory = MakeJournal(scratch, 2, true);
  const std::string path = JoinPath(directory, "manifest.json");
  const std::string manifest = ReadFile(SystemFiles(), path);
  std::string newer = manifest;
  newer.replace(newer.find("\"min_reader\":1"), 14, "\"min_reader\":2");
  Overwrite(path, newer);
  CHECK(KindOf(directory) == ErrorKind::kIncompatible);
  std::string damaged = manifest;
  damaged.replace(damaged.find("00000001"), 8, "00000002");
  Overwrite(path, damaged);
  CHECK(KindOf(directory) == ErrorKind::kData);
  Overwrite(path, manifest.substr(0, manifest.size() / 2));
  CHECK(KindOf(directory) == ErrorKind::kData);
  Overwrite(path, manifest);
  CHECK(KindOf(directory) == ErrorKind::kStopped);
}

TEST_CASE("on a full disk nothing is left of the transaction, and the buffer goes on when there is room") {
  test::ScratchBuffer scratch;
  FailingFiles files;
  buffer::Store store(files, scratch.clock, scratch.directory);
  const uint64_t size = store.journal().size_bytes();
  for (const int64_t room : {0, 1, 50, 100}) {
    files.room = room;
    CHECK_THROWS_WITH(test::Take(store, 2, 5), Catch::Contains("No space left"));
    CHECK(SystemFiles().OpenForRead(SegmentOf(scratch.directory))->Size() == size);
  }
  files.room = 1 << 20;
  store.Refresh();
  CHECK(store.state().num_leased() == 0);
  CHECK(test::Take(store, 2, 5).size() == 2);
}

TEST_CASE("after a failed sync the writer stops") {
  test::ScratchBuffer scratch;
  FailingFiles files;
  buffer::Store store(files, scratch.clock, scratch.directory);
  files.syncs_to_fail = 1;
  CHECK_THROWS_WITH(test::Take(store, 2, 5), Catch::Contains("cannot sync"));
  // The disk works again, but what it holds is unknown to this process.
  CHECK_THROWS_WITH(test::Take(store, 2, 6), Catch::Contains("could not be made durable"));
  store.Refresh();
  CHECK_THROWS_WITH(test::Take(store, 2, 6), Catch::Contains("cannot sync"));
  CHECK_THROWS_WITH(store.CheckWritable(), Catch::Contains("cannot sync"));
  buffer::Store again(files, scratch.clock, scratch.directory);
  CHECK(test::Take(again, 2, 7).size() == 2);
}

TEST_CASE("after a failed sync while a segment is begun the writer stops") {
  test::ScratchBuffer scratch;
  FailingFiles files;
  buffer::StoreOptions options;
  options.journal.segment_bytes = 1;
  for (const int syncs_before : {0, 1, 2}) {
    buffer::Store each(files, scratch.clock, scratch.directory, options);
    files.syncs_to_pass = syncs_before;
    files.syncs_to_fail = 1;
    CHECK_THROWS_WITH(test::Take(each, 1, 5), Catch::Contains("cannot sync"));
    CHECK_THROWS_WITH(test::Take(each, 1, 6), Catch::Contains("could not be made durable"));
  }
}

TEST_CASE("readers without a lock see a prefix of the journal while a writer appends and cuts tails") {
  const ScratchDir scratch;
  const std::string directory = MakeJournal(scratch, 1, true);
  constexpr int kFrames = 300;
  std::thread writer([&] {  // without assertions: Catch2 takes them from one thread only
    Journal journal(SystemFiles(), directory);
    if (!journal.ReadNew([](std::string_view, Position) {})) throw Error::Runtime("the journal changed under its only writer");
    for (int i = 1; i < kFrames; ++i) {
      journal.Append(Text(i), 1);
      journal.Sync();
    }
  });
  Journal reader(SystemFiles(), directory);
  std::vector<std::string> seen;
  while (seen.size() < kFrames) {
    for (std::string& frame : ReadAll(reader)) seen.push_back(std::move(frame));
  }
  writer.join();
  for (int i = 0; i < kFrames; ++i) REQUIRE(seen[static_cast<size_t>(i)] == Text(i));
}

}  // namespace
}  // namespace april
