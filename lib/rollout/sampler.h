// Choosing a token: a pure function of logits, sampling parameters and one uniform number. No state, no randomness of its own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "record/rollout.h"

namespace april::rollout {

struct Choice {
  uint32_t token = 0;
  float logprob = 0;          ///< nats, full softmax at the temperature (at temperature 1 when the temperature is 0)
  float sampled_logprob = 0;  ///< nats, of the truncated distribution; equals logprob when nothing truncates
  bool finite = true;         ///< false: the logits hold NaN or infinity, nothing was chosen
};

/// Whether top-k, top-p or min-p can remove anything, that is, whether sampled_logprobs are recorded.
bool Truncates(const record::Sampling& sampling);

/// What logits are multiplied by before the softmax whose log-probabilities are recorded: 1 / temperature, or 1 at temperature 0.
float SamplingScale(const record::Sampling& sampling);

/// Draws by inverting the cumulative distribution over token ids in ascending order, chunk by chunk (kVocabChunk).
///
/// The truncated set is the intersection of three, each defined over the softmax at the temperature, tokens ranked by logit, the lower id first on
/// ties:
///   top-k  the k first ranked tokens;
///   top-p  the shortest ranked prefix whose probability reaches p, renormalised within top-k's set (k is applied first); never empty;
///   min-p  tokens with probability at least min_p times the highest one.
/// temperature 0 takes the first ranked token; the other parameters do not matter then.
///   Thread  one object, one thread (it owns scratch memory).
class Sampler {
 public:
  Sampler(const kernels::Kernels& kernels, int64_t vocab);
  /// `logits` [vocab] f32, `chunks` their sums at SamplingScale(sampling); `unit` in [0, 1): RandomUnit(seed, kSampling, uid, index of the token in
  /// the response).
  Choice Choose(const float* logits, std::span<const kernels::ChunkSums> chunks, const record::Sampling& sampling, double unit);
  /// The same for logits of which no chunks were summed, or at another scale.
  Choice Choose(const float* logits, const record::Sampling& sampling, double unit);

 private:
  uint32_t ChooseFull(const float* logits, double temperature, std::span<const kernels::ChunkSums> chunks, double unit);
  Choice ChooseTruncated(const float* logits, const record::Sampling& sampling, float maximum, float log_sum_exp, double unit);

  const kernels::Kernels& kernels_;
  int64_t vocab_;
  std::vector<kernels::ChunkSums> chunks_;
  std::vector<double> chunk_weights_;
  std::vector<float> weights_;
  std::vector<uint32_t> ranked_;
};

}  // namespace april::rollout
