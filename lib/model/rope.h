// Rotation angles of rotary position embedding.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace april::model {

/// Rotation per position of each of the head_dim / 2 pairs, in radians.
///   Source  RoFormer (arXiv 2104.09864) equation 15; scaled ones see RopeScaling.
std::vector<double> RopeFrequencies(const Config& config);

/// cos and sin of every (position, pair), f32, computed once a position. A row holds head_dim / 2 cosines, then as many sines.
class RopeTable {
 public:
  explicit RopeTable(const Config& config);
  /// Makes rows up to `positions` (not included) available.
  void Extend(int64_t positions);
  const float* Row(int64_t position) const { return table_.data() + static_cast<size_t>(position) * row_size_; }

 private:
  std::vector<double> frequencies_;
  double factor_;
  size_t row_size_;
  std::vector<float> table_;
};

}  // namespace april::model
