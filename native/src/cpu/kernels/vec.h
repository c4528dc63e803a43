// The widest float vector of the instruction set that this file is compiled for, and arithmetic on
// it.
//
// Everything here and in the other kernel files has internal linkage, and they call no function of
// a shared header: a function compiled for AVX-512 that the linker picks for everybody would crash
// older processors.
#pragma once

#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kWidth = 16;
#elif defined(__AVX2__)
constexpr int64_t kWidth = 8;
#else
constexpr int64_t kWidth = 4;
#endif

typedef float Vec __attribute__((vector_size(kWidth * 4)));
typedef int32_t VecInt __attribute__((vector_size(kWidth * 4)));

inline Vec load(const float* from) {
  Vec v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, Vec v) { __builtin_memcpy(to, &v, sizeof v); }

/// x - 0 is x, which compilers know: no instruction. x + 0 is not, if x is -0.
inline Vec splat(float x) { return x - Vec{}; }

/// The first `count` < kWidth floats, and `fill` behind them.
inline Vec load_some(const float* from, int64_t count, float fill = 0.0f) {
#if defined(__AVX512F__)
  return (Vec)_mm512_mask_loadu_ps((__m512)splat(fill), (__mmask16)((1u << count) - 1), from);
#else
  Vec v = splat(fill);
  for (int64_t i = 0; i < count; ++i) v[i] = from[i];
  return v;
#endif
}

inline void store_some(float* to, Vec v, int64_t count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)v);
#else
  for (int64_t i = 0; i < count; ++i) to[i] = v[i];
#endif
}

inline Vec maximum(Vec a, Vec b) { return a > b ? a : b; }

typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourPicks __attribute__((vector_size(16)));

/// Halves are folded onto each other until four are left: short chains of dependent operations,
/// where a loop over the elements is one of kWidth.
template <class Fold>
inline Four fold_to_four(Vec v, Fold fold) {
  Four parts[kWidth / 4];
  __builtin_memcpy(parts, &v, sizeof v);
  for (int64_t half = kWidth / 8; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) parts[i] = fold(parts[i], parts[i + half]);
  }
  return parts[0];
}

inline float sum(Vec v) {
  Four four = fold_to_four(v, [](Four a, Four b) { return a + b; });
  four += __builtin_shuffle(four, FourPicks{2, 3, 0, 1});
  return four[0] + four[1];
}

inline float maximum(Vec v) {
  const auto larger = [](Four a, Four b) { return a > b ? a : b; };
  Four four = fold_to_four(v, larger);
  four = larger(four, __builtin_shuffle(four, FourPicks{2, 3, 0, 1}));
  return four[0] > four[1] ? four[0] : four[1];
}

inline Vec absolute(Vec v) { return (Vec)((VecInt)v & 0x7fffffff); }

/// |magnitude| with the sign of `sign`.
inline Vec copy_sign(Vec magnitude, Vec sign) {
  return (Vec)(((VecInt)magnitude & 0x7fffffff) | ((VecInt)sign & (int32_t)0x80000000));
}

/// v 2^n for whole n, exactly unless the result is subnormal. n from -252 to 254.
inline Vec times_power_of_two(Vec v, Vec n) {
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_scalef_ps((__mmask16)-1, (__m512)v, (__m512)n);
#else
  // In two factors, so that 2^128 does not overflow before the product does.
  const VecInt exponent = __builtin_convertvector(n, VecInt);
  const VecInt half = exponent >> 1;
  return v * (Vec)((half + 127) << 23) * (Vec)((exponent - half + 127) << 23);
#endif
}

inline int64_t round_up(int64_t count) { return (count + kWidth - 1) / kWidth * kWidth; }

}  // namespace
}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
