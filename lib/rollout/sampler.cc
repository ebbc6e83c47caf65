#include "rollout/sampler.h"

#include <algorithm>
#include <cmath>

#include "kernels/contract.h"
#include "model/forward.h"

namespace april::rollout {
namespace {

/// Terms of a chunk (or of a set) in order; the first whose running sum passes `target`. Falls back to the last positive one when rounding leaves a
/// gap.
template <typename TermAt>
int64_t Walk(int64_t count, double target, TermAt term_at) {
  double sum = 0;
  int64_t last_positive = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double term = term_at(i);
    sum += term;
    if (sum > target) return i;
    if (term > 0) last_positive = i;
  }
  return last_positive;
}

}  // namespace

bool Truncates(const record::Sampling& sampling) {
  return sampling.temperature > 0 && (sampling.top_k > 0 || sampling.top_p < 1 || sampling.min_p > 0);
}

float SamplingScale(const record::Sampling& sampling) { return model::SoftmaxScale(sampling.temperature <= 0 ? 1.0 : sampling.temperature); }

Sampler::Sampler(const kernels::Kernels& kernels, int64_t vocab)
    : kernels_(kernels), vocab_(vocab), chunks_(model::NumChunks(vocab)), chunk_weights_(chunks_.size()), weights_(vocab) {}

Choice Sampler::Choose(const float* logits, const record::Sampling& sampling, double unit) {
  model::SumChunks(kernels_, logits, vocab_, SamplingScale(sampling), chunks_.data());
  return Choose(logits, chunks_, sampling, unit);
}

Choice Sampler::Choose(const float* logits, std::span<const kernels::ChunkSums> chunks, const record::Sampling& sampling, double unit) {
  const bool greedy = sampling.temperature <= 0;
  const double temperature = greedy ? 1.0 : sampling.temperature;
  float maximum = 0;
  const float log_sum_exp = model::LogSumExp(kernels_, chunks, &maximum, chunk_weights_.data());
  Choice choice;
  if (!std::isfinite(log_sum_exp)) {
    choice.finite = false;
    return choice;
  }
  if (Truncates(sampling)) return ChooseTruncated(logits, sampling, maximum, log_sum_exp, unit);
  choice.token = greedy ? static_cast<uint32_t>(kernels_.argmax(logits, vocab_)) : ChooseFull(logits, temperature, chunks, unit);
  choice.logprob = choice.sampled_logprob = model::TokenLogprob(logits, choice.token, temperature, log_sum_exp);
  return choice;
}

uint32_t Sampler::ChooseFull(const float* logits, double temperature, std::span<const kernels::ChunkSums> chunks, double unit) {
  double total = 0;
  for (const double weight : chunk_weights_) total += weight;
  const double target = unit * total;
  const int64_t chunk = Walk(static_cast<int64_t>(chunks.size()), target, [&](int64_t i) { return chunk_weights_[i]; });
  double before = 0;
  for (int64_t i = 0; i < chunk; ++i) before += chunk_weights_[i];
  const int64_t begin = chunk * kernels::kVocabChunk;
  const int64_t count = std::min(kernels::kVocabChunk, vocab_ - begin);
  kernels_.softmax(logits + begin, count, model::SoftmaxScale(temperature), chunks[chunk].maximum, weights_.data());
  // What is left of the target, in the chunk's own measure: its terms are taken relative to its own maximum.
  const double rest = (target - before) * (chunks[chunk].sum / chunk_weights_[chunk]);
  return static_cast<uint32_t>(begin + Walk(count, rest, [&](int64_t i) { return weights_[i]; }));
}

Choice Sampler::ChooseTruncated(const float* logits, const record::Sampling& sampling, float maximum, float log_sum_exp, double unit) {
  const float scale = static_cast<float>(1.0 / sampling.temperature);
  kernels_.softmax(logits, vocab_, scale, maximum, weights_.data());
  const auto before = [&](uint32_t a, uint32_t b) { return weights_[a] != weights_[b] ? weights_[a] > weights_[b] : a < b; };
  double total = 0;
  for (const float weight : weights_) total += weight;

  // Candidates: whatever lies above a threshold ranks before everything below it, so a high threshold is enough when it leaves enough.
  const int64_t k = sampling.top_k > 0 ? std::min(sampling.top_k, vocab_) : vocab_;
  for (const float threshold : {1e-3f, 1e-6f, 0.0f}) {
    ranked_.clear();
    double mass = 0;
    float largest = 0;
    for (int64_t i = 0; i < vocab_; ++i) {
      if (weights_[i] < threshold) continue;
      ranked_.push_back(static_cast<uint32_t>(i));
      mass += weights_[i];
      largest = std::max(largest, weights_[i]);
    }
    const bool enough = sampling.top_k > 0   ? static_cast<int64_t>(ranked_.size()) >= k
                        : sampling.top_p < 1 ? mass >= sampling.top_p * total * (1 + 1e-9)
                                             : sampling.min_p * largest >= threshold;
    if (enough) break;
  }
  if (static_cast<int64_t>(ranked_.size()) > k) {
    std::nth_element(ranked_.begin(), ranked_.begin() + k, ranked_.end(), before);
    ranked_.resize(k);
  }
  std::sort(ranked_.begin(), ranked_.end(), before);
  if (sampling.top_p < 1) {
    double set_total = total;
    if (sampling.top_k > 0) {
      set_total = 0;
      for (const uint32_t token : ranked_) set_total += weights_[token];
    }
    double mass = 0;
    size_t keep = 0;
    while (keep < ranked_.size() && (keep == 0 || mass < sampling.top_p * set_total)) mass += weights_[ranked_[keep++]];
    ranked_.resize(keep);
  }
  const double floor = sampling.min_p * weights_[ranked_.front()];
  while (ranked_.size() > 1 && weights_[ranked_.back()] < floor) ranked_.pop_back();

  std::sort(ranked_.begin(), ranked_.end());
  double mass = 0;
  for (const uint32_t token : ranked_) mass += weights_[token];
  const int64_t index = Walk(static_cast<int64_t>(ranked_.size()), unit * mass, [&](int64_t i) { return weights_[ranked_[i]]; });
  Choice choice;
  choice.token = ranked_[index];
  choice.logprob = model::TokenLogprob(logits, choice.token, sampling.temperature, log_sum_exp);
  const double scaled = static_cast<double>(logits[choice.token] * scale) - maximum;
  choice.sampled_logprob = static_cast<float>(std::min(0.0, scaled - std::log(mass)));
  return choice;
}

}  // namespace april::rollout
