// Activations by element. In forward they are the epilogue of a linear operation.
#pragma once

#include <cstdint>

namespace bertology {

class Stream;

enum class Activation { kNone, kGelu, kGeluNew, kRelu, kTanh, kSilu };

/// gradient[i] *= activation'(preactivation[i])
struct ActivationBackward {
  Activation activation = Activation::kNone;
  int64_t count = 0;
  const float* preactivation = nullptr;  // [count]
  float* gradient = nullptr;             // [count], in place
};

void activation_backward(Stream& stream, const ActivationBackward& op);

}  // namespace bertology
