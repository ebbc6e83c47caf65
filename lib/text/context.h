// How many tokens a model can see at once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace april::text {

/// `path`: a model directory (config.json's max_position_embeddings, or what YaRN extends it to) or a .gguf file (ARCHITECTURE.context_length). nullopt when neither says.
/// Throws Runtime (cannot read), Data (damaged).
std::optional<int64_t> ContextTokens(const std::string& path);

}  // namespace april::text
