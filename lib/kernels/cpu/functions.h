// Elementary functions over sixteen lanes, made of exactly rounded operations in a fixed order, so that every kernel set computes the same bits.
#pragma once

#include "kernels/cpu/elements.h"

namespace april::kernels {
namespace {

constexpr float kInfinity = __builtin_inff();

/// exp(x), within 2 units in the last place; 0 below -87 (where results would turn denormal) and infinite above 88.37; a NaN stays one.
///   Source  x = n ln 2 + r with |r| <= ln 2 / 2, exp(r) = 1 + r + r^2 q(r); q has degree 4 and is the minimax of the relative error, found with the
///   Remez exchange (error 3.1e-9). n is rounded by adding 1.5 * 2^23, whose low bits then hold it.
APRIL_INLINE Vec Exp(Vec x) {
  const Vec magic = Set(12582912.0f);
  Vec t = Fma(x, Set(1.44269504088896341f), magic);
  Vec n = Sub(t, magic);
  Vec r = Fma(n, Set(-0.693147182464599609375f), x);
  r = Fma(n, Set(1.904654299957768e-9f), r);
  Vec q = Set(0.00138145986467f);
  q = Fma(q, r, Set(0.00836871687973f));
  q = Fma(q, r, Set(0.0416683880453f));
  q = Fma(q, r, Set(0.166665206317f));
  q = Fma(q, r, Set(0.499999934478f));
  Vec p = Add(Fma(Mul(r, r), q, r), Set(1.0f));
  Vec power = AsVec(AddBits(ShiftLeft<23>(AsBits(t)), SetBits(0x3f800000U)));
  Vec y = Mul(p, power);
  y = SelectLess(x, Set(-87.0f), Zero(), y);
  return SelectLess(Set(88.37f), x, Set(kInfinity), y);
}

APRIL_INLINE float ExpOne(float x) {
  float out[16];
  Store(out, Exp(Set(x)));
  return out[0];
}

/// The natural logarithm of a positive finite number, within 2 units in the last place of a double.
///   Source  x = m 2^e with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1)) by its power series.
APRIL_INLINE double Log(double x) {
  if (!(x > 0) || x == __builtin_inf()) return x == 0 ? -__builtin_inf() : (x > 0 ? x : __builtin_nan(""));
  uint64_t bits = __builtin_bit_cast(uint64_t, x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  double m = __builtin_bit_cast(double, (bits & 0x000fffffffffffffULL) | 0x3ff0000000000000ULL);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  double s = (m - 1) / (m + 1);
  double z = s * s;
  double sum = 0;
  for (int k = 21; k >= 1; k -= 2) sum = sum * z + 1.0 / k;
  return static_cast<double>(exponent) * 0.69314718055994530942 + 2 * s * sum;
}

/// 1 / (1 + exp(-x)).
APRIL_INLINE Vec Sigmoid(Vec x) { return Div(Set(1.0f), Add(Set(1.0f), Exp(Sub(Zero(), x)))); }

}  // namespace
}  // namespace april::kernels
