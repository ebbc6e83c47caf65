// Exact quantiles of a step's numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

namespace april::grpo {

/// The smallest of `values` that at least `share` of them do not exceed (nearest rank), in linear time; reorders them. At least one value, no NaN;
/// share 0 is the smallest, 1 the largest.
inline double Quantile(std::span<double> values, double share) {
  const auto rank = static_cast<std::ptrdiff_t>(std::ceil(share * static_cast<double>(values.size()))) - 1;
  const auto nth = values.begin() + std::clamp<std::ptrdiff_t>(rank, 0, static_cast<std::ptrdiff_t>(values.size()) - 1);
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

}  // namespace april::grpo
