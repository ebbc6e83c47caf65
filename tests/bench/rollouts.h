// What the buffer's benchmarks put: made-up rollouts.
#pragma once

#include <cstdint>

#include "base/rng.h"
#include "record/records.h"

namespace april::bench {

/// So many more tokens of a vocabulary of 49,152, small ids more often, as in text; log-probabilities in f32 as a sampler records them.
inline void Extend(record::Rollout* rollout, int64_t count) {
  const auto start = static_cast<int64_t>(rollout->tokens.size());
  for (int64_t i = start; i < start + count; ++i) {
    const uint64_t draw = Mix64(rollout->uid + static_cast<uint64_t>(i));
    const double uniform = static_cast<double>(draw >> 11) * 0x1p-53;
    rollout->tokens.push_back(static_cast<uint32_t>(49152 * uniform * uniform * uniform));
    rollout->logprobs.push_back(static_cast<float>(-4 * uniform * uniform - 1e-3));
  }
  rollout->weight_versions.push_back({1, 1, start, start + count, {}});
  record::Segment segment;
  segment.start = start;
  segment.len = count;
  segment.engine = "bench";
  rollout->segments.push_back(segment);
  rollout->born_version = 1;
  rollout->status = record::Status::kPartial;
}

inline void Finish(record::Rollout* rollout, double value) {
  rollout->status = record::Status::kComplete;
  rollout->finish = record::Finish::kStop;
  record::Reward reward;
  reward.value = value;
  reward.status = "ok";
  reward.scorer = "bench";
  rollout->reward = reward;
}

}  // namespace april::bench
