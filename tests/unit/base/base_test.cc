#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/file.h"
#include "base/rng.h"

using namespace april;

TEST_CASE("Philox gives the published vectors") {
  // Known-answer vectors of the authors' Random123 library for philox4x32, 10 rounds.
  CHECK(Philox4x32({0, 0, 0, 0}, {0, 0}) == std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("a draw is a function of seed, use, id and index, and of all four") {
  const uint64_t draw = RandomBits(1, RandomUse::kSampling, 2, 3);
  CHECK(draw == RandomBits(1, RandomUse::kSampling, 2, 3));
  CHECK(draw != RandomBits(2, RandomUse::kSampling, 2, 3));
  CHECK(draw != RandomBits(1, RandomUse::kShuffle, 2, 3));
  CHECK(draw != RandomBits(1, RandomUse::kSampling, 3, 3));
  CHECK(draw != RandomBits(1, RandomUse::kSampling, 2, 4));
  CHECK(RandomBits(1, RandomUse::kSampling, 1ull << 40, 3) != RandomBits(1, RandomUse::kSampling, 0, 3));
  double sum = 0;
  for (uint64_t i = 0; i < 10'000; ++i) {
    const double unit = RandomUnit(7, RandomUse::kTest, 0, i);
    REQUIRE(unit >= 0);
    REQUIRE(unit < 1);
    sum += unit;
  }
  CHECK(sum / 10'000 == Approx(0.5).margin(0.02));  // 6.9 standard deviations
}

TEST_CASE("a digest fed in pieces is the digest of the whole") {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += std::to_string(i);
  DigestStream stream;
  for (size_t start = 0; start < text.size(); start += 37) stream.Update(std::string_view(text).substr(start, 37));
  CHECK(stream.Value() == Digest(text));
  CHECK(Digest("") == 0x2d06800538d394c2);  // xxh3-64's published value for no input
}

TEST_CASE("hexadecimal numbers round-trip and refuse other text") {
  CHECK(HexU64(0xabc) == "0000000000000abc");
  CHECK(ParseHexU64(HexU64(~0ull)) == ~0ull);
  for (const char* bad : {"", "g", "0x1", "11111111111111111", " 1", "-1"}) CHECK_THROWS_AS(ParseHexU64(bad), Error);
}

TEST_CASE("files: replace is whole, append adds, locks exclude") {
  char name[] = "/tmp/april-base-XXXXXX";
  REQUIRE(::mkdtemp(name));
  const std::string directory = name;
  FileSystem& files = SystemFiles();
  const std::string path = JoinPath(directory, "a/b/file");
  files.MakeDirectory(DirectoryOf(path));
  ReplaceFile(files, path, "one", true);
  ReplaceFile(files, path, "two", false);
  CHECK(ReadFile(files, path) == "two");
  {
    const auto file = files.OpenForAppend(path);
    CHECK(file->Size() == 3);
    file->Append("three");
    file->Truncate(5);
    file->Append("!");
    file->Close();
  }
  CHECK(ReadFile(files, path) == "twoth!");
  {
    const auto one = files.OpenForAppend(path), other = files.OpenForAppend(path);
    one->Append(" one");
    other->Append(" other");
    one->Append(" one");
  }
  CHECK(ReadFile(files, path) == "twoth! one other one");
  CHECK(files.List(DirectoryOf(path)) == std::vector<std::string>{"file"});
  files.MakeDirectory(JoinPath(directory, "a1/b"));
  files.MakeDirectory(JoinPath(directory, "a2"));
  CHECK(LastWith(files, directory, "b") == JoinPath(directory, "a1"));
  CHECK(LastWith(files, directory, "file") == "");
  CHECK(LastWith(files, JoinPath(directory, "missing"), "b") == "");
  CHECK(LastWith(files, path, "b") == "");
  CHECK(LastWith(files, "", "b") == "");
  for (const char* left : {"a1/b", "a1", "a2"}) files.Remove(JoinPath(directory, left));
  const MappedFile mapped(path);
  CHECK(mapped.bytes() == "twoth! one other one");
  const std::string fifo = JoinPath(directory, "a/b/fifo");
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  const int open_end = ::open(fifo.c_str(), O_RDWR);  // so that opening it does not wait
  CHECK_THROWS_WITH(MappedFile(fifo), "cannot map " + fifo + ": it is no regular file");
  CHECK_THROWS_WITH(MappedFile(directory), "cannot map " + directory + ": it is a directory");
  ::close(open_end);
  files.Remove(fifo);

  const std::string loop = JoinPath(directory, "loop");
  REQUIRE(::symlink("loop", loop.c_str()) == 0);
  CHECK_THROWS_WITH(files.Exists(loop), Catch::StartsWith("cannot look at " + loop));
  CHECK_FALSE(files.Exists(JoinPath(directory, "missing")));
  CHECK_FALSE(files.Exists(JoinPath(path, "below a file")));
  files.Remove(loop);

  const std::string lock_path = JoinPath(directory, "lock");
  auto lock = files.Lock(lock_path, 0);
  REQUIRE(lock);
  CHECK_FALSE(files.Lock(lock_path, 0));
  lock.reset();
  CHECK(files.Lock(lock_path, 0));

  try {
    ReadFile(files, JoinPath(directory, "missing"));
    FAIL("a missing file was read");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kRuntime);
    CHECK(error.message().find("missing: No such file") != std::string::npos);
  }
  files.Remove(lock_path);
  files.Remove(path);
  files.Remove(JoinPath(directory, "a/b"));
  files.Remove(JoinPath(directory, "a"));
  files.Remove(directory);
}
