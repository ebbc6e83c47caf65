// A histogram of response lengths in classes of powers of two.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace april::buffer {

struct LengthCounts {
  /// Class c holds lengths from 2^(c-1) to 2^c − 1; class 0 holds 0.
  std::array<int64_t, 33> classes{};
  int64_t count = 0, tokens = 0, longest = 0;

  size_t ClassOf(int64_t length) const { return std::min<size_t>(std::bit_width(static_cast<uint64_t>(length)), classes.size() - 1); }
  void Add(int64_t length) {
    ++classes[ClassOf(length)];
    ++count;
    tokens += length;
    longest = std::max(longest, length);
  }
  /// Undoes an Add. The longest stays: which was the longest before is not known.
  void Remove(int64_t length) {
    --classes[ClassOf(length)];
    --count;
    tokens -= length;
  }
  double Mean() const { return count == 0 ? 0 : static_cast<double>(tokens) / static_cast<double>(count); }
};

}  // namespace april::buffer
