// How checkpoints are called, in their directory and in records: formats/checkpoints.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace april::record {

/// "step-00000008"
std::string CheckpointName(int64_t step);
/// The step of a checkpoint's name; nullopt for what else lies beside them, such as a copy that somebody keeps.
std::optional<int64_t> StepOfCheckpoint(std::string_view name);

}  // namespace april::record
