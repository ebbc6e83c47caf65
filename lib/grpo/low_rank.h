// Products of thin factors with the model's matrices: merging them, and the gradients that reach them. In f32, of the f32 kernel set, so that they
// are the same whatever set the network computes with; no result depends on the number of threads. From dY and X the gradients would come without
// dW's memory, but through X A^T rounded to bf16.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/thread_pool.h"

namespace april::grpo {

struct MergeArgs {
  int64_t n, k;
  const uint16_t* base;  ///< bf16 [n, k]
  const float* a;        ///< [rank, k]
  const float* b;        ///< [n, rank]
  uint16_t* merged;      ///< bf16 [n, k]
};

/// merged = round(base + scale * B A); where the product is zero, the base's own bits.
///   Source  Hu et al., arXiv 2106.09685, equation 3.
void Merge(std::span<const MergeArgs> matrices, int64_t rank, float scale, kernels::ThreadPool& pool);

struct FactorGradientArgs {
  int64_t n, k;
  const float* dw;  ///< gradient of the merged matrix [n, k]
  const float* a;
  const float* b;
  float* da;  ///< [rank, k], overwritten
  float* db;  ///< [n, rank], overwritten
};

/// da = scale * B^T dw (in tiles of kGradientTile rows, added in order), db = scale * dw A^T (one chain over k): the chain rule through Merge, whose
/// rounding counts as the identity.
void FactorGradients(std::span<const FactorGradientArgs> matrices, int64_t rank, float scale, kernels::ThreadPool& pool);

}  // namespace april::grpo
