// Rounding to the types of products, without the kernels that are held against it.
#pragma once

#include <algorithm>
#include <cmath>

#include "base/dtype.h"

namespace bertology::testing {

/// The nearest value that has as many digits as a type, of two equally near the even one.
inline double rounded_digits(double value, DType dtype) {
  if (dtype == BERTOLOGY_FLOAT32 || value == 0) return value;
  int exponent;
  std::frexp(value, &exponent);
  const int last = exponent - (dtype == BERTOLOGY_BFLOAT16 ? 8 : 11);
  return std::ldexp(std::nearbyint(std::ldexp(value, -last)), last);
}

/// The nearest value of a type; far from overflow only, and for bfloat16 far from 0.
inline double rounded(double value, DType dtype) {
  constexpr double kLast = 0x1p-24;  // float16 has no digits below
  if (dtype == BERTOLOGY_FLOAT16 && std::abs(value) < 1024 * kLast)
    return kLast * std::nearbyint(value / kLast);
  return rounded_digits(value, dtype);
}

}  // namespace bertology::testing
