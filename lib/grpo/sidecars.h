// The files that belong beside published weights: configuration and tokenizer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "weights/model_files.h"

namespace april::grpo {

/// Copies these files into `directory`, so that they outlive the checkpoint or model they came from. Returns the copies' paths.
std::vector<std::string> CopySidecars(const std::vector<std::string>& paths, const std::string& directory);
/// Configuration and tokenizer of a model in whatever form; the configuration says bf16, as the published weights are. Those that are made are
/// written into `directory`. Returns their paths.
std::vector<std::string> ModelSidecars(const weights::ModelFiles& model, const std::string& directory);
/// Of the model at a path; nullopt, with a warning, when a model directory has no tokenizer.
std::optional<uint64_t> TokenizerDigest(const std::string& path);

}  // namespace april::grpo
