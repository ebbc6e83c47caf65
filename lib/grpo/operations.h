// How much arithmetic an update asks for.
#pragma once

#include <span>

#include "model/config.h"
#include "model/training.h"

namespace april::grpo {

/// Multiplications and additions of the matrix products of one forward pass over these groups, each prompt computed once. Backward asks for twice as
/// many.   Source  formats/metrics.md, "Operations of matrix products".
double ForwardOperations(const model::Config& config, std::span<const model::TrainingGroup> groups);

}  // namespace april::grpo
