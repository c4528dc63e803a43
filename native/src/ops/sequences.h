// How packed tokens divide into examples.
#pragma once

#include <cstdint>

namespace bertology {

/// `count` sequences behind one another: sequence b has the rows offset(b) .. offset(b + 1) of a
/// packed matrix, and in a packed run of squares (attention maps of one head) the elements from
/// pair_offset(b) on. Host arrays serve planning; `device_*` are the same numbers where the kernels
/// read them.
struct Sequences {
  int64_t count = 0;
  const int64_t* offsets = nullptr;       // [count + 1], from 0
  const int64_t* pair_offsets = nullptr;  // [count + 1], prefix sums of squared lengths, from 0
  const int64_t* device_offsets = nullptr;
  const int64_t* device_pair_offsets = nullptr;

  int64_t rows() const { return offsets[count]; }
  int64_t length(int64_t b) const { return offsets[b + 1] - offsets[b]; }
};

}  // namespace bertology
