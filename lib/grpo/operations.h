// How much arithmetic an update asks for.
#pragma once

#include <span>

#include "grpo/adapter.h"
#include "model/config.h"
#include "model/training.h"

namespace april::grpo {

/// Multiplications and additions of the matrix products of one forward pass over these groups, each prompt computed once.
///   Source  formats/metrics.md, "Operations of matrix products".
double ForwardOperations(const model::Config& config, std::span<const model::TrainingGroup> groups);
/// Of the backward pass: twice the forward pass's, without the gradients that an adapter has no use for.
double BackwardOperations(const model::Config& config, const Adapter& adapter, std::span<const model::TrainingGroup> groups);

}  // namespace april::grpo
