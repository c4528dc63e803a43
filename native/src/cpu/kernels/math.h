// Elementary functions on vectors, to about one unit in the last place. The polynomials are minimax
// fits over the stated ranges; native/tests/math_test.cpp holds them against the C library in
// double.
#pragma once

#include "cpu/kernels/vec.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

/// e^x for x <= 88; 0 below -87.3 (also for -infinity), where the result would be subnormal.
inline Vec bounded_exponential(Vec x) {
  const Vec magic = splat(12582912.0f);  // 1.5 2^23: adding it rounds to an integer in the low bits
  const Vec n = (x * 1.44269504f + magic) - magic;
  // ln 2 in two parts, the first with so few bits that n times it is exact
  const Vec r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  Vec p = splat(0.0013813161f);
  p = p * r + 0.00836941f;
  p = p * r + 0.041668456f;
  p = p * r + 0.16666515f;
  p = p * r + 0.49999994f;
  p = p * (r * r) + r + 1.0f;
  const Vec result = times_power_of_two(p, n);
  return x < -87.3f ? Vec{} : result;
}

/// e^x; 0 below -87.3, infinity above 88.7.
inline Vec exponential(Vec x) {
  return x > 88.72283f ? splat(__builtin_inff()) : bounded_exponential(x);
}

/// t^2 - square, exactly: what rounding took from it.
inline Vec rounding_of_square(Vec t, Vec square) {
#if defined(__FMA__)
  return t * t - square;  // fused
#else
  const Vec high = (Vec)((VecInt)t & ~0xfff);  // its square has no more digits than there are
  const Vec low = t - high;
  return ((high * high - square) + 2.0f * high * low) + low * low;
#endif
}

/// The standard normal distribution at x.
struct Normal {
  Vec cumulative;  // (1 + erf(x / sqrt 2)) / 2; below -1, where it goes to 0, to 1 in 100 000 of
                   // itself
  Vec peak_ratio;  // e^(-x^2 / 2), the density over that at 0
};

inline Normal normal_distribution(Vec x) {
  const Vec distance = absolute(x);
  const Vec t = distance < 14.0f ? distance : splat(14.0f);  // the tail is 0 in float32 from there
  const Vec square = t * t;
  Vec e = bounded_exponential(-0.5f * square);
  e = e - e * (0.5f * rounding_of_square(t, square));
  // With v = 0.325 t / (1 + 0.325 t), the tail beyond t is e (1 / 2 + v p(v)).
  const Vec s = 0.325f * t;
  const Vec v = s / (1.0f + s);
  Vec p = splat(0.024290749803185463f);
  p = p * v - 0.0730333924293518f;
  p = p * v + 0.041351065039634705f;
  p = p * v + 0.03605787828564644f;
  p = p * v + 0.07354249060153961f;
  p = p * v - 0.14634956419467926f;
  p = p * v - 0.3676975965499878f;
  p = p * v + 1.1393630504608154f;
  p = p * v - 1.2275152206420898f;
  const Vec tail = e * (p * v + 0.5f);
  return {x < 0.0f ? tail : 1.0f - tail, e};
}

/// tanh(x)
inline Vec hyperbolic_tangent(Vec x) {
  const Vec t = absolute(x);
  const Vec s = x * x;
  Vec near = splat(-0.0057170456f);  // (tanh(x) / x - 1) / x^2 on |x| <= 0.625
  near = near * s + 0.020650588f;
  near = near * s - 0.053743497f;
  near = near * s + 0.13331491f;
  near = near * s - 0.33333284f;
  near = near * (s * x) + x;
  const Vec far_t = t < 10.0f ? t : splat(10.0f);  // tanh is 1 in float32 from there on
  const Vec far = copy_sign(1.0f - 2.0f / (bounded_exponential(far_t + far_t) + 1.0f), x);
  return t > 0.625f ? far : near;
}

}  // namespace
}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
