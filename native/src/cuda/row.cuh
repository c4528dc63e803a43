// Kernels by row: how threads share rows, and the part of a row that a thread keeps in registers.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "cuda/warp.cuh"

namespace bertology::cuda {

/// Floats of a row that one thread keeps. More would spill where two rows are kept.
constexpr int kPartFloats = 32;
/// A block has this many threads, or more if one row needs them, but never more than the second:
/// with that many a thread may have 128 registers.
constexpr int kRowBlock = 256;
constexpr int kRowBlockMax = 512;

/// Threads x rows of a block, and blocks.
struct RowGrid {
  dim3 blocks;
  dim3 block;
};

/// A warp for each row where `floats_per_thread` of its lanes hold one, else as many whole warps as
/// do, up to `most` threads.
inline RowGrid row_grid(int64_t rows, int64_t width, int floats_per_thread, int most) {
  const int64_t per_warp = int64_t{kWarp} * floats_per_thread;
  const int64_t warps = (width + per_warp - 1) / per_warp;
  const int64_t threads = warps * kWarp < most ? warps * kWarp : most;
  const int64_t rows_of_block = threads == kWarp ? kRowBlock / kWarp : 1;
  return {dim3(static_cast<unsigned>((rows + rows_of_block - 1) / rows_of_block)),
          dim3(static_cast<unsigned>(threads), static_cast<unsigned>(rows_of_block))};
}

/// Of kernels that keep rows in registers: all of `width` must have room.
inline RowGrid kept_row_grid(int64_t rows, int64_t width) {
  if (width > int64_t{kPartFloats} * kRowBlockMax) {
    fail(BERTOLOGY_UNSUPPORTED, "rows of ", width, " numbers: CUDA devices normalise up to ",
         kPartFloats * kRowBlockMax);
  }
  return row_grid(rows, width, kPartFloats, kRowBlockMax);
}

/// Whether rows of this width from these addresses on can be read four numbers at a time. Null
/// pointers can.
template <class... Pointers>
bool by_four(int64_t width, const Pointers*... pointers) {
  return width % 4 == 0 && ((reinterpret_cast<uintptr_t>(pointers) % sizeof(float4) == 0) && ...);
}

/// The row that this thread works on; the same for all threads of a warp.
__device__ __forceinline__ int64_t this_row() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
}

/// One number, or four at once: kVector.
template <bool kVector>
constexpr int kPiece = kVector ? 4 : 1;

template <bool kVector>
__device__ __forceinline__ void load_piece(const float* from, float* piece) {
  if constexpr (kVector) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    piece[0] = four.x;
    piece[1] = four.y;
    piece[2] = four.z;
    piece[3] = four.w;
  } else {
    piece[0] = *from;
  }
}

template <bool kVector>
__device__ __forceinline__ void store_piece(float* to, const float* piece) {
  if constexpr (kVector) {
    *reinterpret_cast<float4*>(to) = make_float4(piece[0], piece[1], piece[2], piece[3]);
  } else {
    *to = piece[0];
  }
}

/// The part of a row that a thread keeps: pieces blockDim.x pieces apart, so that neighbours read
/// neighbouring memory.
template <bool kVector>
struct Part {
  float values[kPartFloats];

  /// Calls body(piece, column) for each of this thread's pieces: kPiece numbers of values, from
  /// `column` of the row on.
  template <class Body>
  __device__ __forceinline__ void each(int width, const Body& body) {
#pragma unroll
    for (int i = 0; i < kPartFloats; i += kPiece<kVector>) {
      const int column = static_cast<int>(i * blockDim.x + threadIdx.x * kPiece<kVector>);
      if (column < width) body(values + i, column);
    }
  }

  /// The sum over the row, by all its threads, of number(value, column).
  template <class Number>
  __device__ __forceinline__ float sum(int width, const Number& number) {
    float total = 0;
    each(width, [&](float* piece, int column) {
#pragma unroll
      for (int k = 0; k < kPiece<kVector>; ++k) total += number(piece[k], column + k);
    });
    return row_sum(total);
  }
};

/// What normalises a row.
struct RowStatistics {
  float mean;
  float inverse_deviation;
};

/// The variance takes a second pass, over registers.
template <bool kVector>
__device__ __forceinline__ RowStatistics statistics_of(Part<kVector>& row, int width, float eps) {
  const float mean = row.sum(width, [](float x, int) { return x; }) / width;
  const float variance =
      row.sum(width, [&](float x, int) { return (x - mean) * (x - mean); }) / width;
  return {mean, 1.0f / sqrtf(variance + eps)};
}

/// Writes the normalised row: gamma, beta and output [width].
template <bool kVector>
__device__ __forceinline__ void write_normalized(Part<kVector>& row, RowStatistics s,
                                                 const float* gamma, const float* beta, int width,
                                                 float* output) {
  row.each(width, [&](float* piece, int column) {
    float scale[kPiece<kVector>], shift[kPiece<kVector>];
    load_piece<kVector>(gamma + column, scale);
    load_piece<kVector>(beta + column, shift);
#pragma unroll
    for (int k = 0; k < kPiece<kVector>; ++k) {
      piece[k] = (piece[k] - s.mean) * s.inverse_deviation * scale[k] + shift[k];
    }
    store_piece<kVector>(output + column, piece);
  });
}

}  // namespace bertology::cuda
