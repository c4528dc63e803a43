// Losses by row, and their gradients in the same pass.
#pragma once

#include <cstdint>

namespace bertology {

class Stream;

/// losses[r] = ln sum exp logits[r] - logits[r][label];  d_logits = weight (softmax - one hot);
/// predictions[r] = the first class of those with the largest logit, which is exact up to 2^24.
/// A row with a negative label has loss 0 and gradient 0.
struct CrossEntropy {
  int64_t rows = 0;
  int64_t classes = 0;
  const float* logits = nullptr;    // [rows, classes]
  const int32_t* labels = nullptr;  // [rows], device, under classes, checked by the caller; null:
                                    // predictions only
  const float* weights = nullptr;   // [rows], device: what d_logits is multiplied by; null: 1
  float* losses = nullptr;          // [rows]; null without labels
  float* d_logits = nullptr;        // [rows, classes], may be logits; null: no gradient
  float* predictions = nullptr;     // [rows]; null: not kept
};

/// losses[r] = (predictions[r] - targets[r])^2;  d_predictions = 2 (predictions - targets)
struct SquaredError {
  int64_t rows = 0;
  const float* predictions = nullptr;  // [rows]
  const float* targets = nullptr;      // [rows], device
  float* losses = nullptr;             // [rows]
  float* d_predictions = nullptr;      // [rows]; null: no gradient
};

void cross_entropy(Stream& stream, const CrossEntropy& op);
void squared_error(Stream& stream, const SquaredError& op);

}  // namespace bertology
