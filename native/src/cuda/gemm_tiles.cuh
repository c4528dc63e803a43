// Matrix products on the tensor cores by tiles: what is the same for every tile, from the copies
// into shared memory to the result. A block of four warps makes one tile of the result.
//
// The left matrix is float32 in memory and rounded as it is taken from shared memory. Inner indices
// are dealt to the lanes so that a lane's share of a row is contiguous there: within 16 (8 for
// float32) of them their order does not matter as long as both matrices have the same.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "cuda/activations.cuh"
#include "cuda/copy_async.cuh"
#include "cuda/mma.cuh"
#include "cuda/product.h"

namespace bertology::cuda {

constexpr int kTileThreads = 128;
constexpr int kWarpSize = 32;
constexpr int kChunkBytes = 16;  // what one copy brings

/// Shape of a block's work.
template <int kRows_, int kColumns_, int kStages_, int kBlocks_>
struct Tile {
  static constexpr int kRows = kRows_;
  static constexpr int kColumns = kColumns_;
  static constexpr int kStages = kStages_;  // tiles of inputs in shared memory
  static constexpr int kBlocks = kBlocks_;  // that registers must suffice for on a multiprocessor
  // Two warps by two; theirs in tensor-core tiles of 16 x 8.
  static constexpr int kWarpRows = kRows / 2;
  static constexpr int kWarpColumns = kColumns / 2;
  static constexpr int kDown = kWarpRows / 16;
  static constexpr int kAcross = kWarpColumns / 8;
};

/// Inner indices of a tile of inputs.
template <class T>
constexpr int kTileDepth = sizeof(T) == 2 ? 32 : 16;

// ----------------------------------------------------------------------------------------------
// instructions

/// Four 8 x 8 matrices of halves, each transposed. Lanes 8 i to 8 i + 7 give the rows of matrix i.
__device__ inline void load_transposed(uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}

/// TF32: float32 with a mantissa of 10 bits.
__device__ inline void multiply_add(float (&sum)[4], const uint32_t (&a)[4],
                                    const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline uint32_t to_tf32(float value) {
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return rounded;
}

/// value = large + small, but for the last two bits
__device__ inline void split(float value, uint32_t& large, uint32_t& small) {
  large = to_tf32(value);
  small = to_tf32(value - __uint_as_float(large));
}

/// What tensor cores take instead of float32: BFloat16 or Float16 for the type that weights have.
template <class T>
using HalfOf = std::conditional_t<std::is_same_v<T, __half>, Float16, BFloat16>;

// ----------------------------------------------------------------------------------------------
// tiles in shared memory: lines of chunks of 16 bytes, which change places so that lanes find what
// they read together in different banks

/// Lines of inner indices: 64 bytes read 8 at a time, or 128 bytes read 16 at a time.
template <class E, int kWidth>
struct AlongDepth {
  static constexpr int kLineBytes = kWidth * static_cast<int>(sizeof(E));
  static_assert(kLineBytes == 64 || kLineBytes == 128, "");
  __device__ static int place(int chunk, int line) {
    return kLineBytes == 64 ? chunk ^ (line & 2) : chunk ^ (line & 1) * 4;
  }
};

/// Lines of columns, one for each inner index.
template <class E>
struct AlongColumns {
  __device__ static int place(int chunk, int line) {
    return sizeof(E) == 2 ? chunk ^ ((line & 1) + (line >> 1 & 6)) : chunk ^ (line & 6);
  }
};

/// Starts to bring a tile of kLines lines of kWidth elements. What lies beyond `lines` and `width`
/// becomes 0.
template <class E, int kLines, int kWidth, class Swizzle>
__device__ inline void bring(E* tile, const E* source, int64_t stride, int lines, int width,
                             bool aligned) {
  constexpr int kOfChunk = kChunkBytes / static_cast<int>(sizeof(E));
  if (aligned) {
    constexpr int kChunks = kWidth / kOfChunk;
    constexpr int kStep = kTileThreads / kChunks;
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    const int first = static_cast<int>(threadIdx.x) / kChunks;
    const int left = min(max(width - chunk * kOfChunk, 0), kOfChunk) * static_cast<int>(sizeof(E));
    const E* from = source + first * stride + chunk * kOfChunk;
#pragma unroll
    for (int i = 0; i < kLines / kStep; ++i) {
      const int line = first + i * kStep;
      const int bytes = line < lines ? left : 0;
      copy_async_16(tile + line * kWidth + Swizzle::place(chunk, line) * kOfChunk,
                    bytes > 0 ? from + i * kStep * stride : source, bytes);
    }
    return;
  }
  constexpr int kStep = kTileThreads / kWidth;
  const int column = static_cast<int>(threadIdx.x) % kWidth;
  const int first = static_cast<int>(threadIdx.x) / kWidth;
#pragma unroll 4
  for (int line = first; line < kLines; line += kStep) {
    const bool inside = line < lines && column < width;
    E* to = tile + line * kWidth + Swizzle::place(column / kOfChunk, line) * kOfChunk +
            column % kOfChunk;
    const E* from = inside ? source + line * stride + column : source;
    if constexpr (sizeof(E) == 4) {
      copy_async_4(to, from, inside ? 4 : 0);
    } else {
      *to = inside ? __ldg(from) : E(0.0f);
    }
  }
}

/// Where a lane is in the tensor core's tiles.
struct Lane {
  __device__ Lane()
      : lane(static_cast<int>(threadIdx.x) % kWarpSize), group(lane / 4), member(lane % 4) {}
  int lane;
  int group;   // row of the left matrix, column of the right one
  int member;  // share of the inner indices
};

// ----------------------------------------------------------------------------------------------
// half-width products: one step takes 16 inner indices, of which lane t of a group has 4 t to
// 4 t + 3

template <class T, bool kBackward, class Shape>
struct Multiplier {
  static constexpr int kDepth = kTileDepth<T>;
  using LeftSwizzle = AlongDepth<float, kDepth>;

  __device__ static void right_fragments(uint32_t (&b)[Shape::kAcross][2], const T* right,
                                         int first_column, int step, const Lane& at) {
    if constexpr (kBackward) {
#pragma unroll
      for (int i = 0; i < Shape::kAcross; i += 2) {
        const int matrix = at.lane / 8;
        const int row = at.lane % 8;
        const int k = step * 16 + row / 2 * 4 + row % 2 + matrix % 2 * 2;
        const int chunk = first_column / 8 + i + matrix / 2;
        uint32_t four[4];
        load_transposed(four, right + k * Shape::kColumns + AlongColumns<T>::place(chunk, k) * 8);
        b[i][0] = four[0];
        b[i][1] = four[1];
        b[i + 1][0] = four[2];
        b[i + 1][1] = four[3];
      }
    } else {
#pragma unroll
      for (int i = 0; i < Shape::kAcross; ++i) {
        const int column = first_column + i * 8 + at.group;
        const int chunk = AlongDepth<T, kDepth>::place(step * 2 + at.member / 2, column);
        const uint2 two = *reinterpret_cast<const uint2*>(right + column * kDepth + chunk * 8 +
                                                          at.member % 2 * 4);
        b[i][0] = two.x;
        b[i][1] = two.y;
      }
    }
  }

  __device__ static void run(float (&sums)[Shape::kDown][Shape::kAcross][4], const float* left,
                             const T* right, int first_row, int first_column) {
    const Lane at;
#pragma unroll
    for (int step = 0; step < kDepth / 16; ++step) {
      uint32_t b[Shape::kAcross][2];
      right_fragments(b, right, first_column, step, at);
#pragma unroll
      for (int j = 0; j < Shape::kDown; ++j) {
        uint32_t a[4];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = first_row + j * 16 + half * 8 + at.group;
          const int chunk = LeftSwizzle::place(step * 4 + at.member, row);
          const float4 four = *reinterpret_cast<const float4*>(left + row * kDepth + chunk * 4);
          a[half] = HalfOf<T>::pack(four.x, four.y);
          a[half + 2] = HalfOf<T>::pack(four.z, four.w);
        }
#pragma unroll
        for (int i = 0; i < Shape::kAcross; ++i) HalfOf<T>::multiply(sums[j][i], a, b[i]);
      }
    }
  }
};

// ----------------------------------------------------------------------------------------------
// float32 products: each number is the sum of two of TF32, and three of the four products count.
// One step takes 8 inner indices, of which lane t of a group has 2 t and 2 t + 1. The tensor core
// rounds its sums toward zero, so that long ones drift: a step's sum starts from 0 and is added
// to the others outside.

template <bool kBackward, class Shape>
struct Multiplier<float, kBackward, Shape> {
  static constexpr int kDepth = kTileDepth<float>;
  using LeftSwizzle = AlongDepth<float, kDepth>;

  /// Two neighbours of a line along the depth.
  __device__ static float2 two_of(const float* tile, int line, int step, const Lane& at) {
    const int chunk = LeftSwizzle::place(step * 2 + at.member / 2, line);
    return *reinterpret_cast<const float2*>(tile + line * kDepth + chunk * 4 + at.member % 2 * 2);
  }

  __device__ static float2 right_pair(const float* right, int column, int step, const Lane& at) {
    if constexpr (kBackward) {
      const int k = step * 8 + at.member * 2;
      const float* first =
          right + k * Shape::kColumns + AlongColumns<float>::place(column / 4, k) * 4 + column % 4;
      return make_float2(first[0], first[Shape::kColumns]);
    } else {
      return two_of(right, column, step, at);
    }
  }

  __device__ static void run(float (&sums)[Shape::kDown][Shape::kAcross][4], const float* left,
                             const float* right, int first_row, int first_column) {
    const Lane at;
#pragma unroll 1  // else the registers do not suffice
    for (int step = 0; step < kDepth / 8; ++step) {
      uint32_t large_b[Shape::kAcross][2], small_b[Shape::kAcross][2];
#pragma unroll
      for (int i = 0; i < Shape::kAcross; ++i) {
        const float2 two = right_pair(right, first_column + i * 8 + at.group, step, at);
        split(two.x, large_b[i][0], small_b[i][0]);
        split(two.y, large_b[i][1], small_b[i][1]);
      }
#pragma unroll
      for (int j = 0; j < Shape::kDown; ++j) {
        uint32_t large_a[4], small_a[4];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float2 two = two_of(left, first_row + j * 16 + half * 8 + at.group, step, at);
          split(two.x, large_a[half], small_a[half]);
          split(two.y, large_a[half + 2], small_a[half + 2]);
        }
        constexpr int kAtOnce = 4;  // products that do not wait for each other
#pragma unroll
        for (int first = 0; first < Shape::kAcross; first += kAtOnce) {
          float sum[kAtOnce][4] = {};
#pragma unroll
          for (int i = 0; i < kAtOnce; ++i) multiply_add(sum[i], small_a, large_b[first + i]);
#pragma unroll
          for (int i = 0; i < kAtOnce; ++i) multiply_add(sum[i], large_a, small_b[first + i]);
#pragma unroll
          for (int i = 0; i < kAtOnce; ++i) multiply_add(sum[i], large_a, large_b[first + i]);
#pragma unroll
          for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[j][first + i][e] += sum[i][e];
          }
        }
      }
    }
  }
};

// ----------------------------------------------------------------------------------------------
// the kernel

/// Writes some rows of one column, `count` <= kTogether of them `step` apart.
template <bool kBackward, int kTogether>
__device__ inline void finish(const Product& p, float (&values)[kTogether], int row, int step,
                              int count, int column, float bias) {
  const int64_t first = row * p.result_stride + column;
  const int64_t stride = step * p.result_stride;
  if constexpr (kBackward) {
    // What is read comes before what is computed: the reads do not wait for each other.
    float before[kTogether], inputs[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      before[i] = p.accumulate && i < count ? p.result[first + i * stride] : 0.0f;
      inputs[i] = p.activation != Activation::kNone && i < count
                      ? p.preactivation[first + i * stride]
                      : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const float slope = activation_slope(p.activation, inputs[i]);
      if (i < count) p.result[first + i * stride] = (values[i] + before[i]) * slope;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const float sum = values[i] + bias;
      if (i < count && p.kept != nullptr) p.kept[first + i * stride] = sum;
      const float value = activate(p.activation, sum);
      if (i < count) p.result[first + i * stride] = value;
    }
  }
}

template <class T, class Shape>
constexpr int kProductShared = Shape::kStages* kTileDepth<T>*(
    Shape::kRows* static_cast<int>(sizeof(float)) + Shape::kColumns * static_cast<int>(sizeof(T)));

template <class T, bool kBackward, class Shape>
__global__ void __launch_bounds__(kTileThreads, Shape::kBlocks) product_kernel(const Product p) {
  constexpr int kDepth = kTileDepth<T>;
  constexpr int kStages = Shape::kStages;
  constexpr int kLeftElements = Shape::kRows * kDepth;
  constexpr int kRightElements = Shape::kColumns * kDepth;
  extern __shared__ __align__(16) unsigned char memory[];
  float* left = reinterpret_cast<float*>(memory);
  T* right = reinterpret_cast<T*>(left + kStages * kLeftElements);

  // Blocks that run together share some rows of left and columns of right: groups of 8 tiles down.
  constexpr int kGroup = 8;
  const int tiles_down = (p.rows + Shape::kRows - 1) / Shape::kRows;
  const int tiles_across = (p.columns + Shape::kColumns - 1) / Shape::kColumns;
  const int group = static_cast<int>(blockIdx.x) / (kGroup * tiles_across);
  const int in_group = static_cast<int>(blockIdx.x) % (kGroup * tiles_across);
  const int group_rows = min(tiles_down - group * kGroup, kGroup);
  const int row = (group * kGroup + in_group % group_rows) * Shape::kRows;
  const int column = in_group / group_rows * Shape::kColumns;

  const float* from_left = p.left + row * p.left_stride;
  const T* from_right =
      static_cast<const T*>(p.right) + (kBackward ? column : column * p.right_stride);
  const int64_t right_step = kBackward ? kDepth * p.right_stride : kDepth;
  const auto bring_next = [&](int stage, int depth) {
    bring<float, Shape::kRows, kDepth, AlongDepth<float, kDepth>>(
        left + stage * kLeftElements, from_left, p.left_stride, p.rows - row, p.depth - depth,
        p.left_aligned);
    if constexpr (kBackward) {
      bring<T, kDepth, Shape::kColumns, AlongColumns<T>>(right + stage * kRightElements, from_right,
                                                         p.right_stride, p.depth - depth,
                                                         p.columns - column, p.right_aligned);
    } else {
      bring<T, Shape::kColumns, kDepth, AlongDepth<T, kDepth>>(
          right + stage * kRightElements, from_right, p.right_stride, p.columns - column,
          p.depth - depth, p.right_aligned);
    }
    from_left += kDepth;
    from_right += right_step;
  };

  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int warp_row = warp / 2 * Shape::kWarpRows;
  const int warp_column = warp % 2 * Shape::kWarpColumns;
  float sums[Shape::kDown][Shape::kAcross][4] = {};

  int brought = 0;
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (brought < p.depth) bring_next(stage, brought);
    brought += kDepth;
    copies_issued();
  }
  int stage = 0;
  int next = kStages - 1;
  for (int depth = 0; depth < p.depth; depth += kDepth) {
    copies_arrived<kStages - 2>();
    __syncthreads();
    if (brought < p.depth) bring_next(next, brought);
    brought += kDepth;
    copies_issued();
    Multiplier<T, kBackward, Shape>::run(sums, left + stage * kLeftElements,
                                         right + stage * kRightElements, warp_row, warp_column);
    stage = stage + 1 == kStages ? 0 : stage + 1;
    next = next + 1 == kStages ? 0 : next + 1;
  }
  copies_arrived<0>();

  // Through shared memory, 16 rows of each warp at a time, so that neighbours write neighbours and
  // the code of the activation is there once.
  constexpr int kPadded = Shape::kColumns + 8;
  constexpr int kTogether = 4;
  constexpr int kStep = kTileThreads / Shape::kColumns;
  static_assert(kProductShared<T, Shape> >= 2 * 16 * kPadded * 4, "");
  float* strip = left;  // [2 x 16, kPadded]
  const Lane at;
  const int own = static_cast<int>(threadIdx.x) % Shape::kColumns;
  const bool inside = column + own < p.columns;
  const float bias = !kBackward && p.bias != nullptr && inside ? p.bias[column + own] : 0.0f;
#pragma unroll 1
  for (int pass = 0; pass < Shape::kDown; ++pass) {
    __syncthreads();
#pragma unroll
    for (int j = 0; j < Shape::kDown; ++j) {
      if (j != pass) continue;
      float* corner = strip + (warp / 2 * 16 + at.group) * kPadded + warp_column + at.member * 2;
#pragma unroll
      for (int i = 0; i < Shape::kAcross; ++i) {
        *reinterpret_cast<float2*>(corner + i * 8) = make_float2(sums[j][i][0], sums[j][i][1]);
        *reinterpret_cast<float2*>(corner + i * 8 + 8 * kPadded) =
            make_float2(sums[j][i][2], sums[j][i][3]);
      }
    }
    __syncthreads();
    if (!inside) continue;
#pragma unroll 1
    for (int r = static_cast<int>(threadIdx.x) / Shape::kColumns; r < 2 * 16;
         r += kTogether * kStep) {
      float values[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) values[i] = strip[(r + i * kStep) * kPadded + own];
      const int to_row = row + r / 16 * Shape::kWarpRows + pass * 16 + r % 16;
      const int count = (p.rows - to_row + kStep - 1) / kStep;
      finish<kBackward>(p, values, to_row, kStep, count, column + own, bias);
    }
  }
}

}  // namespace bertology::cuda
