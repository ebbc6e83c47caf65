// Where a resident scheduler gets rollouts from and learns what is wanted: in practice the buffer's hub.
#pragma once

#include <cstdint>
#include <vector>

#include "record/rollout.h"

namespace april::rollout {

/// What the run wants of a generator right now.
enum class Demand {
  kGo,
  kPause,  ///< keep everything as it is, make no token
  kDrain,  ///< give everything back and end
};

struct WorkAnswer {
  std::vector<record::Rollout> rollouts;  ///< new work, at most as many as were wanted
  Demand demand = Demand::kGo;
  uint64_t min_version = 0;    ///< make no token under an older policy
  std::vector<uint64_t> lost;  ///< held uids that belong to someone else by now: forget them
  int64_t poll_ms = 200;       ///< ask again after this long
};

/// Thread  one thread calls.
class WorkSource {
 public:
  virtual ~WorkSource() = default;
  /// `want`: free slots. `held`: uids being worked on, which also renews their leases. Throws Peer when the other side is lost.
  virtual WorkAnswer Ask(int64_t want, const std::vector<uint64_t>& held, uint64_t policy_version) = 0;
};

}  // namespace april::rollout
