// Matrices in the order in which a product reads them.
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

/// C [rows, columns] (+)= A [rows, depth] B [depth, columns] + bias, elements of A and B float or,
/// as their bits, bfloat16. The bits of a row do not depend on how many others there are.
template <class Element>
struct PackedProduct {
  int64_t rows;
  int64_t depth;
  int64_t columns;
  const Element* a;
  int64_t a_stride;
  const Element* b;   // packed
  const float* bias;  // [columns], null for none; not used by a product that accumulates
  float* c;
  int64_t c_stride;
  bool accumulate;
  const Element* next;  // the packed matrix that the caller wants next, of at least this depth;
                        // null for none
};

/// Products by tiles read A up to a multiple of this depth, where there must be zeros, and as many
/// rows behind the last one, wherever the first is; what is in these does not matter.
constexpr int64_t kTileDepth = 32;
constexpr int64_t kRowsBehindTiles = 15;

}  // namespace bertology::cpu
