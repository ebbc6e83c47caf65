#include "stream/value.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/rng.h"
#include "stream/scanner.h"

using namespace april;
using namespace april::stream;

namespace {

/// Seeded random values of every kind.
class ValueMaker {
 public:
  explicit ValueMaker(uint64_t seed) : seed_(seed) {}
  uint64_t Bits() { return RandomBits(seed_, RandomUse::kTest, 0, index_++); }
  uint64_t Below(uint64_t limit) { return Bits() % limit; }
  std::string Bytes(size_t max) {
    std::string bytes(Below(max + 1), 0);
    for (char& byte : bytes) byte = static_cast<char>(Bits());
    return bytes;
  }
  Value Make(int depth = 0) {
    switch (Below(depth < 5 ? 10 : 8)) {
      case 0:
        return {};
      case 1:
        return Below(2) == 1;
      case 2:
        return -static_cast<int64_t>(Bits() >> (1 + Below(63)));
      case 3:
        return Bits() >> Below(64);
      case 4:
        return static_cast<float>(Below(100'000)) / 2;
      case 5:
        return static_cast<double>(Below(uint64_t{1} << 40)) / 8;
      case 6:
        return Bytes(Below(20) == 0 ? 70'000 : 40);
      case 7:
        return Bin{Bytes(Below(20) == 0 ? 70'000 : 300)};
      case 8:
        return MakeArray(depth);
      default:
        return MakeMap(depth);
    }
  }
  Map MakeMap(int depth = 0) {
    Map map;
    for (uint64_t i = Below(20); i > 0; --i) map.emplace_back(Bytes(40), Make(depth + 1));
    return map;
  }

 private:
  Value MakeArray(int depth) {
    Array array;
    for (uint64_t i = Below(20); i > 0; --i) array.push_back(Make(depth + 1));
    return array;
  }
  uint64_t seed_, index_ = 0;
};

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

/// A value and its shortest form, worked out by hand from the msgpack specification, "Formats".
struct Vector {
  Value value;
  std::string bytes;
};

using Sizes = std::vector<std::pair<int, const char*>>;

std::vector<Vector> SpecVectors() {
  std::vector<Vector> vectors;
  const auto add = [&](Value value, const char* hex, const std::string& payload = "") {
    vectors.push_back({std::move(value), FromHex(hex) + payload});
  };
  add({}, "c0");
  add(false, "c2");
  add(true, "c3");
  add(0, "00");
  add(127, "7f");
  add(128, "cc80");
  add(255, "ccff");
  add(256, "cd0100");
  add(65'535, "cdffff");
  add(65'536, "ce00010000");
  add(uint64_t{4'294'967'295}, "ceffffffff");
  add(uint64_t{1} << 32, "cf0000000100000000");
  add(std::numeric_limits<uint64_t>::max(), "cfffffffffffffffff");
  add(-1, "ff");
  add(-32, "e0");
  add(-33, "d0df");
  add(-128, "d080");
  add(-129, "d1ff7f");
  add(-32'768, "d18000");
  add(-32'769, "d2ffff7fff");
  add(std::numeric_limits<int32_t>::min(), "d280000000");
  add(int64_t{-2'147'483'649}, "d3ffffffff7fffffff");
  add(std::numeric_limits<int64_t>::min(), "d38000000000000000");
  add(1.0f, "ca3f800000");  // whole numbers stay floats
  add(-0.0f, "ca80000000");
  add(-2.5f, "cac0200000");
  add(1.0, "cb3ff0000000000000");
  add(-0.0, "cb8000000000000000");
  add(std::numeric_limits<double>::infinity(), "cb7ff0000000000000");
  add("", "a0");
  add("a", "a161");
  for (const auto& [size, head] : Sizes{{31, "bf"}, {32, "d920"}, {255, "d9ff"}, {256, "da0100"}, {65'535, "daffff"}, {65'536, "db00010000"}}) {
    const std::string text(static_cast<size_t>(size), 'x');
    add(text, head, text);
  }
  for (const auto& [size, head] : Sizes{{0, "c400"}, {1, "c401"}, {255, "c4ff"}, {256, "c50100"}, {65'535, "c5ffff"}, {65'536, "c600010000"}}) {
    const std::string bytes(static_cast<size_t>(size), '\xfe');
    add(Bin{bytes}, head, bytes);
  }
  for (const auto& [size, head] : Sizes{{0, "90"}, {15, "9f"}, {16, "dc0010"}, {65'535, "dcffff"}, {65'536, "dd00010000"}}) {
    add(Array(static_cast<size_t>(size), 7), head, std::string(static_cast<size_t>(size), 7));
  }
  for (const auto& [size, head] : Sizes{{0, "80"}, {15, "8f"}, {16, "de0010"}, {65'535, "deffff"}, {65'536, "df00010000"}}) {
    std::string pairs;
    for (int i = 0; i < size; ++i) pairs += std::string("\xa1k\x07", 3);
    add(Map(static_cast<size_t>(size), {"k", 7}), head, pairs);
  }
  add(Map{{"compact", true}, {"schema", 0}}, "82a7636f6d70616374c3a6736368656d6100");
  add(Array{Map{{"", Array{}}}, Array(1, Array{-1})}, "9281a0909191ff");
  return vectors;
}

}  // namespace

TEST_CASE("Values take the forms of the msgpack specification, at every border between two") {
  for (const auto& [value, bytes] : SpecVectors()) {
    INFO("value of " << bytes.size() << " bytes that begins with byte " << static_cast<int>(static_cast<uint8_t>(bytes[0])));
    CHECK(Encode(value) == bytes);
    CHECK(Decode(bytes) == value);
  }
  CHECK(std::signbit(Decode(Encode(-0.0f)).AsDouble()));
}

TEST_CASE("Random values round-trip") {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const Value value = ValueMaker(seed).Make();
    REQUIRE(Decode(Encode(value)) == value);
  }
}

TEST_CASE("Integers of every form and edge keep their value; floats keep their width") {
  for (int shift = 0; shift < 64; ++shift) {
    for (const int64_t around : {-1, 0, 1}) {
      const uint64_t wide = (uint64_t{1} << shift) + static_cast<uint64_t>(around);
      CHECK(Decode(Encode(wide)).AsUint() == wide);
      const auto narrow = -static_cast<int64_t>(wide >> 1);
      CHECK(Decode(Encode(narrow)).AsInt() == narrow);
    }
  }
  CHECK(Encode(Value(1.5f)).size() == 5);
  CHECK(Encode(Value(1.5)).size() == 9);
  CHECK(Decode(Encode(std::numeric_limits<int64_t>::min())).AsInt() == std::numeric_limits<int64_t>::min());
}

TEST_CASE("Longer forms than needed are read too") {
  for (const char* hex : {"d005", "d10005", "d200000005", "d30000000000000005", "cc05", "cd0005", "ce00000005", "cf0000000000000005"})
    CHECK(Decode(FromHex(hex)) == Value(5));
  for (const char* hex : {"d90161", "da000161", "db0000000161"}) CHECK(Decode(FromHex(hex)) == Value("a"));
  for (const char* hex : {"c5000161", "c60000000161"}) CHECK(Decode(FromHex(hex)) == Value(Bin{"a"}));
  for (const char* hex : {"d900", "da0000", "db00000000"}) CHECK(Decode(FromHex(hex)) == Value(""));
  for (const char* hex : {"dc000105", "dd0000000105"}) CHECK(Decode(FromHex(hex)) == Value(Array{5}));
  for (const char* hex : {"de0001a16105", "df00000001d9016105"}) CHECK(Decode(FromHex(hex)) == Value(Map{{"a", 5}}));
  for (const char* hex : {"de0000", "df00000000"}) CHECK(Decode(FromHex(hex)) == Value(Map{}));
}

TEST_CASE("Every prefix of a value, and every value with a byte more, is refused") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const std::string bytes = Encode(ValueMaker(seed).MakeMap(3));
    const size_t step = bytes.size() / 500 + 1;
    for (size_t size = 0; size < bytes.size(); size += step) REQUIRE_THROWS_AS(Decode(bytes.substr(0, size)), Error);
    REQUIRE_THROWS_AS(Decode(bytes + '\0'), Error);
  }
}

TEST_CASE("Limits hold before anything is allocated") {
  CHECK_THROWS_WITH(Decode(std::string("\xdd\xff\xff\xff\xff", 5)), Catch::Contains("cut off"));
  CHECK_THROWS_WITH(Decode(std::string("\xc6\xff\xff\xff\xff", 5)), Catch::Contains("cut off"));
  CHECK_THROWS_WITH(Decode(std::string("\xdf\xff\xff\xff\xff", 5)), Catch::Contains("cut off"));
  CHECK_NOTHROW(Decode(std::string(15, '\x91') + '\x90'));
  CHECK_THROWS_WITH(Decode(std::string(16, '\x91') + '\x90'), Catch::Contains("deeper than 16"));
  DecodeLimits limits;
  limits.max_values = 10;
  CHECK_THROWS_WITH(Decode(Encode(Array(11)), limits), Catch::Contains("more than 10 values"));
  limits.max_bytes = 5;
  CHECK_THROWS_WITH(Decode(Encode("longer"), limits), Catch::Contains("limit"));
}

TEST_CASE("What no april stream contains is refused, with its offset") {
  CHECK_THROWS_WITH(Decode(FromHex("9201c1")), Catch::Contains("0xc1") && Catch::Contains("at offset 2"));
  for (const char* hex : {"d40102", "d5010203", "d60102030405", "d7010203040506070809", "d80101020304050607080910111213141516", "c7010102",
                          "c800010102", "c9000000010102"})
    CHECK_THROWS_WITH(Decode(FromHex(hex)), Catch::Contains("ext type"));
  for (const char* hex : {"810102", "81c00102", "81c4016102", "819002", "818002", "82a16101c302"})
    CHECK_THROWS_WITH(Decode(FromHex(hex)), Catch::Contains("not a string"));
}

TEST_CASE("A record's end is found however its bytes arrive") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const std::string record = Encode(ValueMaker(seed).MakeMap(3)), next = Encode(Map{{"type", "next"}});
    const std::string bytes = record + next;
    Scanner scanner({});
    uint64_t size = 0;
    std::optional<uint64_t> length;
    while (!length) {
      REQUIRE(size < record.size());
      size = std::min<uint64_t>(size + 1 + RandomBits(seed, RandomUse::kTest, 3, size) % 3000, bytes.size());
      const std::string moved = bytes.substr(0, size);  // at another place each time
      length = scanner.Scan(moved);
    }
    REQUIRE(*length == record.size());
    REQUIRE(scanner.Scan(next) == next.size());
  }
}

TEST_CASE("What is no record, or breaks a limit, is known before it is whole") {
  const auto scan = [](const std::string& bytes, DecodeLimits limits = {}) { return Scanner(limits).Scan(bytes); };
  CHECK(!scan(""));
  CHECK(!scan(FromHex("df")));
  CHECK_THROWS_WITH(scan(FromHex("93")), Catch::Contains("no msgpack map"));
  CHECK_THROWS_WITH(scan(FromHex("05")), Catch::Contains("no msgpack map"));
  CHECK_THROWS_WITH(scan(FromHex("df7fffffff")), Catch::Contains("values in one record"));
  CHECK_THROWS_WITH(scan(FromHex("81a161") + std::string(16, '\x91')), Catch::Contains("deeper than 16"));
  CHECK_THROWS_WITH(scan(FromHex("810102")), Catch::Contains("not a string"));
  CHECK_THROWS_WITH(scan(FromHex("81a161c1")), Catch::Contains("0xc1"));
  DecodeLimits small;
  small.max_bytes = 10;
  CHECK(!scan(FromHex("81a161c6000000ff") + "12", small));
  CHECK_THROWS_WITH(scan(FromHex("81a161c6000000ff") + "123", small), Catch::Contains("larger than the limit"));
  // A long value is known by its length once nothing shorter could be unfinished.
  const std::string much(1 << 16, 'x');
  for (const char* head : {"81a161c603fffff9", "81a161db7fffffff"}) CHECK_THROWS_WITH(scan(FromHex(head) + much), Catch::Contains("larger than"));
  for (const char* head : {"81a161c603fffff8", "81a161db00010001"}) CHECK(!scan(FromHex(head) + much));
  CHECK(!scan(FromHex("81a161c5ffff") + much.substr(2)));
}

TEST_CASE("The type of a record is read without the rest") {
  CHECK(TypeOf(Encode(Map{{"type", "mark"}, {"records", 3}})) == "mark");
  CHECK(TypeOf(Encode(Map{{"type", ""}})) == "");
  CHECK_THROWS_WITH(TypeOf(Encode(Map{{"uid", 3}, {"type", "rollout"}})), Catch::Contains("first key"));
  CHECK_THROWS_WITH(TypeOf(Encode(Map{{"uid", "x"}, {"type", "rollout"}})), Catch::Contains("\"uid\""));
  for (const Value& record :
       {Value(Map{}), Value(Map{{"type", 1}, {"type", "x"}}), Value(Map{{"type", Array{"x"}}}), Value(Map{{"type", Map{{"a", "b"}}}})})
    CHECK_THROWS_WITH(TypeOf(Encode(record)), Catch::Contains("\"type\" with a string"));
  for (const Value& other : {Value("type"), Value(3), Value(Array{"type", "x"})})
    CHECK_THROWS_WITH(TypeOf(Encode(other)), Catch::Contains("no msgpack map"));
  CHECK_THROWS_AS(TypeOf(FromHex("810102")), Error);
  CHECK_THROWS_AS(TypeOf(FromHex("82a474797065")), Error);
}

TEST_CASE("Accessors say what they expected and what they found") {
  CHECK_THROWS_WITH(Value("text").AsInt(), Catch::Contains("expected int, found str"));
  CHECK_THROWS_WITH(Value(-1).AsUint(), Catch::Contains("found -1"));
  CHECK_THROWS_AS(Value(std::numeric_limits<uint64_t>::max()).AsInt(), Error);
  CHECK(Value(3).AsDouble() == 3);
  CHECK_THROWS_WITH(Value().AsMap(), Catch::Contains("found nil"));
}
