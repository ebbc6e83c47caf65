#include "stream/value.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <msgpack.hpp>

#include "base/error.h"
#include "base/rng.h"

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
        return static_cast<float>(Below(100'000)) + 0.5f;  // msgpack-cxx packs whole numbers as integers
      case 5:
        return static_cast<double>(Below(uint64_t{1} << 40)) + 0.125;
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

/// The same value through msgpack-cxx's packer.
struct Packer {
  msgpack::packer<msgpack::sbuffer>& pack;
  void operator()(std::monostate) { pack.pack_nil(); }
  void operator()(bool value) { pack.pack(value); }
  void operator()(int64_t value) { pack.pack(value); }
  void operator()(uint64_t value) { pack.pack(value); }
  void operator()(float value) { pack.pack(value); }
  void operator()(double value) { pack.pack_double(value); }
  void operator()(const std::string& value) { pack.pack(value); }
  void operator()(const Bin& value) {
    pack.pack_bin(static_cast<uint32_t>(value.bytes.size()));
    pack.pack_bin_body(value.bytes.data(), static_cast<uint32_t>(value.bytes.size()));
  }
  void operator()(const Array& value) {
    pack.pack_array(static_cast<uint32_t>(value.size()));
    for (const Value& element : value) std::visit(*this, element.held());
  }
  void operator()(const Map& value) {
    pack.pack_map(static_cast<uint32_t>(value.size()));
    for (const auto& [key, element] : value) {
      pack.pack(key);
      std::visit(*this, element.held());
    }
  }
};

}  // namespace

TEST_CASE("Random values round-trip, and their bytes are those of msgpack-cxx") {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const Value value = ValueMaker(seed).Make();
    const std::string bytes = Encode(value);
    REQUIRE(Decode(bytes) == value);
    msgpack::sbuffer buffer;
    msgpack::packer<msgpack::sbuffer> packer(buffer);
    std::visit(Packer{packer}, value.held());
    REQUIRE(bytes == std::string(buffer.data(), buffer.size()));
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
  // Longer forms than needed are read too.
  CHECK(Decode(std::string("\xd3\0\0\0\0\0\0\0\x05", 9)) == Value(5));
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

TEST_CASE("What no april stream contains is refused by name of its offset") {
  CHECK_THROWS_WITH(Decode(std::string("\x92\x01\xc1", 3)), Catch::Contains("0xc1 at offset 2"));
  CHECK_THROWS_AS(Decode(std::string("\xd4\x01\x02", 3)), Error);
  CHECK_THROWS_WITH(Decode(std::string("\x81\x01\x02", 3)), Catch::Contains("not a string"));
}

TEST_CASE("Accessors say what they expected and what they found") {
  CHECK_THROWS_WITH(Value("text").AsInt(), Catch::Contains("expected int, found str"));
  CHECK_THROWS_WITH(Value(-1).AsUint(), Catch::Contains("found -1"));
  CHECK_THROWS_AS(Value(std::numeric_limits<uint64_t>::max()).AsInt(), Error);
  CHECK(Value(3).AsDouble() == 3);
  CHECK_THROWS_WITH(Value().AsMap(), Catch::Contains("found nil"));
}
