#include "grpo/operations.h"

#include <algorithm>

namespace april::grpo {

namespace {

struct Counts {
  double rows = 0;     ///< that go through the network
  double targets = 0;  ///< rows that go through the last matrix
  double pairs = 0;    ///< of a query and a key that it sees
};

Counts Count(std::span<const model::TrainingGroup> groups) {
  Counts counts;
  for (const model::TrainingGroup& group : groups) {
    const auto prompt = static_cast<double>(group.prompt.size());
    counts.rows += prompt;
    counts.pairs += prompt * (prompt + 1) / 2;
    for (const auto& response : group.responses) {
      const double own = std::max(0.0, static_cast<double>(response.size()) - 1);  // nothing needs the last token's row
      counts.rows += own;
      counts.pairs += own * prompt + own * (own + 1) / 2;
      counts.targets += static_cast<double>(response.size());
    }
  }
  return counts;
}

/// Numbers in the matrices of all layers.
double LayerWeights(const model::Config& config) {
  const auto queries = static_cast<double>(config.heads * config.head_dim), keys = static_cast<double>(config.kv_heads * config.head_dim);
  return static_cast<double>(config.layers * config.hidden) * (2 * queries + 2 * keys + 3 * static_cast<double>(config.intermediate));
}

}  // namespace

double ForwardOperations(const model::Config& config, std::span<const model::TrainingGroup> groups) {
  const Counts counts = Count(groups);
  const auto queries = static_cast<double>(config.layers * config.heads * config.head_dim);
  return 2 * counts.rows * LayerWeights(config) + 4 * counts.pairs * queries +
         2 * counts.targets * static_cast<double>(config.hidden) * static_cast<double>(config.vocab);
}

double BackwardOperations(const model::Config& config, const Adapter& adapter, std::span<const model::TrainingGroup> groups) {
  const double both = 2 * ForwardOperations(config, groups);
  if (!adapter.exists()) return both;
  const Counts counts = Count(groups);
  double frozen = LayerWeights(config);
  for (const Adapter::Target& target : adapter.targets) frozen -= static_cast<double>(target.n * target.k);
  return both - 2 * counts.rows * frozen - 2 * counts.targets * static_cast<double>(config.hidden) * static_cast<double>(config.vocab);
}

}  // namespace april::grpo
