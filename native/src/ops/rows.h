// Moving rows of a matrix.
#pragma once

#include <cstdint>

namespace bertology {

class Stream;

/// output[r] = input[index[r]]
struct GatherRows {
  int64_t rows = 0;
  int64_t width = 0;
  const int64_t* index = nullptr;  // [rows], device
  const float* input = nullptr;    // [any, width]
  float* output = nullptr;         // [rows, width]
};

/// output[index[r]] = input[r], or += if `accumulate`; no two rows have the same index
struct ScatterRows {
  int64_t rows = 0;
  int64_t width = 0;
  const int64_t* index = nullptr;  // [rows], device
  const float* input = nullptr;    // [rows, width]
  float* output = nullptr;         // [any, width]
  bool accumulate = false;
};

/// output[r] = row
struct BroadcastRow {
  int64_t rows = 0;
  int64_t width = 0;
  const float* row = nullptr;  // [width]
  float* output = nullptr;     // [rows, width]
};

void gather_rows(Stream& stream, const GatherRows& op);
void scatter_rows(Stream& stream, const ScatterRows& op);
void broadcast_row(Stream& stream, const BroadcastRow& op);

}  // namespace bertology
