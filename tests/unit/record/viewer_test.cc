#include <stdlib.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "base/error.h"
#include "record/io.h"
#include "record/stream_viewer.h"

using namespace april;
using namespace april::record;

namespace {

std::string PromptBytes(const char* id, double seconds) {
  Prompt prompt;
  prompt.prompt_id = id;
  prompt.prompt_tokens = {1, 2};
  prompt.unknown = {{"x_wall_s", stream::Value(seconds)}};
  return EncodeRecord(prompt);
}

std::vector<std::string> Written(const std::string& path, stream::EndStatus expected) {
  const auto reader = stream::Reader::Open(path, {});
  std::vector<std::string> records;
  while (const auto record = reader->Next()) records.emplace_back(*record);
  CHECK(reader->end_status() == expected);
  return records;
}

}  // namespace

TEST_CASE("a viewer copies a stream with its end, or writes its canonical form") {
  char name[] = "/tmp/april-viewer-XXXXXX";
  REQUIRE(::mkdtemp(name));
  stream::Endpoints io;
  io.out = std::string(name) + "/out.stream";
  const std::string header = EncodeHeader({}), b = PromptBytes("b", 1), a = PromptBytes("a", 2);
  const auto view = [&](const ViewOptions& options, stream::EndStatus status) {
    StreamViewer viewer(options, io, header, {});
    CHECK(viewer.is_copy() == !options.any());
    viewer.Take(b);
    viewer.Take(a);
    viewer.Finish(status);
    CHECK(viewer.open());
    return Written(io.out, status);
  };
  CHECK(view({}, stream::EndStatus::kError) == std::vector<std::string>{b, a});
  ViewOptions canonical;
  canonical.canonical = true;
  CHECK(view(canonical, stream::EndStatus::kStopped) == std::vector<std::string>{Canonical(PromptBytes("a", 3)).bytes, Canonical(b).bytes});
  std::filesystem::remove_all(name);
}

TEST_CASE("views that exclude each other, and text where a stream is wanted, are refused") {
  ViewOptions options;
  stream::Endpoints io;
  options.json = options.count = true;
  CHECK_NOTHROW(options.Check(io));
  options.check = true;
  CHECK_THROWS_AS(options.Check(io), Error);
  options = {};
  options.text = true;
  CHECK_NOTHROW(options.Check(io));
  io.out = "file";
  CHECK_THROWS_AS(options.Check(io), Error);
}

TEST_CASE("ids and digests among a control record's values are shown in hexadecimal, its other numbers are not") {
  Control control;
  control.kind = "take";
  control.values = {{"lease", uint64_t{0xab}}, {"trained_weights", uint64_t{0xcd}}, {"rollouts", uint64_t{12}}};
  const char* const expected = R"({"lease":"00000000000000ab","trained_weights":"00000000000000cd","rollouts":12})";
  CHECK(ToJson(EncodeRecord(control)).at("values").dump() == expected);
  CHECK(OneLine(control) == std::string("control take  ") + expected);
}

TEST_CASE("only an input that its writer ended with an error is one") {
  CHECK_NOTHROW(RequireGoodEnd(stream::EndStatus::kOk));
  CHECK_NOTHROW(RequireGoodEnd(stream::EndStatus::kStopped));
  try {
    RequireGoodEnd(stream::EndStatus::kError);
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kRuntime);
  }
}
