// Elementary functions on vectors, to about one unit in the last place. The polynomials are minimax
// fits over the stated ranges; native/tests/math_test.cpp holds them against the C library in
// double.
#pragma once

#include "cpu/kernels/vec.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

/// e^x; 0 below -87.3 (also for -infinity), where the result would be subnormal; infinity
/// above 88.7.
inline Vec exponential(Vec x) {
  const Vec magic = splat(12582912.0f);  // 1.5 2^23: adding it rounds to an integer in the low bits
  const Vec shifted = x * 1.44269504f + magic;
  const Vec n = shifted - magic;
  // ln 2 in two parts, the first with so few bits that n times it is exact
  const Vec r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  Vec p = splat(0.0013813161f);
  p = p * r + 0.00836941f;
  p = p * r + 0.041668456f;
  p = p * r + 0.16666515f;
  p = p * r + 0.49999994f;
  p = p * (r * r) + r + 1.0f;
  // 2^n in two factors, so that 2^128 does not overflow before the product does
  const VecInt exponent = (VecInt)shifted - (VecInt)magic;
  const VecInt half = exponent >> 1;
  const Vec scale = (Vec)((half + 127) << 23);
  const Vec rest = (Vec)((exponent - half + 127) << 23);
  Vec result = p * scale * rest;
  result = x < -87.3f ? Vec{} : result;
  return x > 88.72283f ? splat(__builtin_inff()) : result;
}

/// erf(x)
inline Vec error_function(Vec x) {
  const Vec t = absolute(x);
  const Vec s = x * x;
  Vec near = splat(7.8538964e-05f);  // erf(x) / x - 1 on |x| <= 1
  near = near * s - 0.00080102053f;
  near = near * s + 0.005188329f;
  near = near * s - 0.026853813f;
  near = near * s + 0.112835854f;
  near = near * s - 0.37612626f;
  near = near * s + 0.12837917f;
  near = near * x + x;
  const Vec far_t = t < 4.0f ? t : splat(4.0f);  // erf is 1 in float32 from there on
  Vec far = splat(-0.00018637926f);              // -ln(1 - erf(t)) on 1 <= t <= 4
  far = far * far_t + 0.002947659f;
  far = far * far_t - 0.021838067f;
  far = far * far_t + 0.10310676f;
  far = far * far_t + 0.63814485f;
  far = far * far_t + 1.1270891f;
  far = far * far_t + 0.0003415223f;
  far = copy_sign(1.0f - exponential(-far), x);
  return t > 1.0f ? far : near;
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
  const Vec far = copy_sign(1.0f - 2.0f / (exponential(far_t + far_t) + 1.0f), x);
  return t > 0.625f ? far : near;
}

}  // namespace
}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
