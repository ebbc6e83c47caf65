// Drops groups for good: by hand, by the filter, by staleness. They are kept for a look and counted by reason.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/store.h"

namespace april::buffer {

inline constexpr std::string_view kZeroStd = "zero-std", kStale = "stale";

/// open, ready → dropped. Returns how many were not dropped before. Throws Usage, having changed nothing, for a group that is not there, claimed or
/// trained.
int64_t DropGroups(const State& state, Batch& batch, const std::vector<uint64_t>& group_ids, const std::string& why);

/// Drops the ready groups that the run's filter refuses.
void DropFiltered(const State& state, Batch& batch);
/// Drops the groups whose tokens are too stale for any claim.
void DropExpired(const State& state, Batch& batch);

}  // namespace april::buffer
