// Residual sum and layer normalisation. The variance takes a second pass over the row: E[x^2] -
// E[x]^2 cancels.
#pragma once

#include <cstdint>

namespace bertology {

class Stream;

/// output = (z - mean) / sqrt(variance + eps) * gamma + beta with z = input + residual, by row
struct LayerNormForward {
  int64_t rows = 0;
  int64_t width = 0;
  const float* input = nullptr;     // [rows, width]
  const float* residual = nullptr;  // [rows, width], null for none
  const float* gamma = nullptr;     // [width]
  const float* beta = nullptr;      // [width]
  float eps = 0;
  float* output = nullptr;  // [rows, width], may be input or residual
  float* sum =
      nullptr;  // [rows, width]: z, kept for backward; null if nobody needs it; may be input
  float* statistics =
      nullptr;  // [rows, 2]: mean and 1 / sqrt(variance + eps); null if nobody needs them
};

/// d_input = dloss/dz from d_output = dloss/doutput, and from d_residual where z also goes on
/// unnormalised
struct LayerNormBackward {
  int64_t rows = 0;
  int64_t width = 0;
  const float* d_output = nullptr;    // [rows, width]
  const float* sum = nullptr;         // [rows, width]
  const float* statistics = nullptr;  // [rows, 2]
  const float* gamma = nullptr;       // [width]
  float* d_input = nullptr;           // [rows, width], may be d_output or d_residual
  const float* d_residual = nullptr;  // [rows, width]: added to the result; null for none
};

void layer_norm_forward(Stream& stream, const LayerNormForward& op);
void layer_norm_backward(Stream& stream, const LayerNormBackward& op);

}  // namespace bertology
