#include <algorithm>

#include "model/forward.h"

namespace april::model {

void SumChunks(const kernels::Kernels& kernels, const float* logits, int64_t vocab, float scale, kernels::ChunkSums* chunks) {
  for (int64_t first = 0; first < vocab; first += kernels::kVocabChunk) {
    *chunks++ = kernels.sum_chunk({logits + first, std::min(kernels::kVocabChunk, vocab - first), scale, false});
  }
}

float LogSumExp(const kernels::Kernels& kernels, std::span<const kernels::ChunkSums> chunks, float* maximum, double* weights) {
  return kernels.join_chunks({chunks.data(), static_cast<int64_t>(chunks.size()), maximum, weights, nullptr});
}

float TokenLogprob(const float* logits, uint32_t token, double temperature, float log_sum_exp) {
  return logits[token] * SoftmaxScale(temperature) - log_sum_exp;
}

}  // namespace april::model
