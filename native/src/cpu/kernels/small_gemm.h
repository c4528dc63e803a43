// A tile of a matrix product in registers, and the products of one head made of it: too small for a
// library call, too many to do badly.
#pragma once

#include "cpu/kernels/vec.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

// Rows and vectors of the accumulator tile: as many as the registers hold beside one row of B and
// one element of A.
#if defined(__AVX512F__)
constexpr int kTileRows = 6;
constexpr int kTileVecs = 4;
#elif defined(__AVX2__)
constexpr int kTileRows = 6;
constexpr int kTileVecs = 2;
#else
constexpr int kTileRows = 4;
constexpr int kTileVecs = 2;
#endif

/// A(i, k) at a + i row + k column: transposition is a matter of strides.
struct Strided {
  const float* data;
  int64_t row;
  int64_t column;
};

// Steps along the depth that are unrolled.
constexpr int64_t kStep = 4;

/// sums += A B for kRows rows and kVecs vectors of columns. Calls each_step() every kStep steps
/// along the depth.
template <int kRows, int kVecs, class EachStep>
inline void add_products(Strided a, const float* b, int64_t b_stride, int64_t depth,
                         Vec (&sums)[kRows][kVecs], const EachStep& each_step) {
  const float* row[kRows];
  for (int i = 0; i < kRows; ++i) row[i] = a.data + i * a.row;
  const auto add = [&](int64_t k) {
    Vec columns[kVecs];
    for (int j = 0; j < kVecs; ++j) columns[j] = load(b + k * b_stride + j * kWidth);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const Vec factor = splat(row[i][k * a.column]);
#pragma GCC unroll 4
      for (int j = 0; j < kVecs; ++j) sums[i][j] += factor * columns[j];
    }
  };
  int64_t k = 0;
  for (; k + kStep <= depth; k += kStep) {
    each_step();
#pragma GCC unroll 4
    for (int64_t i = 0; i < kStep; ++i) add(k + i);
  }
  for (; k < depth; ++k) add(k);
}

template <int kRows, int kVecs>
inline void gemm_tile(Strided a, const float* b, int64_t b_stride, int64_t depth, float* c,
                      int64_t c_stride, bool accumulate) {
  Vec sums[kRows][kVecs];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVecs; ++j) {
      sums[i][j] = accumulate ? load(c + i * c_stride + j * kWidth) : Vec{};
    }
  }
  add_products(a, b, b_stride, depth, sums, [] {});
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVecs; ++j) store(c + i * c_stride + j * kWidth, sums[i][j]);
  }
}

template <int kVecs>
inline void gemm_columns(Strided a, const float* b, int64_t b_stride, int64_t rows, int64_t depth,
                         float* c, int64_t c_stride, bool accumulate) {
  int64_t i = 0;
  for (; i + kTileRows <= rows; i += kTileRows) {
    gemm_tile<kTileRows, kVecs>({a.data + i * a.row, a.row, a.column}, b, b_stride, depth,
                                c + i * c_stride, c_stride, accumulate);
  }
  for (; i + 2 <= rows; i += 2) {
    gemm_tile<2, kVecs>({a.data + i * a.row, a.row, a.column}, b, b_stride, depth, c + i * c_stride,
                        c_stride, accumulate);
  }
  if (i < rows) {
    gemm_tile<1, kVecs>({a.data + i * a.row, a.row, a.column}, b, b_stride, depth, c + i * c_stride,
                        c_stride, accumulate);
  }
}

/// C (+)= A B with A [rows, depth], B [depth, columns], C [rows, columns]; columns a multiple of
/// kWidth.
inline void gemm(Strided a, const float* b, int64_t b_stride, int64_t rows, int64_t columns,
                 int64_t depth, float* c, int64_t c_stride, bool accumulate) {
  int64_t j = 0;
  for (; j + kTileVecs * kWidth <= columns; j += kTileVecs * kWidth) {
    gemm_columns<kTileVecs>(a, b + j, b_stride, rows, depth, c + j, c_stride, accumulate);
  }
#if defined(__AVX512F__)
  if (j + 3 * kWidth == columns) {
    gemm_columns<3>(a, b + j, b_stride, rows, depth, c + j, c_stride, accumulate);
    return;
  }
  if (j + 2 * kWidth == columns) {
    gemm_columns<2>(a, b + j, b_stride, rows, depth, c + j, c_stride, accumulate);
    return;
  }
#endif
  for (; j < columns; j += kWidth) {
    gemm_columns<1>(a, b + j, b_stride, rows, depth, c + j, c_stride, accumulate);
  }
}

}  // namespace
}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
