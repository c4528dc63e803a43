// What the kernels of attention share: their arguments, probabilities, maps on their way to global
// memory, and how the host launches them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/error.h"
#include "cuda/attention_tiles.cuh"
#include "cuda/stream.h"
#include "cuda/warp.cuh"
#include "ops/attention.h"

namespace bertology::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

constexpr int64_t kMaxHeadDim = 128;
constexpr int kMaxWarps = 8;  // of a block

/// Heads that a launch works on: blockIdx.y counts them.
struct HeadList {
  static constexpr int kMost = 128;
  int count;
  int16_t head[kMost];
  int32_t index[kMost];  // where the gradients of the head go
  float mask[kMost];
};

/// AttentionInputs for the device.
struct AttentionShape {
  explicit AttentionShape(const AttentionInputs& in)
      : query_offsets(in.queries.device_offsets),
        key_offsets(in.keys.device_offsets),
        pair_offsets(in.keys.device_pair_offsets),
        query(in.query),
        key(in.key),
        value(in.value),
        query_stride(in.query_stride),
        key_stride(in.key_stride),
        heads(static_cast<int>(in.heads)),
        head_dim(static_cast<int>(in.head_dim)),
        scale(in.scale),
        causal(in.causal) {}

  const int64_t* query_offsets;  // [sequences + 1]
  const int64_t* key_offsets;    // [sequences + 1]
  const int64_t* pair_offsets;   // [sequences + 1]
  const float* query;            // [query rows, query_stride]
  const float* key;              // [key rows, key_stride]
  const float* value;            // [key rows, key_stride]
  int64_t query_stride, key_stride;
  int heads, head_dim;
  float scale;
  bool causal;
  bool aligned = false;  // rows of every matrix start at multiples of 16 bytes at every head
};

/// The rows of one sequence at the columns of one head.
struct HeadRows {
  __device__ __forceinline__ HeadRows(const AttentionShape& shape, int64_t sequence, int head)
      : first_query(shape.query_offsets[sequence]),
        first_key(shape.key_offsets[sequence]),
        queries(static_cast<int>(shape.query_offsets[sequence + 1] - first_query)),
        keys(static_cast<int>(shape.key_offsets[sequence + 1] - first_key)),
        column(static_cast<int64_t>(head) * shape.head_dim),
        width(static_cast<int64_t>(shape.heads) * shape.head_dim) {}

  /// Of a [query rows, heads head_dim] matrix.
  template <class T>
  __device__ __forceinline__ T* dense(T* matrix) const {
    return matrix + first_query * width + column;
  }
  /// Of what is kept by sequence [heads, queries].
  template <class T>
  __device__ __forceinline__ T* of_queries(T* values, const AttentionShape& shape, int head) const {
    return values + first_query * shape.heads + static_cast<int64_t>(head) * queries;
  }
  /// Of maps by sequence [heads, queries, keys].
  template <class T>
  __device__ __forceinline__ T* map(T* maps, const AttentionShape& shape, int64_t sequence,
                                    int head) const {
    return maps + shape.pair_offsets[sequence] * shape.heads +
           static_cast<int64_t>(head) * queries * keys;
  }

  int64_t first_query, first_key;
  int queries, keys;
  int64_t column, width;
};

__device__ __forceinline__ float exp2_of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Of a score minus the logarithm of the row's sum. Of large scores that one has been rounded by
/// more than an exponent can be: still no probability is above 1. What is not a number stays so.
__device__ __forceinline__ float probability_of(float exponent) {
  return exp2_of(exponent > 0 ? 0 : exponent);
}

/// Rows g and g + 8 of a map [rows, columns] that come eight columns at a time, as a product holds
/// them, and leave as whole sectors of memory wherever they begin: `now` are the columns `first`
/// ..., `last` those before, of which some wait for the others of their sector. After the last
/// columns of a row comes a call with anything.
__device__ __forceinline__ void add_columns(float (&last)[4], const float (&now)[4], float* map,
                                            int columns, int first, int rows, Lane lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane.g + 8 * half;
    float* to = map + static_cast<int64_t>(row) * columns;
    // Columns first - 8 + shift ... are a sector.
    const int shift = static_cast<int>(-(reinterpret_cast<uintptr_t>(to) / sizeof(float))) & 7;
    float out[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int odd = (shift + e) % 2;
      const bool is_now = 2 * lane.t + odd < shift;
      const float even_given = is_now ? now[2 * half] : last[2 * half];
      const float odd_given = is_now ? now[2 * half + 1] : last[2 * half + 1];
      out[e] = __shfl_sync(kAllLanes, odd != 0 ? odd_given : even_given,
                           4 * lane.g + (shift + 2 * lane.t + e) % 8 / 2);
    }
    const int column = first - 8 + shift + 2 * lane.t;
    if (row >= rows) continue;
    if (column >= 0 && column + 1 < columns) {
      *reinterpret_cast<float2*>(to + column) = {out[0], out[1]};
    } else {
      if (column >= 0 && column < columns) to[column] = out[0];
      if (column + 1 >= 0 && column + 1 < columns) to[column + 1] = out[1];
    }
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) last[e] = now[e];
}

/// to[0 .. count) by one warp, whose stores begin where sectors of memory do.
template <class Value>
__device__ __forceinline__ void store_run(float* to, int count, const Value& value) {
  const int before = static_cast<int>(reinterpret_cast<uintptr_t>(to) / sizeof(float) % 8);
  for (int i = static_cast<int>(threadIdx.x % kWarp) - before; i < count; i += kWarp) {
    if (i >= 0) to[i] = value(i);
  }
}

// ----------------------------------------------------------------------------------------------
// host

inline bool aligned_16(std::initializer_list<const void*> pointers,
                       std::initializer_list<int64_t> floats) {
  bool aligned = true;
  for (const void* p : pointers) aligned &= reinterpret_cast<uintptr_t>(p) % 16 == 0;
  for (const int64_t n : floats) aligned &= n % 4 == 0;
  return aligned;
}

/// Of the sequences that have at most `most` rows.
inline int64_t longest(const Sequences& sequences,
                       int64_t most = std::numeric_limits<int64_t>::max()) {
  int64_t length = 0;
  for (int64_t b = 0; b < sequences.count; ++b) {
    if (sequences.length(b) <= most) length = std::max(length, sequences.length(b));
  }
  return length;
}

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

inline bool is_computed(const AttentionInputs& in, int64_t head) {
  return in.head_mask[head] != 0 || in.compute_masked_heads;
}

/// Calls launch(list) with the heads that are computed, or those that are not, some at a time.
template <class Launch>
void each_list(const AttentionInputs& in, const int32_t* head_index, bool computed,
               const Launch& launch) {
  HeadList list;
  list.count = 0;
  for (int64_t h = 0; h < in.heads; ++h) {
    if (is_computed(in, h) == computed) {
      list.head[list.count] = static_cast<int16_t>(h);
      list.index[list.count] = head_index == nullptr ? 0 : head_index[h];
      list.mask[list.count] = in.head_mask[h];
      ++list.count;
    }
    if (list.count == HeadList::kMost || (h == in.heads - 1 && list.count > 0)) {
      launch(list);
      list.count = 0;
    }
  }
}

inline void check_head_dim(int64_t head_dim) {
  if (head_dim > kMaxHeadDim) {
    fail(BERTOLOGY_UNSUPPORTED, "attention on CUDA devices: heads of ", head_dim,
         " dimensions; the limit is ", kMaxHeadDim);
  }
}

template <int kDim>
struct Dim {
  static constexpr int value = kDim;
};

template <class Product, class What>
void with_dim(int64_t head_dim, const What& what) {
  if (head_dim <= 32) {
    what(Product(), Dim<32>());
  } else if (head_dim <= 64) {
    what(Product(), Dim<64>());
  } else if (head_dim <= 96) {
    what(Product(), Dim<96>());
  } else {
    what(Product(), Dim<128>());
  }
}

/// Calls what(product, dim) with the types that choose an instance of a kernel.
template <class What>
void with_instance(const AttentionInputs& in, const What& what) {
  check_head_dim(in.head_dim);
  switch (in.dtype) {
    case BERTOLOGY_BFLOAT16:
      return with_dim<BFloat16Product>(in.head_dim, what);
    case BERTOLOGY_FLOAT16:
      return with_dim<Float16Product>(in.head_dim, what);
    default:
      return with_dim<FloatProduct>(in.head_dim, what);
  }
}

/// Lets a kernel have `bytes` of dynamic shared memory, and as much as there is: other threads,
/// which share the limit, must not lower it before the launch. Kernels have no other shared memory.
template <class Kernel>
void allow_shared_memory(Context& context, Kernel* kernel, int64_t bytes) {
  if (bytes <= 48 * 1024) return;
  context.check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                     cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(context.shared_memory_per_block())),
                "cudaFuncSetAttribute of attention");
}

// ----------------------------------------------------------------------------------------------
// zeros of the heads that are not computed

struct MaskedZeros {
  static constexpr int kMost = 4;
  struct Matrix {
    float* rows;  // null: none
    int64_t stride;
    bool of_keys;
  };
  Matrix matrices[kMost];
  float* of_queries;  // by sequence [heads, queries]
  float* maps;        // by sequence [heads, n, n]
};

/// One block for each (sequence, head).
static __global__ void __launch_bounds__(256)
    zero_masked_heads(const AttentionShape shape, const HeadList list, const MaskedZeros zeros) {
  const int64_t sequence = blockIdx.x;
  const int head = list.head[blockIdx.y];
  const HeadRows at(shape, sequence, head);
  for (const MaskedZeros::Matrix& matrix : zeros.matrices) {
    if (matrix.rows == nullptr) continue;
    const int64_t first = matrix.of_keys ? at.first_key : at.first_query;
    float* rows = matrix.rows + first * matrix.stride + at.column;
    const int count = (matrix.of_keys ? at.keys : at.queries) * shape.head_dim;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      rows[i / shape.head_dim * matrix.stride + i % shape.head_dim] = 0;
    }
  }
  if (zeros.of_queries != nullptr) {
    float* values = at.of_queries(zeros.of_queries, shape, head);
    for (int i = threadIdx.x; i < at.queries; i += blockDim.x) values[i] = 0;
  }
  if (zeros.maps != nullptr) {
    float* map = at.map(zeros.maps, shape, sequence, head);
    const int64_t count = static_cast<int64_t>(at.queries) * at.keys;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) map[i] = 0;
  }
}

}  // namespace bertology::cuda
