// The log-sum-exp of one row of logits, and its entropy, through the chunks that the forward pass sums.
#pragma once

#include <vector>

#include "model/forward.h"

namespace april::model {

inline float RowLogSumExp(const kernels::Kernels& kernels, const float* logits, int64_t vocab, double temperature, float* entropy = nullptr) {
  std::vector<kernels::ChunkSums> chunks;
  for (int64_t first = 0; first < vocab; first += kernels::kVocabChunk) {
    chunks.push_back(
        kernels.sum_chunk({logits + first, std::min(kernels::kVocabChunk, vocab - first), SoftmaxScale(temperature), entropy != nullptr}));
  }
  return kernels.join_chunks({chunks.data(), static_cast<int64_t>(chunks.size()), nullptr, nullptr, entropy});
}

}  // namespace april::model
