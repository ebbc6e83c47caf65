// The one forward: prefill, decode, scoring and training run the same code over rows, so the same tokens give the same bits whatever else is in the
// batch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/kv_cache.h"
#include "model/policy.h"

namespace april::model {

/// One token of one sequence. Rows of the same sequence stand together in ascending position order and see each other and everything stored before.
struct Row {
  uint32_t token = 0;
  int32_t position = 0;  ///< absolute; the sequence must have room for it (KvCache::Reserve)
  Sequence* sequence = nullptr;
  bool logits = false;  ///< whether this row's logits are wanted
};

/// Scratch memory and threads of a forward pass; no allocation after the largest batch was seen.
class Forward {
 public:
  Forward(const Config& config, const kernels::Kernels& kernels, kernels::ThreadPool& pool);
  ~Forward();
  Forward(const Forward&) = delete;
  Forward& operator=(const Forward&) = delete;

  /// Runs all rows, stores their keys and values, advances each sequence's length, and writes f32 logits [num rows with logits, vocab], in row order.
  /// Throws Incompatible (a token beyond the vocabulary) and Runtime (no room reserved) before anything is computed of the rows' chunk.
  void Run(const Policy& policy, KvCache& cache, std::span<const Row> rows, float* logits);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Log-sum-exp of logits[0..vocab) * (1 / temperature), over chunks of kVocabChunk in ascending order: the one routine behind every log-probability.
///   Units nats.   Source  log softmax; chunks: lib/kernels/contract.h.
/// `chunk_sums`, when given, receives each chunk's sum of exp(x - max of all) (one value a chunk), from which the sampler draws without another pass;
/// `entropy`, when given, that of the softmax, in nats. The result is finite exactly when every logit is a number below infinity: a NaN or infinity
/// anywhere shows in it, so that the caller can fail that one sequence.   Thread  inside ThreadPool::Run, or under kernels::FlushDenormals.
float LogSumExp(const kernels::Kernels& kernels, const float* logits, int64_t vocab, double temperature, float* maximum, float* chunk_sums,
                float* entropy = nullptr);

/// log softmax(logits / temperature)[token], from LogSumExp's result, by the same operations everywhere.
float TokenLogprob(const float* logits, uint32_t token, double temperature, float log_sum_exp);

}  // namespace april::model
