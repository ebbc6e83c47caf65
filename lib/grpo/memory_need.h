// What training takes, known before a model is read.
#pragma once

#include <cstdint>

#include "grpo/adapter.h"
#include "grpo/method.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "ranks/ranks.h"

namespace april::grpo {

/// About the bytes that one of these ranks touches however small its claims are: its shard's master weights and moments, the bf16 weights, gradients,
/// packed weights, and for f32 kernel sets what these are packed from. What a micro-batch's tokens take comes on top (model::TrainingPass).
uint64_t MemoryNeed(const model::Config& config, const Adapter& adapter, const Method& method, const kernels::Kernels& kernels, int num_ranks);

/// Throws Runtime when that is not there.
void RequireMemoryToTrain(const model::Config& config, const Adapter& adapter, const Method& method, const kernels::Kernels& kernels,
                          const ranks::Ranks& ranks);

}  // namespace april::grpo
