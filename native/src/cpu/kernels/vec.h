// The widest float vector of the instruction set that this file is compiled for, and arithmetic on
// it.
//
// Everything here and in the other kernel files has internal linkage, and they call no function of
// a shared header: a function compiled for AVX-512 that the linker picks for everybody would crash
// older processors.
#pragma once

#include <cstdint>

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

inline Vec splat(float x) { return Vec{} + x; }

/// The first `count` < kWidth floats, and `fill` behind them.
inline Vec load_some(const float* from, int64_t count, float fill = 0.0f) {
  Vec v = splat(fill);
  for (int64_t i = 0; i < count; ++i) v[i] = from[i];
  return v;
}

inline void store_some(float* to, Vec v, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = v[i];
}

inline float sum(Vec v) {
  float total = 0;
  for (int64_t i = 0; i < kWidth; ++i) total += v[i];
  return total;
}

inline Vec maximum(Vec a, Vec b) { return a > b ? a : b; }

inline float maximum(Vec v) {
  float most = v[0];
  for (int64_t i = 1; i < kWidth; ++i) most = v[i] > most ? v[i] : most;
  return most;
}

inline Vec absolute(Vec v) { return (Vec)((VecInt)v & 0x7fffffff); }

/// |magnitude| with the sign of `sign`.
inline Vec copy_sign(Vec magnitude, Vec sign) {
  return (Vec)(((VecInt)magnitude & 0x7fffffff) | ((VecInt)sign & (int32_t)0x80000000));
}

inline int64_t round_up(int64_t count) { return (count + kWidth - 1) / kWidth * kWidth; }

}  // namespace
}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
