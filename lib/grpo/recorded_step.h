// A step that was computed again, against what is recorded of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "grpo/checkpoint.h"
#include "grpo/claim.h"
#include "grpo/state.h"
#include "weights/version_store.h"

namespace april::grpo {

/// Compares the state behind a recomputed claim, whose digests are `weights` and `optimizer`, with every record of that step: the digest in the
/// claim, the published version, the checkpoint that was written behind it, and of the optimiser's state what a later one says. Reads only. Returns
/// what was compared ("the buffer, run/weights/v00000008"), and what could not be; nullopt when nothing tells what the step became.
///   Throws Data naming, where it can be told, the first tensor that differs, the elements seen and recorded.
std::optional<std::string> CompareWithRecords(const Claim& claim, const State& state, uint64_t weights, uint64_t optimizer,
                                              weights::VersionStore& versions, CheckpointStore& checkpoints);

}  // namespace april::grpo
