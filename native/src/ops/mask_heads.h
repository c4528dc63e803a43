// The outputs of a layer's heads times their mask, where many masks share one attention.
#pragma once

#include <cstdint>

namespace bertology {

class Stream;

/// output[r][h head_dim + c] = mask[h] input[r][h head_dim + c]; 0 where the mask is 0, whatever
/// the input has there
struct MaskHeads {
  int64_t rows = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
  const float* mask = nullptr;   // [heads], device
  const float* input = nullptr;  // [rows, heads head_dim]
  float* output = nullptr;       // the same
};

void mask_heads(Stream& stream, const MaskHeads& op);

}  // namespace bertology
