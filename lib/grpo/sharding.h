// How the optimiser's state comes into its shards and out of them: rank 0 alone reads and writes files, and never has all of the state at once, but
// for an adapter's, which is its own. All ranks call each function, in the same order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "grpo/state.h"
#include "kernels/kernels.h"
#include "kernels/thread_pool.h"
#include "model/policy.h"
#include "ranks/ranks.h"
#include "weights/model_files.h"

namespace april::grpo {

/// Every rank's part of a tensor of State::OptimizerViews(), from rank 0's `whole`; the others give nullptr.
void Scatter(State* state, size_t view, const float* whole, ranks::Ranks& ranks);
/// Gives rank 0 such a tensor from its beginning to its end, in pieces.
void Collect(const State& state, size_t view, ranks::Ranks& ranks, const std::function<void(const void* data, uint64_t num_bytes)>& append);

/// State::LoadModel over all ranks; rank 0 has the files, the others give nullptr. An adapter's model is loaded by rank 0 alone. Throws as it does.
void LoadModel(const weights::ModelFiles* files, State* state, uint64_t seed, kernels::ThreadPool& pool, ranks::Ranks& ranks);
/// The other ranks' side of CheckpointStore::Read (without an adapter, whose checkpoint rank 0 reads alone) and Write. Counters are not among what is
/// read.
void ReceiveOptimizer(State* state, kernels::ThreadPool& pool, ranks::Ranks& ranks);
void SendOptimizer(const State& state, ranks::Ranks& ranks);

/// A policy for forward passes on every rank, of rank 0's files; the others give nullptr.
std::shared_ptr<const model::Policy> LoadReference(const weights::ModelFiles* files, const model::Config& config, const kernels::Kernels& kernels,
                                                   kernels::ThreadPool& pool, ranks::Ranks& ranks);

}  // namespace april::grpo
