// The one forward: prefill, decode, scoring and training run the same code over rows, so the same tokens give the same bits whatever else is in the
// batch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/contract.h"
#include "model/kv_cache.h"
#include "model/policy.h"

namespace april::model {

/// One token of one sequence. Rows of the same sequence stand together in ascending position order and see each other and everything stored before.
struct Row {
  uint32_t token = 0;
  int32_t position = 0;  ///< absolute; the sequence must have room for it (KvCache::Reserve)
  Sequence* sequence = nullptr;
  bool logits = false;  ///< whether this row's logits are wanted
  float scale = 1;      ///< 1 / temperature of their softmax
};

/// Scratch memory and threads of a forward pass; no allocation after the largest batch was seen.
class Forward {
 public:
  Forward(const Config& config, const kernels::Kernels& kernels, kernels::ThreadPool& pool);
  ~Forward();
  Forward(const Forward&) = delete;
  Forward& operator=(const Forward&) = delete;

  /// Runs all rows, stores their keys and values, advances each sequence's length, and writes f32 logits [num rows with logits, vocab], in row order,
  /// and, unless null, of each chunk of them what its softmax needs, [num rows with logits, NumChunks(vocab)], while they lie in the cache. Throws
  /// Incompatible (a token beyond the vocabulary) and Runtime (no room reserved) before anything is computed of the rows' chunk.
  void Run(const Policy& policy, KvCache& cache, std::span<const Row> rows, float* logits, kernels::ChunkSums* chunks = nullptr);

  /// Where a row's numbers stop being finite: the layer behind which they first are not, -1 for its embedding, the number of layers when it is only
  /// the logits. The row was run before; it is computed once more, with the keys and values that are stored.
  int64_t FirstNotFinite(const Policy& policy, KvCache& cache, const Row& row);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// What a temperature multiplies logits by.
inline float SoftmaxScale(double temperature) { return static_cast<float>(1 / temperature); }

/// How many parts of `size` hold `count`.
inline int64_t DivideUp(int64_t count, int64_t size) { return (count + size - 1) / size; }

/// Chunks of kVocabChunk logits in a row of them.
inline int64_t NumChunks(int64_t vocab) { return DivideUp(vocab, kernels::kVocabChunk); }

/// Sums of every chunk of logits[0..vocab) * scale, into chunks[NumChunks(vocab)]: what Forward::Run gives for its rows, for logits that lie there.
///   Thread  inside ThreadPool::Run, or under kernels::FlushDenormals.
void SumChunks(const kernels::Kernels& kernels, const float* logits, int64_t vocab, float scale, kernels::ChunkSums* chunks);

/// Log-sum-exp of a row of logits times the scale that its chunks were summed with, in ascending order of chunks: with SumChunks, or Forward::Run,
/// the one routine behind every log-probability.
///   Units nats.   Source  log softmax; chunks: lib/kernels/contract.h.
/// `maximum`, when given, receives the largest scaled logit, and `weights` each chunk's sum of exp(x - maximum) (one value a chunk), from which the
/// sampler draws. The result is finite exactly when every logit is a number below infinity: a NaN or infinity anywhere shows in it, so that the
/// caller can fail that one sequence.   Thread  as above.
float LogSumExp(const kernels::Kernels& kernels, std::span<const kernels::ChunkSums> chunks, float* maximum = nullptr, double* weights = nullptr);

/// log softmax(logits / temperature)[token], from LogSumExp's result, by the same operations everywhere.
float TokenLogprob(const float* logits, uint32_t token, double temperature, float log_sum_exp);

}  // namespace april::model
