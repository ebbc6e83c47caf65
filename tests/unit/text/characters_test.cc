#include <catch2/catch.hpp>

#include "base/clock.h"
#include "base/error.h"
#include "base/utf8.h"
#include "text/nfc.h"
#include "text/regex.h"
#include "text/tokenizer_spec.h"

using namespace april;
using namespace april::text;

TEST_CASE("composition to normal form C") {
  for (const auto& [text, composed] : std::vector<std::pair<std::string, std::string>>{
           {"plain é", "plain é"},
           {"e\u0301", "\u00E9"},
           {"A\u030A", "\u00C5"},
           {"\u212B", "\u00C5"},  // the Ångström sign is a singleton
           {"a\u0323\u0307", "\u1EA1\u0307"},
           {"a\u0307\u0323", "\u1EA1\u0307"},  // marks are put in order first
           {"\u1100\u1161\u11A8", "\uAC01"},   // Hangul
           {"\uAC00\u11A8", "\uAC01"},
           {"\u0958", "\u0915\u093C"},  // excluded from composition
           {"e\u0315\u0301", "\u00E9\u0315"},
           {"e\u0300\u0301", "\u00E8\u0301"},  // a second mark of the same class is blocked
           {"\u0301e", "\u0301e"},
           {"\U0001D15E", "\U0001D157\U0001D165"},
       }) {
    CHECK(ToNfc(text) == composed);
    CHECK(ToNfc(composed) == composed);
  }
}

TEST_CASE("byte-level characters stand for all bytes") {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.push_back(static_cast<char>(byte));
  CHECK(FromByteLevel(ToByteLevel(bytes)) == bytes);
  CHECK(ToByteLevel(" a\n") == "ĠaĊ");
  CHECK(FromByteLevel("▁a") == std::nullopt);
}

TEST_CASE("expressions know Unicode") {
  std::vector<Regex::Group> groups;
  CHECK(Regex(R"(\p{L}+)").Search("12 жук", 0, &groups) == Regex::Outcome::kMatch);
  CHECK(groups[0].start == 3);
  CHECK(groups[0].end == 9);
  CHECK(Regex(R"(^\s$)").Search("\u3000", 0, &groups) == Regex::Outcome::kMatch);
  CHECK(Regex(R"(\s)").Search("\u180E", 0, &groups) == Regex::Outcome::kNoMatch);
  CHECK(Regex(R"([^\s])").Search("\u00A0", 0, &groups) == Regex::Outcome::kNoMatch);
  CHECK(Regex(R"(\S)").Search("\u0085", 0, &groups) == Regex::Outcome::kNoMatch);
  CHECK(Regex(R"((a)|(b))").Search("b", 0, &groups) == Regex::Outcome::kMatch);
  CHECK_FALSE(groups[1].matched);
  CHECK(groups[2].matched);
  CHECK_THROWS_WITH(Regex("a(b"), Catch::Contains("a(b"));
  CHECK_THROWS_AS(Regex("\xFF"), Error);
}

TEST_CASE("no expression hangs") {
  const std::string text = std::string(5000, 'a') + "!";
  std::vector<Regex::Group> groups;
  for (const char* pattern : {"^(a+)+$", "(a*)*b", "^(a|aa)+$", "(.*)(.*)(.*)(.*)(.*)[^a!]"}) {
    INFO(pattern);
    const int64_t start = SystemClock().MonotonicNs();
    const Regex::Outcome outcome = Regex(pattern, {.timeout_ms = 100}).Search(text, 0, &groups);
    CHECK((outcome == Regex::Outcome::kTimeout || outcome == Regex::Outcome::kLimit || outcome == Regex::Outcome::kNoMatch));
    CHECK(SystemClock().MonotonicNs() - start < 10'000'000'000);
  }
}
