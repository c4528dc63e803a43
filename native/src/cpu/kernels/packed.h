// float32 matrices in the order in which a product reads them.
#pragma once

#include <cstdint>

namespace bertology::cpu {

/// A right-hand matrix [depth, columns] with any strides.
struct PlainMatrix {
  int64_t depth;
  int64_t columns;
  const float* data;
  int64_t depth_stride;
  int64_t column_stride;
};

/// C [rows, columns] (+)= A [rows, depth] B [depth, columns] + bias. The bits of a row do not
/// depend on how many others there are.
struct PackedProduct {
  int64_t rows;
  int64_t depth;
  int64_t columns;
  const float* a;
  int64_t a_stride;
  const float* b;     // packed
  const float* bias;  // [columns], null for none; not used by a product that accumulates
  float* c;
  int64_t c_stride;
  bool accumulate;
  const float* next;  // the packed matrix that the caller wants next, of at least this depth; null
                      // for none
};

}  // namespace bertology::cpu
