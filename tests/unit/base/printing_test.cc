#include "base/printing.h"

#include <catch2/catch.hpp>

using namespace april;

TEST_CASE("what could move a terminal's cursor is replaced, and all other text stays") {
  CHECK(Printable("\x1b[2Ja\tb\nc\rd\x7f\b") == "\uFFFD[2Ja\tb\nc\uFFFDd\uFFFD\uFFFD");
  CHECK(Printable("caf\u00e9 \u00a0 \u4e2d \U0001F600") == "caf\u00e9 \u00a0 \u4e2d \U0001F600");
  CHECK(Printable("a\xc2\x9b"
                  "31m\xc2\x80") == "a\uFFFD31m\uFFFD");  // CSI as one character
  CHECK(Printable(std::string_view("\0", 1)) == "\uFFFD");
  CHECK(Printable("\xc2") == "\xc2");
}
