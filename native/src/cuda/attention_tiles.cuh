// What the kernels of attention share: their arguments, tiles of rows in shared memory and how
// fragments of products are read from and written to them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "cuda/copy_async.cuh"
#include "cuda/mma.cuh"
#include "cuda/stream.h"
#include "cuda/warp.cuh"
#include "ops/attention.h"

namespace bertology::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

constexpr int64_t kMaxHeadDim = 128;
constexpr int kMaxWarps = 8;     // of a block
constexpr int kRowsOfWarp = 16;  // of the left matrix of its products

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

/// The same number, about which the compiler knows nothing: what is made of it is made again
/// instead of being kept in registers for long.
__device__ __forceinline__ int again(int number) {
  asm volatile("" : "+r"(number));
  return number;
}

// ----------------------------------------------------------------------------------------------
// accesses of 8 and 16 bytes, which the compiler takes apart now and then

__device__ __forceinline__ float4 load_shared(const float* from) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(from)))
               : "memory");
  return v;
}
__device__ __forceinline__ float2 load_two_shared(const float* from) {
  float2 v;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
               : "=f"(v.x), "=f"(v.y)
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(from)))
               : "memory");
  return v;
}
__device__ __forceinline__ void store_shared(void* to, uint32_t low, uint32_t high) {
  asm volatile(
      "st.shared.v2.b32 [%0], {%1, %2};" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "r"(low), "r"(high)
      : "memory");
}
__device__ __forceinline__ void store_global(float* to, const float4& v) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
               "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
               : "memory");
}

// ----------------------------------------------------------------------------------------------
// tiles

// A tile is [rows, kDim] in shared memory, its rows in chunks of four floats. Chunks change places
// within groups of eight by the last four bits of their row, so that none of these accesses of a
// warp, of 16 bytes a lane, meets a bank twice (a quarter of the warp is served at a time):
// - rows of a product: rows g, chunks c + t;
// - columns of a product whose k runs along the rows: rows 2 t + i or 4 t + i, chunks as
//   column_chunk() or SixteenColumns::chunk_of().
// It is linear: swizzle(a + b) = swizzle(a) ^ swizzle(b) where a and b have no bits in common.
__host__ __device__ constexpr int swizzle(int row) {
  return (row >> 2 & 1) | ((row >> 1 ^ row >> 3) & 1) << 1 | (row & 1) << 2;
}

template <int kDim>
__device__ __forceinline__ float* tile_chunk(float* tile, int row, int chunk) {
  return tile + row * kDim + 4 * (chunk ^ swizzle(row));
}

/// Chunk of lane group g in a group of eight chunks, when the columns of four products are read at
/// once: of product i they are the elements i of the chunks. With this order, what a quad holds of
/// a row of the four results is 64 adjacent bytes, twice: store_rows().
__device__ __forceinline__ int column_chunk(int g) { return g / 2 + 4 * (g % 2); }

/// Four floats of which `count` are there, the others 0.
__device__ __forceinline__ float4 load_four(const float* from, int count, bool aligned) {
  if (aligned && count >= 4) return *reinterpret_cast<const float4*>(from);
  return {count > 0 ? from[0] : 0.0f, count > 1 ? from[1] : 0.0f, count > 2 ? from[2] : 0.0f,
          count > 3 ? from[3] : 0.0f};
}

__device__ __forceinline__ void store_four(float* to, const float4& values, int count,
                                           bool aligned) {
  if (aligned && count >= 4) {
    store_global(to, values);
    return;
  }
  if (count > 0) to[0] = values.x;
  if (count > 1) to[1] = values.y;
  if (count > 2) to[2] = values.z;
  if (count > 3) to[3] = values.w;
}

/// Starts to copy rows of `dim` floats into a tile, by the whole block. What lies behind them, up
/// to `padded` rows of kDim, becomes 0.
template <int kDim>
__device__ __forceinline__ void load_tile(float* tile, const float* from, int64_t stride, int rows,
                                          int padded, int dim, bool aligned) {
  constexpr int kChunks = kDim / 4;
  for (int i = again(threadIdx.x); i < padded * kChunks; i += blockDim.x) {
    const int row = i / kChunks;
    const int chunk = i % kChunks;
    float* to = tile_chunk<kDim>(tile, row, chunk);
    const int count = row < rows ? min(dim - 4 * chunk, 4) : 0;
    const float* source = from + row * stride + 4 * chunk;
    if (count <= 0) {
      *reinterpret_cast<float4*>(to) = {0, 0, 0, 0};
    } else if (aligned) {
      copy_async_16(to, source, 4 * count);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (k < count) {
          copy_async_4(to + k, source + k, 4);
        } else {
          to[k] = 0;
        }
      }
    }
  }
}

/// Where a lane is in the fragments of a warp.
struct Lane {
  __device__ __forceinline__ Lane() : Lane(threadIdx.x) {}
  __device__ __forceinline__ explicit Lane(int thread)
      : l(thread % kWarp), g(thread % kWarp / 4), t(thread % 4) {}
  int l, g, t;
};

/// Elements 16 k + 4 t ... of row `first` + 8 kEight + g of a tile; `first` is a multiple of 16.
template <int kDim, int kEight>
__device__ __forceinline__ float4 row_of(const float* tile, int first, int k, Lane lane) {
  // All but the constants is the same for every k, and stays in registers.
  const int even = lane.t ^ swizzle(lane.g) ^ swizzle(8 * kEight);
  const int chunk = 8 * (k / 2) + (even ^ 4 * (k % 2));
  return load_shared(tile + (first + lane.g) * kDim + 8 * kEight * kDim + 4 * chunk);
}

/// The columns 32 u ... of four products whose k is the rows `first` ... + 15 of a tile: a lane's
/// rows are those of the results it holds: 2 t, 2 t + 1, 2 t + 8, 2 t + 9.
template <int kDim>
struct Columns {
  float4 rows[4];
  __device__ __forceinline__ Columns(const float* tile, int first, int u, Lane lane) {
    const int lane_row = 2 * lane.t;
    const int lane_chunk = column_chunk(lane.g) ^ swizzle(lane_row);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int step = i % 2 + i / 2 * 8;
      const int chunk = 8 * u + (lane_chunk ^ swizzle(step));
      rows[i] = load_shared(tile + (first + lane_row + step) * kDim + 4 * chunk);
    }
  }
  __device__ __forceinline__ float4 product(int i) const {
    switch (i) {
      case 0:
        return {rows[0].x, rows[1].x, rows[2].x, rows[3].x};
      case 1:
        return {rows[0].y, rows[1].y, rows[2].y, rows[3].y};
      case 2:
        return {rows[0].z, rows[1].z, rows[2].z, rows[3].z};
      default:
        return {rows[0].w, rows[1].w, rows[2].w, rows[3].w};
    }
  }
};

/// The left matrix whose columns are the results of two products, 8 columns each.
template <class Product>
__device__ __forceinline__ typename Product::Left left_of(const float (&a)[4],
                                                          const float (&b)[4]) {
  return Product::left(Product::keep({a[0], a[1], b[0], b[1]}, {a[2], a[3], b[2], b[3]}));
}

/// to[g or g + 8][32 u ...] = factor times the results of four products read by Columns; rows
/// from `rows` on and columns from `dim` on are not there.
__device__ __forceinline__ void store_rows(float* to, int64_t stride, int rows, int dim, int u,
                                           const float (&results)[4][4], float factor, bool aligned,
                                           Lane lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane.g + 8 * half;
    if (row >= rows) continue;
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const int column = 32 * u + 16 * b + 4 * lane.t;
      const int e = 2 * half + b;
      store_four(to + row * stride + column,
                 {factor * results[0][e], factor * results[1][e], factor * results[2][e],
                  factor * results[3][e]},
                 dim - column, aligned);
    }
  }
}

/// Sixteen columns of a tile, as of two products whose k is its rows `first` ... + 15, those of a
/// lane 4 t ...: four of the eight chunks that two parts share. With this order no bank is met
/// twice, and what a lane holds of a row of both results is one chunk.
template <int kDim>
struct SixteenColumns {
  float2 rows[4];
  __device__ __forceinline__ SixteenColumns(const float* tile, int first, int part, Lane lane) {
    const int lane_chunk = chunk_of(part, lane.g / 2) ^ swizzle(4 * lane.t);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int chunk = part / 2 * 8 + (lane_chunk ^ swizzle(i));
      rows[i] =
          load_two_shared(tile + (first + 4 * lane.t + i) * kDim + 4 * chunk + lane.g % 2 * 2);
    }
  }
  /// Of eight, that of the columns 2 pair and 2 pair + 1 of the results.
  static __device__ __forceinline__ int chunk_of(int part, int pair) {
    return part % 2 * 2 + pair / 2 + pair % 2 * 4;
  }
  __device__ __forceinline__ float4 product(int i) const {
    return i == 0 ? float4{rows[0].x, rows[1].x, rows[2].x, rows[3].x}
                  : float4{rows[0].y, rows[1].y, rows[2].y, rows[3].y};
  }
};

/// Rows of single precision in shared memory, as they are in global memory, copied without a
/// detour.
template <int kDim>
struct FloatTile {
  static constexpr int kColumns = kDim;
  using Element = float;
  using Product = FloatProduct;
  using Left = Product::Left;

  static __device__ __forceinline__ void load(float* tile, const float* from, int64_t stride,
                                              int rows, int padded, int dim, bool aligned) {
    load_tile<kDim>(tile, from, stride, rows, padded, dim, aligned);
  }
  static __device__ __forceinline__ void put(float* tile, int row, int four, const float4& v) {
    *reinterpret_cast<float4*>(tile_chunk<kDim>(tile, row, four)) = v;
  }
  /// What a lane has of sixteen columns of a row: from kLaneColumns t on, of which `count` are
  /// there.
  static constexpr int kLaneColumns = 4;
  static __device__ __forceinline__ float4 row_part(const float* row, int count, bool aligned) {
    return load_four(row, count, aligned);
  }
  /// Columns 16 k ... of sixteen rows from `first` on, as a left matrix.
  static __device__ __forceinline__ Left left_of_rows(const float* tile, int first, int k,
                                                      Lane lane) {
    return Product::left(Product::keep(row_of<kDim, 0>(tile, first, k, lane),
                                       row_of<kDim, 1>(tile, first, k, lane)));
  }
  /// Products with eight rows and the next eight, from `first` on, grow by what the columns 16 k
  /// ... add.
  static __device__ __forceinline__ void multiply_rows(float (&sum)[4], float (&next)[4],
                                                       const Left& left, const float* tile,
                                                       int first, int k, Lane lane) {
    Product::multiply(sum, left, Product::right(row_of<kDim, 0>(tile, first, k, lane)));
    Product::multiply(next, left, Product::right(row_of<kDim, 1>(tile, first, k, lane)));
  }
  /// sum[8 products of 16 x 8, kDim] += left [16, 16] tile[first ... + 15, kDim]
  static __device__ __forceinline__ void multiply_columns(float (&sum)[kDim / 8][4],
                                                          const Left& left, const float* tile,
                                                          int first, Lane lane) {
#pragma unroll
    for (int u = 0; u < kDim / 32; ++u) {
      const Columns<kDim> columns(tile, first, u, lane);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        Product::multiply(sum[4 * u + i], left, Product::right(columns.product(i)));
      }
    }
  }
  /// The same of sixteen columns, of a left matrix of which a lane has the four columns from 4 t on
  /// of rows g and g + 8.
  static __device__ __forceinline__ void multiply_part(float (&sum)[2][4], const float4& upper,
                                                       const float4& lower, const float* tile,
                                                       int first, int part, Lane lane) {
    const Left left = Product::left(Product::keep(upper, lower));
    const SixteenColumns<kDim> columns(tile, first, part, lane);
    Product::multiply(sum[0], left, Product::right(columns.product(0)));
    Product::multiply(sum[1], left, Product::right(columns.product(1)));
  }
  /// to[row of the part] = or, if it `grows`, += factor times the results of multiply_part.
  static __device__ __forceinline__ void store_part(float* to, int64_t stride, int rows, int dim,
                                                    int part, const float (&sum)[2][4],
                                                    float factor, bool grows, bool aligned,
                                                    Lane lane) {
    const int column = part / 2 * 32 + 4 * SixteenColumns<kDim>::chunk_of(part, lane.t);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane.g + 8 * half;
      if (row >= rows) continue;
      float* place = to + row * stride + column;
      float4 v = {factor * sum[0][2 * half], factor * sum[1][2 * half],
                  factor * sum[0][2 * half + 1], factor * sum[1][2 * half + 1]};
      if (grows) {
        const float4 before = load_four(place, dim - column, aligned);
        v = {before.x + v.x, before.y + v.y, before.z + v.z, before.w + v.w};
      }
      store_four(place, v, dim - column, aligned);
    }
  }
  /// Of all columns; rows from `rows` on and columns from `dim` on are not there.
  static __device__ __forceinline__ void store(float* to, int64_t stride, int rows, int dim,
                                               const float (&results)[kDim / 8][4], float factor,
                                               bool aligned, Lane lane) {
#pragma unroll
    for (int u = 0; u < kDim / 32; ++u) {
      store_rows(to, stride, rows, dim, u, *reinterpret_cast<const float(*)[4][4]>(&results[4 * u]),
                 factor, aligned, lane);
    }
  }
};

/// Four matrices of 8 x 8 halves, each lane naming the place of a row of one of them.
template <bool kTransposed>
__device__ __forceinline__ void load_four_matrices(uint32_t& a, uint32_t& b, uint32_t& c,
                                                   uint32_t& d, const uint16_t* row) {
  const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
                 : "r"(from)
                 : "memory");
  }
}

/// Rows of half precision in shared memory: rounded once, when they come, and read with ldmatrix,
/// which gives four matrices of 8 x 8 to a warp. The k of its products runs as the instruction has
/// it, and what a lane holds of a result are two adjacent columns.
template <class Half, int kDim>
struct HalfTile {
  static constexpr int kColumns = kDim;
  using Element = uint16_t;
  using Product = HalfProduct<Half>;
  using Left = typename Product::Left;
  using Right = typename Product::Right;

  /// Where the eight columns of a chunk are: chunks change places so that those of eight rows lie
  /// in different banks.
  static __device__ __forceinline__ uint16_t* at(uint16_t* tile, int row, int chunk) {
    return tile + row * kDim + 8 * (chunk ^ (kDim % 64 == 0 ? row % 8 : row / 2 % 4));
  }
  static __device__ __forceinline__ void put(uint16_t* tile, int row, int four, const float4& v) {
    store_shared(at(tile, row, four / 2) + four % 2 * 4, Half::pack(v.x, v.y),
                 Half::pack(v.z, v.w));
  }
  static constexpr int kLaneColumns = 2;
  static __device__ __forceinline__ float4 row_part(const float* row, int count, bool aligned) {
    const float2 a = load_two(row, count, aligned);
    const float2 b = load_two(row + 8, count - 8, aligned);
    return {a.x, a.y, b.x, b.y};
  }
  /// As load_tile, but when it returns the rows have been written.
  static __device__ __forceinline__ void load(uint16_t* tile, const float* from, int64_t stride,
                                              int rows, int padded, int dim, bool aligned) {
    constexpr int kFours = kDim / 4;
#pragma unroll 4
    for (int i = threadIdx.x; i < padded * kFours; i += blockDim.x) {
      const int row = i / kFours;
      const int four = i % kFours;
      put(tile, row, four,
          load_four(from + row * stride + 4 * four, row < rows ? dim - 4 * four : 0, aligned));
    }
  }

  /// Columns 16 k ... of sixteen rows from `first` on, as a left matrix.
  static __device__ __forceinline__ Left left_of_rows(const uint16_t* tile, int first, int k,
                                                      Lane lane) {
    Left left;
    load_matrices<false>(left.r[0], left.r[1], left.r[2], left.r[3], tile, first + lane.l % 16,
                         2 * k + lane.l / 16);
    return left;
  }
  /// The same of eight rows and the next eight, as right matrices.
  static __device__ __forceinline__ void rights_of_rows(Right (&right)[2], const uint16_t* tile,
                                                        int first, int k, Lane lane) {
    load_matrices<false>(right[0].r[0], right[0].r[1], right[1].r[0], right[1].r[1], tile,
                         first + lane.l / 16 * 8 + lane.l % 8, 2 * k + lane.l / 8 % 2);
  }
  static __device__ __forceinline__ void multiply_rows(float (&sum)[4], float (&next)[4],
                                                       const Left& left, const uint16_t* tile,
                                                       int first, int k, Lane lane) {
    Right right[2];
    rights_of_rows(right, tile, first, k, lane);
    Product::multiply(sum, left, right[0]);
    Product::multiply(next, left, right[1]);
  }
  /// Eight columns, those of a chunk, of sixteen rows and the next sixteen: right matrices whose k
  /// are the rows.
  static __device__ __forceinline__ void rights_of_columns(Right (&right)[2], const uint16_t* tile,
                                                           int first, int chunk, Lane lane) {
    load_matrices<true>(right[0].r[0], right[0].r[1], right[1].r[0], right[1].r[1], tile,
                        first + lane.l, chunk);
  }
  /// sum += left [16, 16] tile[first ... + 15, kDim]
  static __device__ __forceinline__ void multiply_columns(float (&sum)[kDim / 8][4],
                                                          const Left& left, const uint16_t* tile,
                                                          int first, Lane lane) {
#pragma unroll
    for (int c = 0; c < kDim / 8; c += 2) {
      Right right[2];
      load_matrices<true>(right[0].r[0], right[0].r[1], right[1].r[0], right[1].r[1], tile,
                          first + lane.l % 16, c + lane.l / 16);
      Product::multiply(sum[c], left, right[0]);
      Product::multiply(sum[c + 1], left, right[1]);
    }
  }

  /// See FloatTile. The k of a lane are the four rows from 4 t on here: of the lanes in the second
  /// half of a quad the last two first, so that the eight rows of a matrix lie in different banks.
  static __device__ __forceinline__ void multiply_part(float (&sum)[2][4], const float4& upper,
                                                       const float4& lower, const uint16_t* tile,
                                                       int first, int part, Lane lane) {
    const auto ordered = [&](const float4& v) {
      return lane.t < 2 ? v : float4{v.z, v.w, v.x, v.y};
    };
    const Left left = Product::left(Product::keep(ordered(upper), ordered(lower)));
    const int row = lane.l % 8;  // of a matrix
    Right right[2];
    load_matrices<true>(right[0].r[0], right[0].r[1], right[1].r[0], right[1].r[1], tile,
                        first + row / 2 * 4 + row % 2 + 2 * (row / 4 ^ lane.l / 8 % 2),
                        2 * part + lane.l / 16);
    Product::multiply(sum[0], left, right[0]);
    Product::multiply(sum[1], left, right[1]);
  }
  static __device__ __forceinline__ void store_part(float* to, int64_t stride, int rows, int dim,
                                                    int part, const float (&sum)[2][4],
                                                    float factor, bool grows, bool aligned,
                                                    Lane lane) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float result[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) result[e] = factor * sum[c][e];
      const int column = 16 * part + 8 * c + 2 * lane.t;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = lane.g + 8 * half;
        if (!grows || row >= rows) continue;
        const float2 before = load_two(to + row * stride + column, dim - column, aligned);
        result[2 * half] += before.x;
        result[2 * half + 1] += before.y;
      }
      store(to, stride, rows, dim, 2 * part + c, result, 1, aligned, lane);
    }
  }

  /// to[g or g + 8][8 chunk + 2 t ...] = factor times a result; rows from `rows` on and columns
  /// from `dim` on are not there.
  static __device__ __forceinline__ void store(float* to, int64_t stride, int rows, int dim,
                                               int chunk, const float (&result)[4], float factor,
                                               bool aligned, Lane lane) {
    const int column = 8 * chunk + 2 * lane.t;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane.g + 8 * half;
      if (row >= rows) continue;
      float* place = to + row * stride + column;
      const float2 v = {factor * result[2 * half], factor * result[2 * half + 1]};
      if (aligned && column + 1 < dim) {
        *reinterpret_cast<float2*>(place) = v;
      } else {
        if (column < dim) place[0] = v.x;
        if (column + 1 < dim) place[1] = v.y;
      }
    }
  }
  static __device__ __forceinline__ void store(float* to, int64_t stride, int rows, int dim,
                                               const float (&results)[kDim / 8][4], float factor,
                                               bool aligned, Lane lane) {
#pragma unroll
    for (int c = 0; c < kDim / 8; ++c)
      store(to, stride, rows, dim, c, results[c], factor, aligned, lane);
  }

 private:
  static __device__ __forceinline__ float2 load_two(const float* from, int count, bool aligned) {
    if (aligned && count >= 2) return *reinterpret_cast<const float2*>(from);
    return {count > 0 ? from[0] : 0.0f, count > 1 ? from[1] : 0.0f};
  }
  /// Each lane names a row of one of the four matrices.
  template <bool kTransposed>
  static __device__ __forceinline__ void load_matrices(uint32_t& a, uint32_t& b, uint32_t& c,
                                                       uint32_t& d, const uint16_t* tile, int row,
                                                       int chunk) {
    load_four_matrices<kTransposed>(a, b, c, d, at(const_cast<uint16_t*>(tile), row, chunk));
  }
};

template <class Product, int kDim>
struct TileOf {
  using Type = FloatTile<kDim>;
};
template <class Half, int kDim>
struct TileOf<HalfProduct<Half>, kDim> {
  using Type = HalfTile<Half, kDim>;
};
/// How rows are in shared memory for products of a kind.
template <class Product, int kDim>
using Tile = typename TileOf<Product, kDim>::Type;

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

inline int64_t longest(const Sequences& sequences) {
  int64_t length = 0;
  for (int64_t b = 0; b < sequences.count; ++b) length = std::max(length, sequences.length(b));
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

/// Calls what(product, dim) with the types that choose an instance of a kernel.
template <class What>
void with_instance(const AttentionInputs& in, const What& what);

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

/// Lets a kernel have `bytes` of dynamic shared memory.
template <class Kernel>
void allow_shared_memory(Context& context, Kernel* kernel, int64_t bytes) {
  if (bytes <= 48 * 1024) return;
  context.check(
      cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                           cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
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
    for (int i = threadIdx.x; i < at.queries * at.keys; i += blockDim.x) map[i] = 0;
  }
}

}  // namespace bertology::cuda
