// Rows of a sequence in shared memory, and how fragments of products are read from there and
// written to global memory.
#pragma once

#include <cstdint>

#include "cuda/copy_async.cuh"
#include "cuda/mma.cuh"
#include "cuda/warp.cuh"

namespace bertology::cuda {

constexpr int kRowsOfWarp = 16;  // of the left matrix of a warp's products

/// The same number, about which the compiler knows nothing: what is made of it is made again
/// instead of being kept in registers for long.
__device__ __forceinline__ int again(int number) {
  asm volatile("" : "+r"(number));
  return number;
}

/// False, since blocks are whole warps, but ptxas does not know. It delays additions as far as it
/// can, until registers do not suffice: across a branch it cannot. For every i another condition.
__device__ __forceinline__ bool never(int i) { return blockDim.x == static_cast<unsigned>(1 + i); }

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

/// Four floats of which `count` are there, the others 0.
__device__ __forceinline__ float4 load_four(const float* from, int count, bool aligned) {
  if (aligned && count >= 4) return *reinterpret_cast<const float4*>(from);
  return {count > 0 ? from[0] : 0.0f, count > 1 ? from[1] : 0.0f, count > 2 ? from[2] : 0.0f,
          count > 3 ? from[3] : 0.0f};
}
__device__ __forceinline__ float2 load_two(const float* from, int count, bool aligned) {
  if (aligned && count >= 2) return *reinterpret_cast<const float2*>(from);
  return {count > 0 ? from[0] : 0.0f, count > 1 ? from[1] : 0.0f};
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

// ----------------------------------------------------------------------------------------------
// fragments

/// Where a lane is in the fragments of a warp.
struct Lane {
  __device__ __forceinline__ Lane() : Lane(threadIdx.x) {}
  __device__ __forceinline__ explicit Lane(int thread)
      : l(thread % kWarp), g(thread % kWarp / 4), t(thread % 4) {}
  int l, g, t;
};

/// The left matrix whose columns are the results of two products, 8 columns each.
template <class Product>
__device__ __forceinline__ typename Product::Left left_of(const float (&a)[4],
                                                          const float (&b)[4]) {
  return Product::left(Product::keep({a[0], a[1], b[0], b[1]}, {a[2], a[3], b[2], b[3]}));
}

// ----------------------------------------------------------------------------------------------
// tiles

// A tile is [rows, kDim] in shared memory. FloatTile and HalfTile have the same functions, which
// FloatTile explains.

/// Rows of single precision, as they are in global memory: most are copied without a detour.
///
/// A row is in chunks of four floats, which change places within groups of eight by the last four
/// bits of the row, so that none of these accesses of a warp meets a bank twice:
/// - rows of a product: rows g, chunks c + t;
/// - columns of a product whose k runs along the rows: rows 2 t + i or 4 t + i, chunks as
///   column_chunk() or SixteenColumns::chunk_of().
template <int kDim>
struct FloatTile {
  static constexpr int kColumns = kDim;
  using Element = float;
  using Product = FloatProduct;
  using Left = Product::Left;

  /// Starts to copy rows of `dim` floats into a tile, by the whole block. What lies behind them, up
  /// to `padded` rows of kDim, becomes 0.
  static __device__ __forceinline__ void load(float* tile, const float* from, int64_t stride,
                                              int rows, int padded, int dim, bool aligned) {
    constexpr int kChunks = kDim / 4;
    for (int i = again(threadIdx.x); i < padded * kChunks; i += blockDim.x) {
      const int row = i / kChunks;
      const int chunk = i % kChunks;
      float* to = chunk_at(tile, row, chunk);
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
  /// Four columns of a row.
  static __device__ __forceinline__ void put(float* tile, int row, int four, const float4& v) {
    *reinterpret_cast<float4*>(chunk_at(tile, row, four)) = v;
  }
  /// What a lane has of sixteen columns of a row in global memory as a left matrix: four columns
  /// from kLaneColumns t on, or two and the two that are eight further; `count` are there from its
  /// first on.
  static constexpr int kLaneColumns = 4;
  static __device__ __forceinline__ float4 row_part(const float* row, int count, bool aligned) {
    return load_four(row, count, aligned);
  }
  /// Columns 16 k ... of sixteen rows from `first` on, as a left matrix.
  static __device__ __forceinline__ Left left_of_rows(const float* tile, int first, int k,
                                                      Lane lane) {
    return Product::left(
        Product::keep(row_of<0>(tile, first, k, lane), row_of<1>(tile, first, k, lane)));
  }
  /// Products with eight rows and the next eight, from `first` on, grow by what the columns 16 k
  /// ... add.
  static __device__ __forceinline__ void multiply_rows(float (&sum)[4], float (&next)[4],
                                                       const Left& left, const float* tile,
                                                       int first, int k, Lane lane) {
    Product::multiply(sum, left, Product::right(row_of<0>(tile, first, k, lane)));
    Product::multiply(next, left, Product::right(row_of<1>(tile, first, k, lane)));
  }
  /// sum[8 products of 16 x 8, kDim] += left [16, 16] tile[first ... + 15, kDim]
  static __device__ __forceinline__ void multiply_columns(float (&sum)[kDim / 8][4],
                                                          const Left& left, const float* tile,
                                                          int first, Lane lane) {
#pragma unroll
    for (int u = 0; u < kDim / 32; ++u) {
      if (never(u)) continue;  // four products at a time
      const Columns columns(tile, first, u, lane);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        Product::add(sum[4 * u + i], left, Product::right(columns.product(i)));
      }
    }
  }
  /// The same of sixteen columns, the part `part`, and of a left matrix of which a lane has the
  /// four columns from 4 t on of rows g and g + 8.
  static __device__ __forceinline__ void multiply_part(float (&sum)[2][4], const float4& upper,
                                                       const float4& lower, const float* tile,
                                                       int first, int part, Lane lane) {
    const Left left = Product::left(Product::keep(upper, lower));
    const SixteenColumns columns(tile, first, part, lane);
    Product::add(sum[0], left, Product::right(columns.product(0)));
    Product::add(sum[1], left, Product::right(columns.product(1)));
  }
  /// to[g or g + 8] = factor times the results of multiply_part, or grows by them. Rows from `rows`
  /// on and columns from `dim` on are not there.
  static __device__ __forceinline__ void store_part(float* to, int64_t stride, int rows, int dim,
                                                    int part, const float (&sum)[2][4],
                                                    float factor, bool grows, bool aligned,
                                                    Lane lane) {
    const int column = part / 2 * 32 + 4 * SixteenColumns::chunk_of(part, lane.t);
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
  /// to[g or g + 8] = factor times the results of multiply_columns. Rows from `rows` on and columns
  /// from `dim` on are not there.
  static __device__ __forceinline__ void store(float* to, int64_t stride, int rows, int dim,
                                               const float (&results)[kDim / 8][4], float factor,
                                               bool aligned, Lane lane) {
#pragma unroll
    for (int u = 0; u < kDim / 32; ++u) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = lane.g + 8 * half;
        if (row >= rows) continue;
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          const int column = 32 * u + 16 * b + 4 * lane.t;
          const int e = 2 * half + b;
          store_four(to + row * stride + column,
                     {factor * results[4 * u][e], factor * results[4 * u + 1][e],
                      factor * results[4 * u + 2][e], factor * results[4 * u + 3][e]},
                     dim - column, aligned);
        }
      }
    }
  }

 private:
  /// Linear: swizzle(a + b) = swizzle(a) ^ swizzle(b) where a and b have no bits in common.
  static __device__ __forceinline__ constexpr int swizzle(int row) {
    return (row >> 2 & 1) | ((row >> 1 ^ row >> 3) & 1) << 1 | (row & 1) << 2;
  }
  static __device__ __forceinline__ float* chunk_at(float* tile, int row, int chunk) {
    return tile + row * kDim + 4 * (chunk ^ swizzle(row));
  }

  /// Elements 16 k + 4 t ... of row `first` + 8 kEight + g; `first` is a multiple of 16.
  template <int kEight>
  static __device__ __forceinline__ float4 row_of(const float* tile, int first, int k, Lane lane) {
    // All but the constants is the same for every k, and stays in registers.
    const int even = lane.t ^ swizzle(lane.g) ^ swizzle(8 * kEight);
    const int chunk = 8 * (k / 2) + (even ^ 4 * (k % 2));
    return load_shared(tile + (first + lane.g) * kDim + 8 * kEight * kDim + 4 * chunk);
  }

  /// The columns 32 u ... of four products whose k is the rows `first` ... + 15: a lane's rows are
  /// those of the results it holds: 2 t, 2 t + 1, 2 t + 8, 2 t + 9.
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
    /// Chunk of lane group g in a group of eight chunks: of product i they are the elements i of
    /// the chunks. With this order, what a quad holds of a row of the four results is 64 adjacent
    /// bytes, twice: store().
    static __device__ __forceinline__ int column_chunk(int g) { return g / 2 + 4 * (g % 2); }
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

  /// Sixteen columns, as of two products whose k is the rows `first` ... + 15, those of a lane 4 t
  /// ...: four of the eight chunks that two parts share. With this order no bank is met twice, and
  /// what a lane holds of a row of both results is one chunk.
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
  template <class T>
  static __device__ __forceinline__ T* at(T* tile, int row, int chunk) {
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
  static __device__ __forceinline__ void multiply_rows(float (&sum)[4], float (&next)[4],
                                                       const Left& left, const uint16_t* tile,
                                                       int first, int k, Lane lane) {
    Right right[2];
    load_matrices<false>(right[0].r[0], right[0].r[1], right[1].r[0], right[1].r[1], tile,
                         first + lane.l / 16 * 8 + lane.l % 8, 2 * k + lane.l / 8 % 2);
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
  /// Each lane names a row of one of the four matrices.
  template <bool kTransposed>
  static __device__ __forceinline__ void load_matrices(uint32_t& a, uint32_t& b, uint32_t& c,
                                                       uint32_t& d, const uint16_t* tile, int row,
                                                       int chunk) {
    load_four_matrices<kTransposed>(a, b, c, d, at(tile, row, chunk));
  }
};

template <class Product, int kDim>
struct RowTileOf {
  using Type = FloatTile<kDim>;
};
template <class Half, int kDim>
struct RowTileOf<HalfProduct<Half>, kDim> {
  using Type = HalfTile<Half, kDim>;
};
/// How rows are in shared memory for products of a kind.
template <class Product, int kDim>
using RowTile = typename RowTileOf<Product, kDim>::Type;

/// results[8 rows of `columns` each] = the rows `first` ... + 15 of `rows` times those of
/// `columns`. With kUnrolled of the steps along a row at once: with too many, registers do not
/// suffice.
template <class Rows, int kUnrolled, int kCount>
__device__ __forceinline__ void products_of_rows(float (&results)[kCount][4],
                                                 const typename Rows::Element* rows, int first,
                                                 const typename Rows::Element* columns, Lane lane) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) results[j][e] = 0;
  }
#pragma unroll kUnrolled
  for (int k = 0; k < Rows::kColumns / 16; ++k) {
    const auto left = Rows::left_of_rows(rows, first, k, lane);
#pragma unroll
    for (int j = 0; j < kCount; j += 2)
      Rows::multiply_rows(results[j], results[j + 1], left, columns, 8 * j, k, lane);
  }
}

}  // namespace bertology::cuda
