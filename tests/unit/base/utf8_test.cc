#include "base/utf8.h"

#include <catch2/catch.hpp>
#include <tuple>
#include <vector>

using namespace april;

TEST_CASE("ill-formed UTF-8 is found and replaced") {
  CHECK_FALSE(FindInvalidUtf8("aé€😀"));
  for (const auto& [bytes, offset, replaced] : std::vector<std::tuple<std::string, size_t, std::string>>{
           {"\x80", 0, "\uFFFD"},
           {"a\xC3", 1, "a\uFFFD"},
           {"\xC0\x80", 0, "\uFFFD\uFFFD"},            // overlong
           {"\xE0\x80\x80", 0, "\uFFFD\uFFFD\uFFFD"},  // overlong
           {"\xED\xA0\x80", 0, "\uFFFD\uFFFD\uFFFD"},  // a surrogate
           {"\xF4\x90\x80\x80", 0, "\uFFFD\uFFFD\uFFFD\uFFFD"},
           {"é\xE2\x82z", 2, "é\uFFFDz"},  // one replacement for the begun character
           {"\xF0\x9F\x98", 0, "\uFFFD"},
       }) {
    CHECK(FindInvalidUtf8(bytes) == offset);
    CHECK(ReplaceInvalidUtf8(bytes) == replaced);
  }
  CHECK(UnfinishedUtf8("a") == 0);
  CHECK(UnfinishedUtf8("a\xF0\x9F\x98") == 3);
  CHECK(UnfinishedUtf8("\xC3") == 1);
  CHECK(UnfinishedUtf8("é") == 0);
  CHECK(UnfinishedUtf8("\xC3\xC3\xC3") == 1);
  CHECK(UnfinishedUtf8("\x80") == 0);
}

TEST_CASE("every character survives UTF-8") {
  for (char32_t c = 0; c <= 0x10FFFF; c += (c > 0x3000 ? 61 : 1)) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    AppendChar(c, &text);
    size_t offset = 0;
    REQUIRE_FALSE(FindInvalidUtf8(text));
    REQUIRE(NextChar(text, &offset) == c);
    REQUIRE(offset == text.size());
  }
}
