// Gives rollouts out and takes leases back.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "buffer/store.h"

namespace april::buffer {

struct LeaseRequest {
  uint64_t lease = 0;
  std::string worker;
  uint64_t request = 1;
  bool hub = false;
  int64_t max_rollouts = 0;
  int64_t max_bytes = std::numeric_limits<int64_t>::max();  ///< about, of their records
  bool beyond_demand = false;                               ///< whatever the run's policies ask for
  TakeOrder order = TakeOrder::kPartialsFirst;
};

/// Groups that are still wanted for the steps that may be claimed now: 0 when what is ready or claimed is enough. `presumed`: as LookAhead has it.
int64_t GroupsWanted(const State& state, const std::set<uint64_t>& presumed = {});
/// Rollouts that the run's in-flight target has room for.
int64_t RolloutsWanted(const State& state);

/// Nothing is left to generate, and fewer groups are ready than a step needs: no claim can come any more.
bool IsExhausted(const State& state);

/// Unfinished rollouts that are not leased, in the order in which they are issued, at most `limit`: their keys.
std::vector<uint64_t> IssueOrder(const State& state, const LeaseRequest& request, size_t limit);

/// Leases rollouts in the order of issue, new groups last, and returns their keys. Drops what has become too stale first.
std::vector<uint64_t> LeaseRollouts(Store& store, Batch& batch, const LeaseRequest& request);

/// The lease's rollouts return to the queue with what was journaled of them; returns how many there were.
int64_t ReleaseLease(const State& state, Batch& batch, uint64_t lease, const std::string& why);
/// The same for every lease set of `worker` but `except`.
int64_t ReleaseWorker(const State& state, Batch& batch, const std::string& worker, uint64_t except, const std::string& why);

}  // namespace april::buffer
