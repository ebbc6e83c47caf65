// The digest that names weights, wherever they are recorded: in versions, checkpoints, step records.
#pragma once

#include <cstdint>

#include "grpo/state.h"
#include "weights/model_files.h"

namespace april::grpo {

/// Of the weights that the state publishes.
uint64_t DigestOf(const State& state);
/// What State `like` would have with a model's weights. Throws as ModelFiles::Read.
uint64_t DigestOf(const weights::ModelFiles& files, const State& like);

}  // namespace april::grpo
