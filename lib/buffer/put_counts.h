// How records that were put fared.
#pragma once

#include <cstdint>
#include <string>

namespace april::buffer {

/// The four counts add up to the rollout and progress records that were put; other types are ignored.
struct PutCounts {
  int64_t accepted = 0;
  int64_t repeated = 0;    ///< identical to what is there
  int64_t superseded = 0;  ///< of a lease that is no longer current
  int64_t rejected = 0;    ///< defective: see `first_reject`
  std::string first_reject;

  int64_t Total() const { return accepted + repeated + superseded + rejected; }
  PutCounts& operator+=(const PutCounts& other) {
    if (rejected == 0) first_reject = other.first_reject;
    accepted += other.accepted;
    repeated += other.repeated;
    superseded += other.superseded;
    rejected += other.rejected;
    return *this;
  }
};

}  // namespace april::buffer
