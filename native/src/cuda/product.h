// A matrix product as the kernels and cuBLAS are asked for it.
#pragma once

#include <cstdint>

#include "ops/activation.h"

namespace bertology::cuda {

/// result [rows, columns] = left [rows, depth] times right, with what comes after it
struct Product {
  const float* left = nullptr;  // [rows, depth]
  int64_t left_stride = 0;      // elements from row to row, here and below
  const void* right = nullptr;  // forward: [columns, depth]; backward: [depth, columns]
  int64_t right_stride = 0;
  float* result = nullptr;  // [rows, columns]
  int64_t result_stride = 0;
  int rows = 0;
  int columns = 0;
  int depth = 0;
  bool left_aligned = false;  // each row starts at a multiple of 16 bytes
  bool right_aligned = false;
  Activation activation = Activation::kNone;
  const float* bias = nullptr;           // forward: [columns]
  float* kept = nullptr;                 // forward: result before the activation, as result
  bool accumulate = false;               // backward: add to what is in result
  const float* preactivation = nullptr;  // backward: as result
};

}  // namespace bertology::cuda
