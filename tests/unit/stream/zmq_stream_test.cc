#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <thread>

#include "base/error.h"
#include "base/rng.h"
#include "stream/reader.h"
#include "stream/writer.h"
#include "stream/zmq_messages.h"
#include "stream/zmq_socket.h"
#include "temp_dir.h"

using namespace april;
using namespace april::stream;
using april::test::TempDir;

namespace {

std::string HeaderOf(uint64_t tokenizer = 7) {
  return Encode(Map{{"type", "header"}, {"format", "april-stream"}, {"version", Array{1, 0}}, {"purpose", "train"}, {"tokenizer", tokenizer}});
}

std::string Thing(uint64_t number, size_t size) {
  return Encode(Map{{"type", "thing"}, {"uid", number}, {"data", Bin{std::string(size, static_cast<char>(number))}}});
}

std::vector<std::string> Records(uint64_t first, uint64_t count, size_t max_size) {
  std::vector<std::string> records;
  for (uint64_t i = 0; i < count; ++i) records.push_back(Thing(first + i, RandomBits(3, RandomUse::kTest, first, i) % (max_size + 1)));
  return records;
}

WriterOptions Writing(int64_t peer_timeout_ms = 5000) {
  WriterOptions options;
  options.peer_timeout_ms = peer_timeout_ms;
  return options;
}

ReaderOptions Reading(int64_t peer_timeout_ms = 5000, int64_t sources = 1) {
  ReaderOptions options;
  options.peer_timeout_ms = peer_timeout_ms;
  options.sources = sources;
  return options;
}

void WriteAll(const std::string& endpoint, const std::vector<std::string>& records, const WriterOptions& options, uint64_t tokenizer = 7) {
  auto writer = Writer::Open(endpoint, HeaderOf(tokenizer), options);
  for (const std::string& record : records) writer->Write(record);
  writer->Finish(EndStatus::kOk);
}

std::vector<std::string> ReadAll(Reader& reader) {
  std::vector<std::string> records;
  while (auto record = reader.Next()) records.emplace_back(*record);
  return records;
}

/// The kind of the error that `action` throws, and its message.
template <typename Action>
std::pair<int, std::string> Failure(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return {static_cast<int>(error.kind()), error.message()};
  }
  return {0, "no error"};
}

constexpr int kPeer = static_cast<int>(ErrorKind::kPeer);

}  // namespace

TEST_CASE("A stream passes whole, whoever binds, over ipc and tcp") {
  const TempDir dir;
  const std::string ipc = "zmq+ipc://" + dir.Path("socket");
  const std::string tcp = "zmq+tcp://127.0.0.1:" + std::to_string(20'000 + ::getpid() % 20'000);
  const auto records = Records(0, 300, 20'000);
  for (const auto& [out, in] : {std::pair{ipc, "@" + ipc}, std::pair{"@" + ipc, ipc}, std::pair{tcp, "@" + tcp}, std::pair{"@" + tcp, tcp}}) {
    WriterOptions options = Writing();
    options.mark_bytes = 100'000;
    std::thread producer([&, to = out] { WriteAll(to, records, options); });
    auto reader = Reader::Open(in, Reading());
    CHECK(reader->header() == HeaderOf());
    CHECK(ReadAll(*reader) == records);
    CHECK(reader->end_status() == EndStatus::kOk);
    producer.join();
  }
}

TEST_CASE("Several writers merge into one stream, each in its own order") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("socket");
  std::vector<std::thread> producers;
  for (uint64_t p = 0; p < 3; ++p) {
    producers.emplace_back([&, p] { WriteAll(endpoint, Records(1000 * p, 100, 5000), Writing()); });
  }
  auto reader = Reader::Open("@" + endpoint, Reading(5000, 3));
  const auto read = ReadAll(*reader);
  CHECK(read.size() == 300);
  std::vector<uint64_t> uids[3];
  for (const std::string& record : read) {
    const uint64_t uid = Find(Decode(record).AsMap(), "uid")->AsUint();
    uids[uid / 1000].push_back(uid);
  }
  for (const auto& own : uids) {
    CHECK(own.size() == 100);
    CHECK(std::is_sorted(own.begin(), own.end()));
  }
  for (std::thread& producer : producers) producer.join();
}

TEST_CASE("Writers whose tokenizers differ are not merged", "[slow]") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("socket");
  std::vector<std::thread> producers;
  std::pair<int, std::string> failures[2];
  for (uint64_t p = 0; p < 2; ++p) {
    producers.emplace_back([&, p] { failures[p] = Failure([&] { WriteAll(endpoint, Records(0, 10, 10), Writing(), p); }); });
  }
  const auto failure = Failure([&] { ReadAll(*Reader::Open("@" + endpoint, Reading(5000, 2))); });
  for (std::thread& producer : producers) producer.join();
  CHECK(failure.first == static_cast<int>(ErrorKind::kIncompatible));
  CHECK_THAT(failure.second, Catch::Contains("tokenizer"));
  CHECK((failures[0].first == kPeer || failures[1].first == kPeer));
}

TEST_CASE("A writer more than expected is refused, and the stream goes on") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("socket");
  std::unique_ptr<Writer> first;
  std::thread producer([&] { first = Writer::Open(endpoint, HeaderOf(), Writing()); });
  auto reader = Reader::Open("@" + endpoint, Reading());
  producer.join();
  const auto failure = Failure([&] { WriteAll(endpoint, Records(5, 1, 1), Writing()); });
  CHECK(failure.first == kPeer);
  CHECK_THAT(failure.second, Catch::Contains("sources already"));
  std::thread end([&] {
    first->Write(Thing(1, 1));
    first->Finish(EndStatus::kStopped);
  });
  CHECK(ReadAll(*reader).size() == 1);
  CHECK(reader->end_status() == EndStatus::kStopped);
  end.join();
}

TEST_CASE("Both sides may be slower than the time limit while they are alive", "[slow]") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("socket");
  const auto nap = [] { std::this_thread::sleep_for(std::chrono::milliseconds(900)); };
  std::thread producer([&] {
    auto writer = Writer::Open(endpoint, HeaderOf(), Writing(500));
    writer->Write(Thing(1, 10));
    nap();
    writer->Write(Thing(2, 10));
    writer->Finish(EndStatus::kOk);
  });
  auto reader = Reader::Open("@" + endpoint, Reading(500));
  CHECK(reader->Next().has_value());
  CHECK(reader->Next().has_value());
  nap();  // the writer waits for the acknowledgement
  CHECK(!reader->Next().has_value());
  producer.join();
}

TEST_CASE("A slow reader holds the writer back instead of filling memory") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("socket");
  const std::string record = Thing(1, 1 << 20);
  std::atomic<int> written = 0;
  std::thread producer([&] {
    auto writer = Writer::Open(endpoint, HeaderOf(), Writing());
    for (int i = 0; i < 100; ++i, ++written) writer->Write(record);
    writer->Finish(EndStatus::kOk);
  });
  auto reader = Reader::Open("@" + endpoint, Reading());
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  CHECK(written >= 10);
  CHECK(written <= 30);  // 16 MiB of credit, 8 MiB of outbox, a record more of each
  CHECK(ReadAll(*reader).size() == 100);
  producer.join();
}

TEST_CASE("A killed writer is a lost peer within the time limit; so is a killed reader", "[slow]") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("socket");
  const auto start_child = [](auto action) {
    const pid_t child = ::fork();
    if (child != 0) return child;
    try {
      action();
    } catch (...) {
    }
    ::_exit(0);
  };
  const pid_t writer_child = start_child([&] {
    auto writer = Writer::Open(endpoint, HeaderOf(), Writing());
    writer->Write(Thing(1, 10));
    ::sleep(60);
  });
  {
    auto reader = Reader::Open("@" + endpoint, Reading(600));
    REQUIRE(reader->Next().has_value());
    ::kill(writer_child, SIGKILL);
    const int64_t start = NowMs();
    const auto failure = Failure([&] { reader->Next(); });
    CHECK(failure.first == kPeer);
    CHECK_THAT(failure.second, Catch::Contains("silent"));
    CHECK(NowMs() - start < 3000);
    ::waitpid(writer_child, nullptr, 0);
  }
  const pid_t reader_child = start_child([&] {
    auto reader = Reader::Open("@" + endpoint, Reading());
    reader->Next();
    ::sleep(60);
  });
  auto writer = Writer::Open(endpoint, HeaderOf(), Writing(600));
  writer->Write(Thing(1, 10));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ::kill(reader_child, SIGKILL);
  ::waitpid(reader_child, nullptr, 0);
  const auto failure = Failure([&] { writer->Finish(EndStatus::kOk); });
  CHECK(failure.first == kPeer);
  CHECK_THAT(failure.second, Catch::Contains("silent"));
}

TEST_CASE("Whoever gives up tells the other side at once") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("socket");
  {
    std::thread producer([&] { Writer::Open(endpoint, HeaderOf(), Writing())->Write(Thing(1, 1)); });
    const auto failure = Failure([&] { ReadAll(*Reader::Open("@" + endpoint, Reading(10'000))); });
    CHECK(failure.first == kPeer);
    CHECK_THAT(failure.second, Catch::Contains("gave up"));
    producer.join();
  }
  std::thread consumer([&] { Reader::Open("@" + endpoint, Reading(10'000)); });
  const auto failure = Failure([&] { WriteAll(endpoint, Records(0, 10, 10), Writing(10'000)); });
  CHECK(failure.first == kPeer);
  CHECK_THAT(failure.second, Catch::Contains("ended before"));
  consumer.join();
}

TEST_CASE("Nobody on the other side is a lost peer", "[slow]") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("socket");
  auto failure = Failure([&] { WriteAll(endpoint, {}, Writing(200)); });
  CHECK(failure.first == kPeer);
  CHECK_THAT(failure.second, Catch::Contains("no reader"));
  failure = Failure([&] { Reader::Open(endpoint, Reading(200)); });
  CHECK(failure.first == kPeer);
  CHECK_THAT(failure.second, Catch::Contains("0 of 1 writers"));
}

TEST_CASE("A reader that takes another's place, and a message that went missing, are lost peers") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("socket");
  const auto raw = [&](uint64_t second_seq) {
    std::pair<int, std::string> failure;
    std::thread consumer([&] { failure = Failure([&] { ReadAll(*Reader::Open("@" + endpoint, Reading(3000))); }); });
    ZmqSocket socket(ZmqSocket::Kind::kDealer, Endpoint::Parse(endpoint));
    const auto send = [&](uint64_t seq, const std::string& bytes) {
      while (!socket.Send({EncodeEnvelope({99, seq, false}), bytes})) socket.Wait(true, false, 100);
    };
    if (second_seq > 0) send(0, HeaderOf());
    send(second_seq > 0 ? second_seq : 5, Thing(1, 1));
    consumer.join();
    return failure;
  };
  auto failure = raw(2);
  CHECK(failure.first == kPeer);
  CHECK_THAT(failure.second, Catch::Contains("number 2 came instead of 1"));
  failure = raw(0);
  CHECK(failure.first == kPeer);
  CHECK_THAT(failure.second, Catch::Contains("its beginning went to another reader"));
}

TEST_CASE("A changed byte on the way is damage") {
  const TempDir dir;
  const std::string endpoint = "zmq+ipc://" + dir.Path("socket");
  std::pair<int, std::string> failure;
  std::thread consumer([&] { failure = Failure([&] { ReadAll(*Reader::Open("@" + endpoint, Reading(3000))); }); });
  ZmqSocket socket(ZmqSocket::Kind::kDealer, Endpoint::Parse(endpoint));
  const std::string end = Encode(Map{{"type", "end"}, {"records", 1}, {"digest", 123}, {"status", "ok"}});
  uint64_t seq = 0;
  for (const std::string& bytes : {HeaderOf(), Thing(1, 1), end}) {
    while (!socket.Send({EncodeEnvelope({99, seq, false}), bytes})) socket.Wait(true, false, 100);
    ++seq;
  }
  consumer.join();
  CHECK(failure.first == static_cast<int>(ErrorKind::kData));
  CHECK_THAT(failure.second, Catch::Contains("digest"));
}
