#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/error.h"
#include "random_records.h"
#include "record/io.h"
#include "record/view.h"

using namespace april;
using namespace april::record;
using april::test::RecordMaker;

namespace {

std::vector<Record> RandomRecords(uint64_t seed, size_t count) {
  RecordMaker maker(seed);
  std::vector<Record> records;
  for (size_t i = 0; i < count; ++i) records.push_back(maker.MakeRecord());
  return records;
}

void WriteAll(const std::string& endpoint, const std::vector<Record>& records) {
  RecordWriter writer(endpoint, RecordMaker(1).MakeHeader(), {});
  for (const Record& record : records) writer.Write(record);
  writer.Finish();  // no assertion here: this also runs in threads, and Catch's belong to the main one
}

std::vector<Record> ReadAll(const std::string& endpoint) {
  RecordReader reader(endpoint, {});
  std::vector<Record> records;
  while (auto record = reader.Next()) records.push_back(std::move(*record));
  CHECK(reader.num_records() == records.size());
  return records;
}

}  // namespace

TEST_CASE("Records pass through files and sockets unchanged") {
  const auto records = RandomRecords(5, 300);
  const std::string base = (std::filesystem::temp_directory_path() / ("april-records-" + std::to_string(::getpid()))).string();
  WriteAll(base + ".stream", records);
  CHECK(ReadAll(base + ".stream") == records);
  std::filesystem::remove(base + ".stream");
  std::thread producer([&] { WriteAll("zmq+ipc://" + base + ".socket", records); });
  CHECK(ReadAll("@zmq+ipc://" + base + ".socket") == records);
  producer.join();
}

TEST_CASE("A defective record is named by its place in the stream") {
  const std::string path = (std::filesystem::temp_directory_path() / ("april-defect-" + std::to_string(::getpid()))).string();
  {
    RecordWriter writer(path, Header{}, {});
    writer.Write(Control{"fine", {}, {}});
    writer.WriteEncoded(stream::Encode(stream::Map{{"type", "control"}, {"kind", 5}}));
    writer.Finish();
  }
  CHECK_THROWS_WITH(ReadAll(path), Catch::Contains("record 2 of " + path + ": control: key \"kind\": expected str, found int"));
  std::filesystem::remove(path);
}

// Not a test: makes streams for tests/cli. APRIL_STREAM=ENDPOINT, APRIL_STREAM_RECORDS=N, APRIL_STREAM_PAUSE_MS between records.
TEST_CASE("Write a random stream", "[.stream]") {
  const auto variable = [](const char* name, const char* fallback) { return std::string(std::getenv(name) ? std::getenv(name) : fallback); };
  RecordMaker maker(9);
  Header header = maker.MakeHeader();
  header.minor = 0;
  header.tokenizer.reset();
  stream::WriterOptions options;
  options.peer_timeout_ms = std::stol(variable("APRIL_STREAM_TIMEOUT_MS", "5000"));
  RecordWriter writer(variable("APRIL_STREAM", "-"), header, options);
  const size_t count = std::stoul(variable("APRIL_STREAM_RECORDS", "100"));
  for (size_t i = 0; i < count; ++i) {
    writer.Write(maker.MakeRecord());
    std::this_thread::sleep_for(std::chrono::milliseconds(std::stol(variable("APRIL_STREAM_PAUSE_MS", "0"))));
  }
  if (const char* prompt_id = std::getenv("APRIL_STREAM_PROMPT")) {
    Prompt prompt;
    prompt.prompt_id = prompt_id;
    prompt.prompt_tokens = {1};
    writer.Write(prompt);
  }
  writer.Finish(variable("APRIL_STREAM_STATUS", "ok") == "error" ? stream::EndStatus::kError : stream::EndStatus::kOk);
}
