// One vector for each sequence out of its rows.
#pragma once

#include <cstdint>

#include "ops/sequences.h"

namespace bertology {

class Stream;

/// What a sequence's vector is made of.
enum class PooledRows { kFirst, kLast, kMean };

/// Of sequence b: its first or last row, or the mean of its rows; divided by its Euclidean length
/// if `normalize`.
struct PoolingForward {
  Sequences sequences;
  int64_t width = 0;
  PooledRows pooled = PooledRows::kFirst;
  bool normalize = false;
  const float* input = nullptr;  // [rows, width]
  float* output = nullptr;       // [sequences, width]
  float* lengths =
      nullptr;  // [sequences]: Euclidean lengths, kept for backward; needed if `normalize`
};

struct PoolingBackward {
  Sequences sequences;
  int64_t width = 0;
  PooledRows pooled = PooledRows::kFirst;
  bool normalize = false;
  const float* d_output = nullptr;  // [sequences, width]
  const float* output = nullptr;    // as forward wrote it; needed if `normalize`
  const float* lengths = nullptr;
  float* d_input = nullptr;  // [rows, width], every row written
};

void pooling_forward(Stream& stream, const PoolingForward& op);
void pooling_backward(Stream& stream, const PoolingBackward& op);

}  // namespace bertology
