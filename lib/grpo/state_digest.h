// The digest that names weights, wherever they are recorded: in versions, checkpoints, step records. And that of what the optimiser keeps beside
// them.
#pragma once

#include <cstdint>

#include "grpo/state.h"
#include "kernels/thread_pool.h"
#include "ranks/ranks.h"
#include "weights/model_files.h"

namespace april::grpo {

/// Of the weights that the state publishes.
uint64_t DigestOf(const State& state);
/// What State `like` would have with a model's weights. Throws as ModelFiles::Read.
uint64_t DigestOf(const weights::ModelFiles& files, const State& like);

/// Its key in a step record's metrics, in steps.json and in metrics.
inline constexpr const char* kOptimizerDigest = "optimizer_digest";
/// Of the f32 masters, or an adapter's factors, and of AdamW's moments, as formats/checkpoints.md defines it. All ranks call it; each digests its own
/// parts, and rank 0 alone gets the whole digest. Neither the number of ranks nor that of threads changes it.
uint64_t DigestOfOptimizer(State* state, kernels::ThreadPool& pool, ranks::Ranks& ranks);

}  // namespace april::grpo
