// The optimiser's passes over parameters.
#pragma once

#include "kernels/cpu/functions.h"

namespace april::kernels {
namespace {

template <class E>
void AdamW(const AdamWArgs& a) {
  auto* out = static_cast<typename E::Type*>(a.out);
  const Vec scale = Set(a.gradient_scale), beta1 = Set(a.beta1), rest1 = Set(1.0f - a.beta1), beta2 = Set(a.beta2), rest2 = Set(1.0f - a.beta2);
  const Vec keep = Set(1.0f - a.lr * a.weight_decay), step = Set(-a.lr / a.correction1), root = Set(1.0f / __builtin_sqrtf(a.correction2)),
            eps = Set(a.eps);
  ForLanes(a.n, [&](int64_t i, int64_t n) {
    Vec g = Mul(LoadFloats(a.gradient + i, n), scale);
    Vec m = Fma(rest1, g, Mul(beta1, LoadFloats(a.m + i, n)));
    Vec v = Fma(Mul(rest2, g), g, Mul(beta2, LoadFloats(a.v + i, n)));
    Vec denominator = Fma(Sqrt(v), root, eps);
    Vec w = Fma(step, Div(m, denominator), Mul(LoadFloats(a.w + i, n), keep));
    StoreFloats(a.m + i, m, n);
    StoreFloats(a.v + i, v, n);
    StoreFloats(a.w + i, w, n);
    if (out != nullptr) StoreElements<E>(out + i, w, n);
  });
}

inline double SumSquares(const float* x, int64_t n) {
  double lanes[16] = {};
  for (int64_t i = 0; i < n; i += kLanes) {
    float part[16];
    Store(part, LoadFloats(x + i, Minimum(kLanes, n - i)));
    for (int j = 0; j < 16; ++j) lanes[j] += static_cast<double>(part[j]) * static_cast<double>(part[j]);
  }
  for (int width = 8; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) lanes[j] += lanes[j + width];
  }
  return lanes[0];
}

}  // namespace
}  // namespace april::kernels
