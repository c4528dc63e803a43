#pragma once

#include "cpu/kernels/vec.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

/// to[c][r] = from[r][c], in squares of four; rows of `to` are padded with zeros to to_stride
inline void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns,
                      float* to, int64_t to_stride) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    int64_t c = 0;
    for (; c + 4 <= columns; c += 4) {
      Four row[4];
      for (int i = 0; i < 4; ++i)
        __builtin_memcpy(&row[i], from + (r + i) * from_stride + c, sizeof(Four));
      const Four low01 = __builtin_shuffle(row[0], row[1], FourPicks{0, 4, 1, 5});
      const Four high01 = __builtin_shuffle(row[0], row[1], FourPicks{2, 6, 3, 7});
      const Four low23 = __builtin_shuffle(row[2], row[3], FourPicks{0, 4, 1, 5});
      const Four high23 = __builtin_shuffle(row[2], row[3], FourPicks{2, 6, 3, 7});
      const Four column[4] = {__builtin_shuffle(low01, low23, FourPicks{0, 1, 4, 5}),
                              __builtin_shuffle(low01, low23, FourPicks{2, 3, 6, 7}),
                              __builtin_shuffle(high01, high23, FourPicks{0, 1, 4, 5}),
                              __builtin_shuffle(high01, high23, FourPicks{2, 3, 6, 7})};
      for (int i = 0; i < 4; ++i)
        __builtin_memcpy(to + (c + i) * to_stride + r, &column[i], sizeof(Four));
    }
    for (; c < columns; ++c) {
      for (int64_t i = 0; i < 4; ++i) to[c * to_stride + r + i] = from[(r + i) * from_stride + c];
    }
  }
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t i = r; i < to_stride; ++i)
      to[c * to_stride + i] = i < rows ? from[i * from_stride + c] : 0.0f;
  }
}

}  // namespace
}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
