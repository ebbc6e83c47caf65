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

/// Compares the state behind a recomputed claim, whose digest is `weights`, with every record of that step: the digest in the claim, the published
/// version, the checkpoint that was written behind it, optimiser state included. Reads only. Returns what was compared ("the buffer,
/// run/weights/v00000008"); nullopt when nothing tells what the step became.
///   Throws Data naming the first tensor that differs, the elements seen and recorded.
std::optional<std::string> CompareWithRecords(const Claim& claim, const State& state, uint64_t weights, weights::VersionStore& versions,
                                              CheckpointStore& checkpoints);

}  // namespace april::grpo
