#include "grpo/operations.h"

#include <algorithm>

namespace april::grpo {

double ForwardOperations(const model::Config& config, std::span<const model::TrainingGroup> groups) {
  const auto queries = static_cast<double>(config.heads * config.head_dim), keys = static_cast<double>(config.kv_heads * config.head_dim);
  const auto hidden = static_cast<double>(config.hidden);
  const double layer_weights = hidden * (2 * queries + 2 * keys + 3 * static_cast<double>(config.intermediate));
  double rows = 0, targets = 0, pairs = 0;
  for (const model::TrainingGroup& group : groups) {
    const auto prompt = static_cast<double>(group.prompt.size());
    rows += prompt;
    pairs += prompt * (prompt + 1) / 2;
    for (const auto& response : group.responses) {
      const double own = std::max(0.0, static_cast<double>(response.size()) - 1);  // nothing needs the last token's row
      rows += own;
      pairs += own * prompt + own * (own + 1) / 2;
      targets += static_cast<double>(response.size());
    }
  }
  const auto layers = static_cast<double>(config.layers);
  return layers * (2 * rows * layer_weights + 4 * pairs * queries) + 2 * targets * hidden * static_cast<double>(config.vocab);
}

}  // namespace april::grpo
