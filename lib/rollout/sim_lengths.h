// How long simulated responses become. formats/profiles.md, "lengths".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "record/rollout.h"

namespace april::rollout {

struct LengthDistribution {
  enum class Kind { kList, kHistogram, kLognormal, kHeavyTail };
  Kind kind = Kind::kList;
  std::vector<int64_t> tokens{64};  ///< list: equally likely lengths
  std::vector<int64_t> edges;       ///< histogram: counts[i] lie in edges[i] + 1 … edges[i+1]
  std::vector<double> counts;       ///< histogram
  double median = 0, sigma = 0;     ///< lognormal; tokens
  double minimum = 0, alpha = 0;    ///< heavy-tail: Pareto; tokens
  int64_t longest = 0;              ///< longer ones become this; 0 = none do
  double group_share = 0;           ///< of the variance on the normal scale: what the rollouts of a group have in common

  /// The length at standard normal deviate `z`: monotone, at least 1.
  int64_t At(double z) const;
  /// The length of a rollout that nothing cuts: a function of its seed, uid and group.
  int64_t Of(const record::Rollout& rollout) const;
  /// All lengths become so many times as long.
  void Scale(double factor);
  /// Throws Usage naming the key, what it is and what is expected.
  void Check() const;
};

/// Throws Usage.
LengthDistribution LengthsFromJson(const Json& json);
Json ToJson(const LengthDistribution& lengths);

/// "list:64,128", "lognormal:MEDIAN,SIGMA", "heavy-tail:MIN,ALPHA". Throws Usage.
LengthDistribution ParseLengths(const std::string& text);

}  // namespace april::rollout
