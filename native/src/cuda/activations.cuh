// Activations by element, for the kernels that have the value in a register.
#pragma once

#include "ops/activation.h"

namespace bertology::cuda {

constexpr float kSqrtHalf = 0.70710678f;
constexpr float kInverseSqrtTwoPi = 0.39894228f;
// Of the tanh approximation: GELU(x) = x / 2 (1 + tanh(kSqrtTwoOverPi (x + kCubic x^3)))
constexpr float kSqrtTwoOverPi = 0.79788456f;
constexpr float kCubic = 0.044715f;

__device__ inline float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::kGelu:
      return 0.5f * x * (1.0f + erff(x * kSqrtHalf));
    case Activation::kGeluNew:
      return 0.5f * x * (1.0f + tanhf(kSqrtTwoOverPi * (x + kCubic * x * x * x)));
    case Activation::kRelu:
      return x > 0.0f ? x : 0.0f;
    case Activation::kTanh:
      return tanhf(x);
    case Activation::kSilu:
      return x / (1.0f + expf(-x));
    default:
      return x;
  }
}

/// activation'(x)
__device__ inline float activation_slope(Activation activation, float x) {
  switch (activation) {
    case Activation::kGelu:
      return 0.5f * (1.0f + erff(x * kSqrtHalf)) + x * (expf(-0.5f * x * x) * kInverseSqrtTwoPi);
    case Activation::kGeluNew: {
      const float t = tanhf(kSqrtTwoOverPi * (x + kCubic * x * x * x));
      return 0.5f * (1.0f + t) +
             0.5f * x * (1.0f - t * t) * kSqrtTwoOverPi * (1.0f + 3.0f * kCubic * x * x);
    }
    case Activation::kRelu:
      return x > 0.0f ? 1.0f : 0.0f;
    case Activation::kTanh: {
      const float t = tanhf(x);
      return 1.0f - t * t;
    }
    case Activation::kSilu: {
      const float s = 1.0f / (1.0f + expf(-x));
      return s * (1.0f + x * (1.0f - s));
    }
    default:
      return 1.0f;
  }
}

}  // namespace bertology::cuda
