// Element types and their exact conversion to float32.
#pragma once

#include <cstdint>
#include <cstring>

#include "bertology.h"

namespace bertology {

using DType = bertology_dtype;

inline int64_t size_of(int32_t dtype) { return dtype == BERTOLOGY_FLOAT32 ? 4 : 2; }

inline const char* name_of(int32_t dtype) {
  switch (dtype) {
    case BERTOLOGY_FLOAT32:
      return "float32";
    case BERTOLOGY_FLOAT16:
      return "float16";
    case BERTOLOGY_BFLOAT16:
      return "bfloat16";
    default:
      return "unknown dtype";
  }
}

inline float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline float bfloat16_to_float(uint16_t half) {
  return from_bits(static_cast<uint32_t>(half) << 16);
}

inline float float16_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 31) return from_bits(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude =
      static_cast<float>(mantissa) * (1.0f / 16777216.0f);  // subnormal: mantissa 2^-24
  return sign != 0 ? -magnitude : magnitude;
}

}  // namespace bertology
