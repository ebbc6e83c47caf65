// Row-wise and elementwise kernels: embedding, norms, rotation, activation, conversion.
#pragma once

#include "kernels/cpu/functions.h"

namespace april::kernels {
namespace {

template <class E>
void Embed(const EmbedArgs& a) {
  auto* table = static_cast<const typename E::Type*>(a.table);
  for (int64_t r = 0; r < a.rows; ++r) {
    const typename E::Type* row = table + static_cast<int64_t>(a.tokens[r]) * a.n;
    float* out = a.out + r * a.out_stride;
    ForLanes(a.n, [&](int64_t i, int64_t n) { StoreFloats(out + i, LoadElements<E>(row + i, n), n); });
  }
}

/// 1 / sqrt(mean of squares + eps).
APRIL_INLINE float InverseRms(const float* x, int64_t n, float eps) {
  Vec sum = Zero();
  ForLanes(n, [&](int64_t i, int64_t m) {
    Vec v = LoadFloats(x + i, m);
    sum = Fma(v, v, sum);
  });
  return 1.0f / __builtin_sqrtf(SumLanes(sum) / static_cast<float>(n) + eps);
}

template <class E>
void RmsNorm(const RmsNormArgs& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.x_stride;
    auto* out = static_cast<typename E::Type*>(a.out) + r * a.out_stride;
    const float inverse = InverseRms(x, a.n, a.eps);
    if (a.inv_rms != nullptr) a.inv_rms[r] = inverse;
    ForLanes(a.n,
             [&](int64_t i, int64_t n) { StoreElements<E>(out + i, Mul(Mul(LoadFloats(x + i, n), Set(inverse)), LoadFloats(a.weight + i, n)), n); });
  }
}

template <class E>
void RmsNormBackward(const RmsNormBackwardArgs& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.x_stride;
    const float* dy = a.dy + r * a.dy_stride;
    float* dx = a.dx + r * a.dx_stride;
    const float inverse = a.inv_rms[r];
    Vec sum = Zero();
    ForLanes(a.n, [&](int64_t i, int64_t n) { sum = Fma(Mul(LoadFloats(a.weight + i, n), LoadFloats(dy + i, n)), LoadFloats(x + i, n), sum); });
    const float pull = SumLanes(sum) / static_cast<float>(a.n) * inverse * inverse * inverse;
    float* tile = a.weight_tiles == nullptr ? nullptr : a.weight_tiles + r / kGradientTile * a.n;
    const bool first = r % kGradientTile == 0;
    ForLanes(a.n, [&](int64_t i, int64_t n) {
      Vec xv = LoadFloats(x + i, n), d = LoadFloats(dy + i, n);
      Vec g = Fma(xv, Set(-pull), Mul(Mul(LoadFloats(a.weight + i, n), d), Set(inverse)));
      StoreFloats(dx + i, a.add ? Add(LoadFloats(dx + i, n), g) : g, n);
      if (tile != nullptr) {
        Vec before = first ? Zero() : LoadFloats(tile + i, n);
        StoreFloats(tile + i, Fma(Mul(xv, Set(inverse)), d, before), n);
      }
    });
  }
}

/// One head's values after bias and norm; head_dim of them in `y`. Returns the inverse RMS (1 without norm).
APRIL_INLINE float PrepareHead(const float* x, const float* bias, const float* norm_weight, float eps, int64_t head_dim, float* y) {
  ForLanes(head_dim, [&](int64_t i, int64_t n) {
    Vec v = LoadFloats(x + i, n);
    StoreFloats(y + i, bias == nullptr ? v : Add(v, LoadFloats(bias + i, n)), n);
  });
  if (norm_weight == nullptr) return 1.0f;
  const float inverse = InverseRms(y, head_dim, eps);
  ForLanes(head_dim,
           [&](int64_t i, int64_t n) { StoreFloats(y + i, Mul(Mul(LoadFloats(y + i, n), Set(inverse)), LoadFloats(norm_weight + i, n)), n); });
  return inverse;
}

template <class E>
void Rope(const RopeArgs& a) {
  const int64_t half = a.head_dim / 2;
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* cosines = a.cos_sin + static_cast<int64_t>(a.positions[r]) * a.head_dim;
    const float* sines = cosines + half;
    for (int64_t h = 0; h < a.heads; ++h) {
      float y[kMaxHeadDim];
      PrepareHead(a.x + r * a.x_stride + h * a.head_dim, a.bias == nullptr ? nullptr : a.bias + h * a.head_dim, a.norm_weight, a.eps, a.head_dim, y);
      auto* out = static_cast<typename E::Type*>(a.out) + r * a.out_stride + h * a.head_dim;
      ForLanes(half, [&](int64_t i, int64_t n) {
        Vec c = LoadFloats(cosines + i, n), s = LoadFloats(sines + i, n), lo = LoadFloats(y + i, n), hi = LoadFloats(y + half + i, n);
        StoreElements<E>(out + i, Sub(Mul(lo, c), Mul(hi, s)), n);
        StoreElements<E>(out + half + i, Add(Mul(hi, c), Mul(lo, s)), n);
      });
    }
  }
}

template <class E>
void RopeBackward(const RopeBackwardArgs& a) {
  const int64_t half = a.head_dim / 2;
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* cosines = a.cos_sin + static_cast<int64_t>(a.positions[r]) * a.head_dim;
    const float* sines = cosines + half;
    float* tile = a.norm_weight_tiles == nullptr ? nullptr : a.norm_weight_tiles + r / kGradientTile * a.head_dim;
    if (tile != nullptr && r % kGradientTile == 0) ForLanes(a.head_dim, [&](int64_t i, int64_t n) { StoreFloats(tile + i, Zero(), n); });
    for (int64_t h = 0; h < a.heads; ++h) {
      const float* dy = a.dy + r * a.dy_stride + h * a.head_dim;
      auto* dx = static_cast<typename E::Type*>(a.dx) + r * a.dx_stride + h * a.head_dim;
      float d[kMaxHeadDim];
      ForLanes(half, [&](int64_t i, int64_t n) {
        Vec c = LoadFloats(cosines + i, n), s = LoadFloats(sines + i, n), lo = LoadFloats(dy + i, n), hi = LoadFloats(dy + half + i, n);
        StoreFloats(d + i, Add(Mul(lo, c), Mul(hi, s)), n);
        StoreFloats(d + half + i, Sub(Mul(hi, c), Mul(lo, s)), n);
      });
      if (a.norm_weight != nullptr) {
        float y[kMaxHeadDim];
        PrepareHead(a.x + r * a.x_stride + h * a.head_dim, a.bias == nullptr ? nullptr : a.bias + h * a.head_dim, nullptr, a.eps, a.head_dim, y);
        const float inverse = InverseRms(y, a.head_dim, a.eps);
        Vec sum = Zero();
        ForLanes(a.head_dim,
                 [&](int64_t i, int64_t n) { sum = Fma(Mul(LoadFloats(a.norm_weight + i, n), LoadFloats(d + i, n)), LoadFloats(y + i, n), sum); });
        const float pull = SumLanes(sum) / static_cast<float>(a.head_dim) * inverse * inverse * inverse;
        ForLanes(a.head_dim, [&](int64_t i, int64_t n) {
          Vec yv = LoadFloats(y + i, n), dv = LoadFloats(d + i, n);
          if (tile != nullptr) StoreFloats(tile + i, Fma(Mul(yv, Set(inverse)), dv, LoadFloats(tile + i, n)), n);
          StoreFloats(d + i, Fma(yv, Set(-pull), Mul(Mul(LoadFloats(a.norm_weight + i, n), dv), Set(inverse))), n);
        });
      }
      ForLanes(a.head_dim, [&](int64_t i, int64_t n) { StoreElements<E>(dx + i, LoadFloats(d + i, n), n); });
    }
  }
}

template <class E>
void Silu(const SiluArgs& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* gate = a.gate + r * a.in_stride;
    const float* up = a.up + r * a.in_stride;
    auto* out = static_cast<typename E::Type*>(a.out) + r * a.out_stride;
    ForLanes(a.n, [&](int64_t i, int64_t n) {
      Vec g = LoadFloats(gate + i, n);
      StoreElements<E>(out + i, Mul(Mul(g, Sigmoid(g)), LoadFloats(up + i, n)), n);
    });
  }
}

template <class E>
void SiluBackward(const SiluBackwardArgs& a) {
  using Type = typename E::Type;
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* gate = a.gate + r * a.in_stride;
    const float* up = a.up + r * a.in_stride;
    const float* dy = a.dy + r * a.dy_stride;
    Type* dgate = static_cast<Type*>(a.dgate) + r * a.out_stride;
    Type* dup = static_cast<Type*>(a.dup) + r * a.out_stride;
    // d silu = s + g s (1 - s), with s the sigmoid.
    ForLanes(a.n, [&](int64_t i, int64_t n) {
      Vec g = LoadFloats(gate + i, n), d = LoadFloats(dy + i, n);
      Vec s = Sigmoid(g);
      Vec silu = Mul(g, s);
      Vec slope = Fma(silu, Sub(Set(1.0f), s), s);
      StoreElements<E>(dup + i, Mul(d, silu), n);
      StoreElements<E>(dgate + i, Mul(Mul(d, LoadFloats(up + i, n)), slope), n);
    });
  }
}

template <class E>
void Convert(const ConvertArgs& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.x_stride;
    auto* out = static_cast<typename E::Type*>(a.out) + r * a.out_stride;
    ForLanes(a.n, [&](int64_t i, int64_t n) {
      Vec v = LoadFloats(x + i, n);
      StoreElements<E>(out + i, a.bias == nullptr ? v : Add(v, LoadFloats(a.bias + i, n)), n);
    });
  }
}

template <class E>
void ColumnSum(const ColumnSumArgs& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const auto* dy = static_cast<const typename E::Type*>(a.dy) + r * a.dy_stride;
    float* tile = a.tiles + r / kGradientTile * a.n;
    const bool first = r % kGradientTile == 0;
    ForLanes(a.n, [&](int64_t i, int64_t n) { StoreFloats(tile + i, Add(first ? Zero() : LoadFloats(tile + i, n), LoadElements<E>(dy + i, n)), n); });
  }
}

template <class E>
void ToFloat(const void* elem, float* out, int64_t n) {
  auto* x = static_cast<const typename E::Type*>(elem);
  ForLanes(n, [&](int64_t i, int64_t m) { StoreFloats(out + i, LoadElements<E>(x + i, m), m); });
}

inline void AddRows(const float* x, float* out, int64_t n) {
  ForLanes(n, [&](int64_t i, int64_t m) { StoreFloats(out + i, Add(LoadFloats(out + i, m), LoadFloats(x + i, m)), m); });
}

}  // namespace
}  // namespace april::kernels
