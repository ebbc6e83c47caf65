#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "fixtures.h"
#include "weights/convert.h"

namespace april::weights {
namespace {

/// Nearest bf16 by search over the neighbours, ties to the even one: slow and obvious.
uint16_t NearestBf16(double value) {
  uint16_t best = 0;
  double best_distance = std::numeric_limits<double>::infinity();
  const auto start = static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16);
  for (int step = -1; step <= 1; ++step) {
    const auto candidate = static_cast<uint16_t>(start + step);
    const double distance = std::abs(static_cast<double>(Bf16ToF32(candidate)) - value);
    if (distance < best_distance || (distance == best_distance && candidate % 2 == 0)) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

TEST_CASE("every half widens exactly") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const int exponent = (half >> 10) & 31, fraction = half & 1023;
    const float seen = F16ToF32(half);
    if (exponent == 31) {
      REQUIRE((fraction == 0 ? std::isinf(seen) : std::isnan(seen)));
    } else {
      std::string stored(reinterpret_cast<const char*>(&half), 2);
      REQUIRE(static_cast<double>(seen) == test::Meaning(DType::kF16, stored)[0]);
    }
    REQUIRE(std::signbit(seen) == ((half & 0x8000) != 0));
  }
}

TEST_CASE("rounding to bf16 is to nearest, ties to even") {
  std::mt19937_64 rng(5);
  for (int i = 0; i < 200000; ++i) {
    auto bits = static_cast<uint32_t>(rng());
    if (i % 4 == 0) bits = (bits & 0xffff0000u) | 0x8000u;  // ties
    const auto value = std::bit_cast<float>(bits);
    if (!std::isfinite(value) || std::abs(value) > 3e38f) continue;
    REQUIRE(Bf16ToF32(F32ToBf16(value)) == Bf16ToF32(NearestBf16(value)));
  }
  REQUIRE(F32ToBf16(std::numeric_limits<float>::infinity()) == 0x7f80);
  REQUIRE(F32ToBf16(-std::numeric_limits<float>::infinity()) == 0xff80);
  REQUIRE(F32ToBf16(std::numeric_limits<float>::quiet_NaN()) == 0x7fc0);
  REQUIRE(F32ToBf16(-0.0f) == 0x8000);
  REQUIRE(F32ToBf16(std::numeric_limits<float>::max()) == 0x7f80);
}

TEST_CASE("conversion agrees with a slow reading of the formats") {
  std::mt19937_64 rng(11);
  for (const DType from : {DType::kF32, DType::kF16, DType::kBf16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1}) {
    for (const int64_t elements : {int64_t{32}, int64_t{96}, int64_t{1024}, BlockOf(from).num_elements == 1 ? int64_t{77} : int64_t{64}}) {
      const std::string stored = "x" + test::RandomStored(from, elements, rng);  // "x": the data is not aligned
      const auto expected = test::Meaning(from, stored.substr(1));
      std::vector<float> wide(static_cast<size_t>(elements));
      std::vector<uint16_t> narrow(wide.size());
      Convert(from, stored.data() + 1, elements, DType::kF32, wide.data());
      Convert(from, stored.data() + 1, elements, DType::kBf16, narrow.data());
      INFO(Name(from) << " x " << elements);
      REQUIRE(expected.size() == wide.size());
      for (size_t i = 0; i < wide.size(); ++i) {
        REQUIRE(wide[i] == static_cast<float>(expected[i]));
        REQUIRE(narrow[i] == F32ToBf16(static_cast<float>(expected[i])));
      }
    }
  }
}

TEST_CASE("whole numbers are no weights") {
  int64_t number = 3;
  float out = 0;
  REQUIRE(test::ErrorOf([&] { Convert(DType::kI64, &number, 1, DType::kF32, &out); }).kind() == ErrorKind::kIncompatible);
}

}  // namespace
}  // namespace april::weights
