#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/rng.h"
#include "stream/reader.h"
#include "stream/writer.h"
#include "temp_dir.h"

using namespace april;
using namespace april::stream;
using april::test::TempDir;

namespace {

std::string Header() { return Encode(Map{{"type", "header"}, {"format", "april-stream"}, {"version", Array{1, 0}}, {"purpose", "train"}}); }

std::string Record(uint64_t number, size_t size) {
  std::string data(size, 0);
  for (size_t i = 0; i < size; ++i) data[i] = static_cast<char>(RandomBits(number, RandomUse::kTest, 1, i));
  return Encode(Map{{"type", "thing"}, {"uid", number}, {"data", Bin{std::move(data)}}});
}

std::vector<std::string> ReadAll(const std::string& path, const ReaderOptions& options = {}, EndStatus* status = nullptr) {
  auto reader = Reader::Open(path, options);
  std::vector<std::string> records;
  while (auto record = reader->Next()) records.emplace_back(*record);
  if (status) *status = reader->end_status();
  return records;
}

std::vector<std::string> WriteSome(const std::string& path, uint64_t num_records, size_t max_size, const WriterOptions& options,
                                   EndStatus status = EndStatus::kOk) {
  std::vector<std::string> records;
  auto writer = Writer::Open(path, Header(), options);
  for (uint64_t i = 0; i < num_records; ++i) {
    records.push_back(Record(i, RandomBits(5, RandomUse::kTest, 2, i) % (max_size + 1)));
    writer->Write(records.back());
  }
  writer->Finish(status);
  return records;
}

WriterOptions Raw() {
  WriterOptions options;
  options.compress = false;
  return options;
}

}  // namespace

TEST_CASE("Files round-trip, raw and compressed, with marks") {
  const TempDir dir;
  for (const bool compress : {false, true}) {
    WriterOptions options;
    options.compress = compress;
    options.mark_bytes = 3000;
    const std::string path = dir.Path("stream");
    const auto written = WriteSome(path, 500, 9000, options, EndStatus::kStopped);
    EndStatus status = EndStatus::kOk;
    CHECK(ReadAll(path, {}, &status) == written);
    CHECK(status == EndStatus::kStopped);
    CHECK((ReadFile(SystemFiles(), path).substr(0, 4) == "\x28\xb5\x2f\xfd") == compress);
  }
}

TEST_CASE("A record larger than every buffer passes; one over the limit does not") {
  const TempDir dir;
  const auto written = WriteSome(dir.Path("stream"), 3, 5 << 20, Raw());
  CHECK(ReadAll(dir.Path("stream")) == written);
  auto writer = Writer::Open(dir.Path("large"), Header(), {});
  CHECK_THROWS_WITH(writer->Write(Encode(Map{{"type", "thing"}, {"data", Bin{std::string(64 << 20, 'x')}}})), Catch::Contains("limit"));
  ReaderOptions options;
  options.limits.max_bytes = 100'000;
  CHECK_THROWS_WITH(ReadAll(dir.Path("stream"), options), Catch::Contains("larger than the limit"));
}

TEST_CASE("Every prefix of a stream is called truncated") {
  const TempDir dir;
  WriterOptions options = Raw();
  options.mark_bytes = 300;
  const auto written = WriteSome(dir.Path("stream"), 20, 100, options);
  const std::string bytes = ReadFile(SystemFiles(), dir.Path("stream"));
  for (size_t size = 0; size < bytes.size(); ++size) {
    ReplaceFile(SystemFiles(), dir.Path("cut"), bytes.substr(0, size), false);
    try {
      ReadAll(dir.Path("cut"));
      FAIL("a stream cut at byte " << size << " was read to its end");
    } catch (const Error& error) {
      REQUIRE(error.kind() == ErrorKind::kData);
    }
  }
}

TEST_CASE("Every prefix of a compressed stream is called truncated") {
  const TempDir dir;
  WriteSome(dir.Path("stream"), 20, 100, {});
  const std::string bytes = ReadFile(SystemFiles(), dir.Path("stream"));
  for (size_t size = 0; size < bytes.size(); ++size) {
    ReplaceFile(SystemFiles(), dir.Path("cut"), bytes.substr(0, size), false);
    REQUIRE_THROWS_AS(ReadAll(dir.Path("cut")), Error);
  }
}

TEST_CASE("A changed bit anywhere is found, or changes nothing (zstd's unused header bit)") {
  const TempDir dir;
  for (const bool compress : {false, true}) {
    WriterOptions options;
    options.compress = compress;
    options.mark_bytes = 300;
    const auto written = WriteSome(dir.Path("stream"), 20, 60, options);
    const std::string bytes = ReadFile(SystemFiles(), dir.Path("stream"));
    for (size_t i = 0; i < bytes.size(); ++i) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
      ReplaceFile(SystemFiles(), dir.Path("damaged"), damaged, false);
      try {
        if (ReadAll(dir.Path("damaged")) != written || !compress)
          FAIL("a flipped bit in byte " << i << " of " << bytes.size() << " was not found, compressed " << compress);
      } catch (const Error& error) {
        REQUIRE((error.kind() == ErrorKind::kData || error.kind() == ErrorKind::kIncompatible));
      }
    }
  }
}

TEST_CASE("Bytes after the end, two headers and foreign input are refused with a reason") {
  const TempDir dir;
  WriteSome(dir.Path("stream"), 3, 10, Raw());
  const std::string bytes = ReadFile(SystemFiles(), dir.Path("stream"));
  const auto read = [&](const std::string& contents) {
    ReplaceFile(SystemFiles(), dir.Path("other"), contents, false);
    return ReadAll(dir.Path("other"));
  };
  CHECK_THROWS_WITH(read(bytes + "x"), Catch::Contains("follow the end"));
  CHECK_THROWS_WITH(read(bytes + bytes), Catch::Contains("follow the end"));
  CHECK_THROWS_WITH(read(Header() + Header()), Catch::Contains("second header"));
  CHECK_THROWS_WITH(read("{\"type\": \"header\"}"), Catch::Contains("no april stream"));
  CHECK_THROWS_WITH(read(""), Catch::Contains("is empty"));
  CHECK_THROWS_WITH(read(Record(1, 1)), Catch::Contains("instead of a header"));
  CHECK_THROWS_WITH(read(Encode(Map{{"kind", "x"}})), Catch::Contains("first key"));
  CHECK_THROWS_WITH(read(Encode(Map{{"type", "header"}, {"format", "other"}})), Catch::Contains("april-stream"));
}

TEST_CASE("Another major version is incompatible, never corrupt; a later minor is read") {
  const TempDir dir;
  const auto open = [&](int major, int minor) {
    const auto header = Encode(Map{{"type", "header"}, {"format", "april-stream"}, {"version", Array{major, minor}}, {"new", Map{}}});
    ReplaceFile(SystemFiles(), dir.Path("stream"), header, false);
    return Reader::Open(dir.Path("stream"), {});
  };
  CHECK_NOTHROW(open(1, 7));
  try {
    open(2, 0);
    FAIL("version 2 was read");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kIncompatible);
    CHECK_THAT(error.what(), Catch::Contains("version 2.0"));
  }
}

TEST_CASE("A truncated stream can be shown on request") {
  const TempDir dir;
  const auto written = WriteSome(dir.Path("stream"), 10, 50, Raw());
  const std::string bytes = ReadFile(SystemFiles(), dir.Path("stream"));
  ReplaceFile(SystemFiles(), dir.Path("cut"), bytes.substr(0, bytes.size() - 60), false);
  ReaderOptions options;
  options.allow_truncated = true;
  EndStatus status = EndStatus::kOk;
  const auto read = ReadAll(dir.Path("cut"), options, &status);
  CHECK(read.size() >= 8);
  CHECK(read.size() < 10 + 1);
  CHECK(status == EndStatus::kError);
}

TEST_CASE("A file appears under its name only when it is whole") {
  const TempDir dir;
  {
    auto writer = Writer::Open(dir.Path("stream"), Header(), {});
    writer->Write(Record(1, 10));
    CHECK(!SystemFiles().Exists(dir.Path("stream")));
  }
  CHECK(!SystemFiles().Exists(dir.Path("stream")));
  CHECK_THROWS_AS(ReadAll(dir.Path("stream.tmp")), Error);
}

TEST_CASE("A full disk is a runtime error with a hint") {
  try {
    auto writer = Writer::Open("/dev/full", Header(), {});
    writer->Write(Record(1, 1 << 20));
    writer->Finish(EndStatus::kOk);
    FAIL("/dev/full took the stream");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kRuntime);
    CHECK_THAT(error.what(), Catch::Contains("No space left"));
  }
}

TEST_CASE("An idle writer still sends marks, and its buffered records, through a pipe") {
  const TempDir dir;
  REQUIRE(::mkfifo(dir.Path("pipe").c_str(), 0600) == 0);
  std::thread producer([&] {
    WriterOptions options;
    options.mark_interval_ms = 20;
    auto writer = Writer::Open(dir.Path("pipe"), Header(), options);
    writer->Write(Record(1, 10));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    writer->Finish(EndStatus::kOk);
  });
  std::ifstream pipe(dir.Path("pipe"), std::ios::binary);
  std::stringstream all;
  all << pipe.rdbuf();
  producer.join();
  size_t marks = 0;
  for (size_t at = 0; (at = all.str().find("\xa4"
                                           "mark",
                                           at)) != std::string::npos;
       ++at)
    ++marks;
  CHECK(marks >= 3);
  ReplaceFile(SystemFiles(), dir.Path("copy"), all.str(), false);
  CHECK(ReadAll(dir.Path("copy")).size() == 1);
}

TEST_CASE("A reader that closes the pipe is a lost peer") {
  const TempDir dir;
  ::signal(SIGPIPE, SIG_IGN);
  REQUIRE(::mkfifo(dir.Path("pipe").c_str(), 0600) == 0);
  std::thread consumer([&] { std::ifstream pipe(dir.Path("pipe"), std::ios::binary); });
  std::string message;
  try {
    auto writer = Writer::Open(dir.Path("pipe"), Header(), {});
    for (int i = 0; i < 100; ++i) writer->Write(Record(1, 100'000));
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kPeer);
    message = error.message();
  }
  consumer.join();
  CHECK_THAT(message, Catch::Contains("closed by its reader"));
}
