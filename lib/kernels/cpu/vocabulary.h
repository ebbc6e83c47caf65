// Kernels over logits: what a log-sum-exp is made of, softmax and its gradient, arg-max.
#pragma once

#include "kernels/cpu/attention.h"

namespace april::kernels {
namespace {

APRIL_INLINE float RowMaximum(const float* x, int64_t n) {
  Vec best = Set(-kInfinity);
  ForLanes(n, [&](int64_t i, int64_t m) {
    best = Max(best, m == kLanes ? Load(x + i) : SelectLess(LaneNumbers(), Set(static_cast<float>(m)), LoadPart(x + i, m), best));
  });
  return MaxLanes(best);
}

inline ChunkSums SumChunk(const SumChunkArgs& a) {
  ChunkSums chunk = {RowMaximum(a.logits, a.n) * a.scale, 0, 0};
  // Where nothing is above minus infinity, nothing is taken away either: minus infinity less itself would be a NaN.
  const Vec scale = Set(a.scale), shift = Set(chunk.maximum == -kInfinity ? 0.0f : chunk.maximum), lane = LaneNumbers();
  Vec sum = Zero(), products = Zero();
  ForLanes(a.n, [&](int64_t i, int64_t n) {
    Vec y = Sub(Mul(LoadFloats(a.logits + i, n), scale), shift);
    Vec e = Exp(y);
    if (n < kLanes) e = SelectLess(lane, Set(static_cast<float>(n)), e, Zero());
    sum = Add(sum, e);
    if (a.with_products) products = Fma(e, SelectLess(Set(-kInfinity), y, y, Zero()), products);
  });
  chunk.sum = SumLanes(sum);
  chunk.products = SumLanes(products);
  return chunk;
}

inline float JoinChunks(const JoinChunksArgs& a) {
  float maximum = -kInfinity;
  for (int64_t i = 0; i < a.num_chunks; ++i) maximum = maximum < a.chunks[i].maximum ? a.chunks[i].maximum : maximum;
  double total = 0, products = 0;
  for (int64_t i = 0; i < a.num_chunks; ++i) {
    const ChunkSums& chunk = a.chunks[i];
    const float below = chunk.maximum - maximum;
    const double factor = static_cast<double>(ExpOne(below)), sum = static_cast<double>(chunk.sum);
    const double weight = sum == 0 ? 0 : sum * factor;
    if (a.weights != nullptr) a.weights[i] = weight;
    total += weight;
    if (weight != 0) products += factor * (static_cast<double>(chunk.products) + sum * static_cast<double>(below));
  }
  if (a.maximum != nullptr) *a.maximum = maximum;
  const double log_total = Log(total);
  if (a.entropy != nullptr) *a.entropy = static_cast<float>(log_total - products / total);
  return static_cast<float>(static_cast<double>(maximum) + log_total);
}

inline void Softmax(const float* logits, int64_t n, float scale, float maximum, float* out) {
  ForLanes(n, [&](int64_t i, int64_t m) { StoreFloats(out + i, Exp(Sub(Mul(LoadFloats(logits + i, m), Set(scale)), Set(maximum))), m); });
}

template <class E>
void SoftmaxGradient(const SoftmaxGradientArgs& a) {
  auto* out = static_cast<typename E::Type*>(a.out);
  const Vec scale = Set(a.scale), lse = Set(a.log_sum_exp), g = Set(-a.logprob_gradient);
  auto gradient = [&](int64_t i, int64_t n) {
    Vec log_p = Sub(Mul(LoadFloats(a.logits + i, n), scale), lse);
    Vec p = Exp(log_p);
    Vec d = Mul(g, p);
    if (a.entropy_gradient != 0.0f) {
      // p log p is zero in the limit, also where log p is minus infinity.
      Vec bounded = SelectLess(Set(-kInfinity), log_p, log_p, Zero());
      d = Sub(d, Mul(Mul(Set(a.entropy_gradient), p), Add(bounded, Set(a.entropy))));
    }
    return d;
  };
  ForLanes(a.vocab, [&](int64_t i, int64_t n) { StoreElements<E>(out + i, Mul(gradient(i, n), scale), n); });
  if (a.token < 0) return;
  const int64_t group = a.token / kLanes * kLanes;
  float d[16];
  Store(d, gradient(group, Minimum(kLanes, a.vocab - group)));
  float token[16] = {(d[a.token - group] + a.logprob_gradient) * a.scale};
  E::StorePart(out + a.token, Load(token), 1);
}

inline int64_t ArgMax(const float* x, int64_t n) {
  const float best = RowMaximum(x, n);
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] == best) return i;
  }
  return 0;
}

}  // namespace
}  // namespace april::kernels
