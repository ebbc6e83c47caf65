// The sum over ranks, whatever moved the arrays.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

namespace april::ranks {

/// values = arrays[0] + arrays[1] + …, element by element in f32, added from the left. arrays[self] is not looked at: it is what `values` holds.
inline void AddInOrder(size_t self, std::span<const float* const> arrays, std::span<float> values) {
  constexpr size_t kBlock = 1024;
  float own[kBlock];
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    const size_t count = std::min(kBlock, values.size() - begin);
    float* sum = values.data() + begin;
    std::copy_n(sum, count, own);
    for (size_t rank = 0; rank < arrays.size(); ++rank) {
      const float* addend = rank == self ? own : arrays[rank] + begin;
      for (size_t i = 0; i < count; ++i) sum[i] = rank == 0 ? addend[i] : sum[i] + addend[i];
    }
  }
}

}  // namespace april::ranks
