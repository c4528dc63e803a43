// Attention backward: FlashAttention-2 (Dao 2023), algorithm 2. With p recomputed from the
// log-sum-exp and D_i = sum_c o_ic dcontext_ic:
//   dV = m P^T dO,  dS = P (dO V^T - D),  dQ = m scale dS K,  dK = m scale dS^T Q.
// The gradient of the head is g = sum_i D_i (Michel et al. 2019): it comes for nothing.
//
// Half precision: attention_backward_half.cu, everything in one kernel, for as many queries as fit
// a block. float32: key_gradients<kWhole> is such a kernel for as many keys as fit. The others:
// head_gradients for D, then key_gradients and query_gradients, which go over tiles of keys and of
// queries. No sum depends on the order of blocks.
#include <algorithm>
#include <type_traits>

#include "cuda/attention_backward.cuh"

namespace bertology::cuda {
namespace {

constexpr int kQueryTile = 32;
constexpr int kKeyTile = 32;  // of query_gradients

// ----------------------------------------------------------------------------------------------
// gradients of heads

/// D of a row, in each of its kRowLanes lanes; `o` and `d` give chunks of four floats.
template <class Output, class Gradient>
__device__ __forceinline__ float row_product(int chunks, const Output& o, const Gradient& d) {
  float product = 0;
  for (int c = threadIdx.x % kRowLanes; c < chunks; c += kRowLanes)
    add_product(product, o(c), d(c));
  return sum_row(product);
}

/// Of a block's sequence and head in [sequences, heads].
__device__ __forceinline__ int64_t sequence_head(const AttentionShape& shape, int head) {
  return static_cast<int64_t>(blockIdx.x) * shape.heads + head;
}

/// Multiplies a tile in shared memory that has come, by the whole block.
__device__ __forceinline__ void scale_tile(float* tile, int count, float factor) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) tile[i] *= factor;
  __syncthreads();
}

/// g, and what the kernels that follow need: a block for each (sequence, head).
__global__ void __launch_bounds__(kMaxWarps* kWarp)
    head_gradients(const __grid_constant__ Backward op, const __grid_constant__ HeadList list) {
  constexpr int kRows = kMaxWarps * kWarp / kRowLanes;
  static_assert(kRows == kWarp, "finish_head takes a lane for a row");
  __shared__ float signed_sums[kRows];
  __shared__ float absolute_sums[kRows];
  const AttentionShape& shape = op.shape;
  const int head = list.head[blockIdx.y];
  const float mask = list.mask[blockIdx.y];
  const HeadRows at(shape, blockIdx.x, head);
  const float* output = at.dense(op.head_outputs);
  const float* d_context = at.dense(op.d_context);
  const int chunks = (shape.head_dim + 3) / 4;
  const int group = threadIdx.x / kRowLanes;
  float signed_sum = 0;
  float absolute_sum = 0;
  float largest = 0;
  for (int first = 0; first < at.queries; first += kRows) {
    const int row = first + group;
    const int64_t offset = row * at.width;
    const bool there = row < at.queries;
    const float product = row_product(
        there ? chunks : 0,
        [&](int c) {
          return load_four(output + offset + 4 * c, shape.head_dim - 4 * c, shape.aligned);
        },
        [&](int c) {
          const int count = shape.head_dim - 4 * c;
          const float4 d = load_four(d_context + offset + 4 * c, count, shape.aligned);
          if (op.d_head_outputs != nullptr) {
            store_four(at.dense(op.d_head_outputs) + offset + 4 * c,
                       {mask * d.x, mask * d.y, mask * d.z, mask * d.w}, count, shape.aligned);
          }
          largest = fmaxf(largest, largest_of(d));
          return d;
        });
    signed_sum += product;
    absolute_sum += fabsf(product);
    if (op.products != nullptr && there && threadIdx.x % kRowLanes == 0) {
      at.of_queries(op.products, shape, head)[row] = product;
    }
  }
  if (op.units != nullptr) {
    largest = block_max(largest);
    if (threadIdx.x == 0) op.units[sequence_head(shape, head)] = power_of_two(largest);
  }
  if (threadIdx.x % kRowLanes == 0) {
    signed_sums[group] = signed_sum;
    absolute_sums[group] = absolute_sum;
  }
  __syncthreads();
  if (threadIdx.x < kWarp)
    finish_head(op, list, signed_sums[threadIdx.x], absolute_sums[threadIdx.x]);
}

// ----------------------------------------------------------------------------------------------
// gradients of keys and values, and of queries where one block has all keys

// dS of a tile is [kQueryTile, keys up to a multiple of 32] in shared memory. Each warp writes the
// columns of its keys (rows 2 t, chunks c + g / 4) and reads whole rows (rows g, chunks c + t); its
// chunks change places so that neither meets a bank twice.
__host__ __device__ constexpr int swizzle_scores(int row) {
  return (row >> 2 & 1) << 1 | ((row >> 1 ^ row) & 1) << 2;
}

__device__ __forceinline__ float* score_at(float* scores, int width, int row, int key) {
  return scores + row * width + 4 * (key / 4 ^ swizzle_scores(row)) + key % 4;
}

/// results[8 queries each] = left rows of `rows`, 16 from `first` on, times the rows of `columns`.
template <class Product, int kDim, int kUnrolled = kDim / 16>
__device__ __forceinline__ void multiply_rows(float (&results)[4][4], const float* rows, int first,
                                              const float* columns, Lane lane) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) results[j][e] = 0;
  }
#pragma unroll kUnrolled
  for (int k = 0; k < kDim / 16; ++k) {
    const auto left = Product::left(Product::keep(row_of<kDim, 0>(rows, first, k, lane),
                                                  row_of<kDim, 1>(rows, first, k, lane)));
#pragma unroll
    for (int j = 0; j < 4; j += 2) {
      Product::multiply(results[j], left, Product::right(row_of<kDim, 0>(columns, 8 * j, k, lane)));
      Product::multiply(results[j + 1], left,
                        Product::right(row_of<kDim, 1>(columns, 8 * j, k, lane)));
    }
  }
}

/// Sixteens of rows of a warp, as many as registers hold the gradients of: what passes by is read
/// less often the more there are.
template <int kDim>
constexpr int kTileGroups = kDim <= 64 ? 2 : 1;

/// A block for each (sequence, head, tile of keys), op.key_groups times sixteen keys a warp, over
/// tiles of queries. If kWhole its tile has all keys, sixteen a warp, and it writes the gradients
/// of the queries and of the head too.
template <class Product, int kDim, bool kWhole>
__global__ void __launch_bounds__(kMaxWarps* kWarp)
    key_gradients(const __grid_constant__ Backward op, const __grid_constant__ HeadList list) {
  extern __shared__ __align__(128) float shared[];
  constexpr bool kScaled = std::is_same_v<Product, Float16Product>;
  const AttentionShape& shape = op.shape;
  const int64_t sequence = blockIdx.x;
  const int head = list.head[blockIdx.y];
  const float mask = list.mask[blockIdx.y];
  const HeadRows at(shape, sequence, head);
  const int warps = blockDim.x / kWarp;
  const int warp = threadIdx.x / kWarp;
  constexpr int kUnrolled = kWhole ? kDim / 16 : 2;  // with more, registers do not suffice
  constexpr int kGroups = kWhole ? 1 : kTileGroups<kDim>;
  const int groups = kWhole ? 1 : op.key_groups;
  const int tile_keys = groups * warps * kRowsOfWarp;
  const int first_key = blockIdx.z * tile_keys;
  if (first_key >= at.keys) return;
  const int key_rows = min(tile_keys, at.keys - first_key);
  const auto warp_row_of = [](int group) {
    return static_cast<int>(group * blockDim.x + again(threadIdx.x)) / kWarp * kRowsOfWarp;
  };
  const int scores_width = (tile_keys + 31) / 32 * 32;

  float* keys = shared;
  float* values = keys + tile_keys * kDim;
  float* queries = values + tile_keys * kDim;
  float* d_outputs = queries + kQueryTile * kDim;
  float* log_sums = d_outputs + kQueryTile * kDim;
  float* products = log_sums + kQueryTile;
  float* d_scores = products + kQueryTile;  // only where kWhole

  const int64_t key_offset = (at.first_key + first_key) * shape.key_stride + at.column;
  load_tile<kDim>(keys, shape.key + key_offset, shape.key_stride, key_rows, tile_keys,
                  shape.head_dim, shape.aligned);
  load_tile<kDim>(values, shape.value + key_offset, shape.key_stride, key_rows, tile_keys,
                  shape.head_dim, shape.aligned);

  float d_key[kGroups][kDim / 8][4] = {};
  float d_value[kGroups][kDim / 8][4] = {};
  const float unit = kScaled ? op.units[sequence_head(shape, head)] : 1;
  const float to_units = kScaled ? inverse(unit) : 1;
  float signed_sum = 0;
  float absolute_sum = 0;
  const float scale = shape.scale * kLog2E;
  // Queries in front of the tile see none of its keys.
  const int first_query = shape.causal ? first_key / kQueryTile * kQueryTile : 0;
  for (int query = first_query; query < at.queries; query += kQueryTile) {
    const int rows = min(kQueryTile, at.queries - query);
    if (query != first_query) __syncthreads();  // the tile before has been used
    load_tile<kDim>(queries,
                    shape.query + (at.first_query + query) * shape.query_stride + at.column,
                    shape.query_stride, rows, kQueryTile, shape.head_dim, shape.aligned);
    load_tile<kDim>(d_outputs, at.dense(op.d_context) + query * at.width, at.width, rows,
                    kQueryTile, shape.head_dim, shape.aligned);
    copies_issued();
    for (int i = threadIdx.x; i < kQueryTile; i += blockDim.x) {
      const bool there = i < rows;
      log_sums[i] = there ? at.of_queries(op.log_sum_exp, shape, head)[query + i] * kLog2E : kNever;
      if (!kWhole) {
        products[i] = there ? to_units * at.of_queries(op.products, shape, head)[query + i] : 0;
      }
    }
    copies_arrived<0>();
    __syncthreads();
    if (kScaled) scale_tile(d_outputs, kQueryTile * kDim, to_units);
    if (kWhole) {
      const float* output = at.dense(op.head_outputs) + query * at.width;
      for (int i = threadIdx.x / kRowLanes; i < kQueryTile; i += blockDim.x / kRowLanes) {
        const int64_t offset = i * at.width;
        const float product = row_product(
            i < rows ? (shape.head_dim + 3) / 4 : 0,
            [&](int c) {
              return load_four(output + offset + 4 * c, shape.head_dim - 4 * c, shape.aligned);
            },
            [&](int c) {
              const float4 d = load_shared(tile_chunk<kDim>(d_outputs, i, c));
              if (op.d_head_outputs != nullptr) {
                store_four(at.dense(op.d_head_outputs) + query * at.width + offset + 4 * c,
                           {mask * d.x, mask * d.y, mask * d.z, mask * d.w}, shape.head_dim - 4 * c,
                           shape.aligned);
              }
              return d;
            });
        if (threadIdx.x % kRowLanes == 0) products[i] = product;
      }
      __syncthreads();
      if (warp == 0) {
        signed_sum += products[threadIdx.x];
        absolute_sum += fabsf(products[threadIdx.x]);
      }
    }

    // Transposed: rows are keys, columns are queries.
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      if (kGroups > 1 && group >= groups) break;
      const int warp_row = warp_row_of(group);
      const Lane lane(again(threadIdx.x));
      float scores[4][4];
      float d_probabilities[4][4];
      const int key = first_key + warp_row + lane.g;
      const auto sees = [&](int j, int e) {
        const int of_key = key + e / 2 * 8;
        return of_key < at.keys && (!shape.causal || of_key <= query + 8 * j + 2 * lane.t + e % 2);
      };
      const bool any_seen = !shape.causal || first_key + warp_row < query + kQueryTile;
      if (any_seen) {
        multiply_rows<Product, kDim, kUnrolled>(d_probabilities, values, warp_row, d_outputs, lane);
      }
      if (kWhole && op.d_probabilities != nullptr) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            *score_at(d_scores, scores_width, 8 * j + 2 * lane.t + e % 2,
                      warp_row + lane.g + e / 2 * 8) =
                any_seen && sees(j, e) ? d_probabilities[j][e] : 0;
          }
        }
        __syncthreads();
        float* map = at.map(op.d_probabilities, shape, sequence, head);
        for (int r = warp; r < rows; r += warps) {
          store_run(map + static_cast<int64_t>(query + r) * at.keys, at.keys,
                    [&](int i) { return *score_at(d_scores, scores_width, r, i); });
        }
        __syncthreads();
      }
      if (any_seen) {
        multiply_rows<Product, kDim, kUnrolled>(scores, keys, warp_row, queries, lane);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float2 log_sum = *reinterpret_cast<float2*>(log_sums + 8 * j + 2 * lane.t);
          const float2 product = *reinterpret_cast<float2*>(products + 8 * j + 2 * lane.t);
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const float p =
                probability_of(scores[j][e] * scale - (e % 2 == 0 ? log_sum.x : log_sum.y));
            scores[j][e] = sees(j, e) ? p : 0;
            d_probabilities[j][e] =
                scores[j][e] * (d_probabilities[j][e] - (e % 2 == 0 ? product.x : product.y));
          }
        }
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
          multiply_columns<Product, kDim>(
              d_value[group], left_of<Product>(scores[j], scores[j + 1]), d_outputs, 8 * j, lane);
          multiply_columns<Product, kDim>(
              d_key[group], left_of<Product>(d_probabilities[j], d_probabilities[j + 1]), queries,
              8 * j, lane);
        }
      }
      if (kWhole) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            *score_at(d_scores, scores_width, 8 * j + 2 * lane.t + e % 2,
                      warp_row + lane.g + e / 2 * 8) = any_seen ? d_probabilities[j][e] : 0;
          }
        }
        __syncthreads();
        // dQ of the tile: sixteen rows and 32 columns at a time.
        constexpr int kParts = kDim / 32;
        const int units = (rows + kRowsOfWarp - 1) / kRowsOfWarp * kParts;
        for (int unit = warp; unit < units; unit += warps) {
          const int row = unit / kParts * kRowsOfWarp;
          const int part = unit % kParts;
          float d_query[4][4] = {};
          const int end = shape.causal ? min(at.keys, query + row + kRowsOfWarp) : at.keys;
          for (int k = 0; k < end; k += 16) {
            const int of_key = k + 4 * lane.t;
            const auto left = Product::left(Product::keep(
                load_shared(score_at(d_scores, scores_width, row + lane.g, of_key)),
                load_shared(score_at(d_scores, scores_width, row + lane.g + 8, of_key))));
            const Columns<kDim, true> columns(keys, k, part, lane);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              Product::multiply(d_query[i], left, Product::right(columns.product(i)));
            }
          }
          store_rows(op.d_query + (at.first_query + query + row) * op.d_query_stride + at.column,
                     op.d_query_stride, rows - row, shape.head_dim, part, d_query,
                     mask * shape.scale, shape.aligned, lane);
        }
      }
    }
  }

#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    if (kGroups > 1 && group >= groups) break;
    const int warp_row = warp_row_of(group);
    const Lane lane;
    const int64_t d_offset = (at.first_key + first_key + warp_row) * op.d_key_stride + at.column;
    store_all<kDim>(op.d_key + d_offset, op.d_key_stride, key_rows - warp_row, shape.head_dim,
                    d_key[group], mask * shape.scale * unit, shape.aligned, lane);
    store_all<kDim>(op.d_value + d_offset, op.d_key_stride, key_rows - warp_row, shape.head_dim,
                    d_value[group], mask * unit, shape.aligned, lane);
  }
  if (kWhole && warp == 0) finish_head(op, list, signed_sum, absolute_sum);
}

// ----------------------------------------------------------------------------------------------
// gradients of queries

/// A block for each (sequence, head, tile of queries), op.query_groups times sixteen queries a
/// warp, over tiles of keys.
template <class Product, int kDim>
__global__ void __launch_bounds__(kMaxWarps* kWarp, 1)
    query_gradients(const __grid_constant__ Backward op, const __grid_constant__ HeadList list) {
  extern __shared__ __align__(128) float shared[];
  constexpr bool kScaled = std::is_same_v<Product, Float16Product>;
  const AttentionShape& shape = op.shape;
  const int64_t sequence = blockIdx.x;
  const int head = list.head[blockIdx.y];
  const float mask = list.mask[blockIdx.y];
  const HeadRows at(shape, sequence, head);
  const int warp = threadIdx.x / kWarp;
  const Lane lane;
  constexpr int kGroups = kTileGroups<kDim>;
  const int warps = blockDim.x / kWarp;
  const int tile_rows = op.query_groups * warps * kRowsOfWarp;
  const int first_query = blockIdx.z * tile_rows;
  if (first_query >= at.queries) return;
  const auto warp_row_of = [&](int group) { return (group * warps + warp) * kRowsOfWarp; };
  constexpr int kTileFloats = kKeyTile * kDim;

  float* queries = shared;
  float* d_outputs = queries + tile_rows * kDim;
  float* tiles = d_outputs + tile_rows * kDim;

  const int query_rows = min(tile_rows, at.queries - first_query);
  load_tile<kDim>(queries,
                  shape.query + (at.first_query + first_query) * shape.query_stride + at.column,
                  shape.query_stride, query_rows, tile_rows, shape.head_dim, shape.aligned);
  load_tile<kDim>(d_outputs, at.dense(op.d_context) + first_query * at.width, at.width, query_rows,
                  tile_rows, shape.head_dim, shape.aligned);
  const float* key = shape.key + at.first_key * shape.key_stride + at.column;
  const float* value = shape.value + at.first_key * shape.key_stride + at.column;
  const auto keys_of = [&](int tile) { return tiles + tile % op.stages * 2 * kTileFloats; };
  const auto load = [&](int tile) {
    const int first = tile * kKeyTile;
    const int count = min(kKeyTile, at.keys - first);
    const int64_t offset = first * shape.key_stride;
    load_tile<kDim>(keys_of(tile), key + offset, shape.key_stride, count, kKeyTile, shape.head_dim,
                    shape.aligned);
    load_tile<kDim>(keys_of(tile) + kTileFloats, value + offset, shape.key_stride, count, kKeyTile,
                    shape.head_dim, shape.aligned);
    copies_issued();
  };

  const float unit = kScaled ? op.units[sequence_head(shape, head)] : 1;
  const float to_units = kScaled ? inverse(unit) : 1;
  float log_sums[kGroups][2];
  float row_products[kGroups][2];
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_query + warp_row_of(group) + lane.g + 8 * half;
      const bool there = group < op.query_groups && row < at.queries;
      log_sums[group][half] =
          there ? at.of_queries(op.log_sum_exp, shape, head)[row] * kLog2E : kNever;
      row_products[group][half] =
          there ? to_units * at.of_queries(op.products, shape, head)[row] : 0;
    }
  }

  float d_query[kGroups][kDim / 8][4] = {};
  float map_columns[kGroups][4] = {};
  const float scale = shape.scale * kLog2E;
  const int block_seen = shape.causal ? first_query + query_rows : at.keys;
  const int tile_count = (block_seen + kKeyTile - 1) / kKeyTile;
  const auto map_of = [&](int first_row) {
    return at.map(op.d_probabilities, shape, sequence, head) +
           static_cast<int64_t>(first_row) * at.keys;
  };
  load(0);
  for (int tile = 0; tile < tile_count; ++tile) {
    if (op.stages == 2) {
      if (tile + 1 < tile_count) {
        load(tile + 1);
        copies_arrived<1>();
      } else {
        copies_arrived<0>();
      }
    } else {
      if (tile > 0) load(tile);
      copies_arrived<0>();
    }
    __syncthreads();
    if (kScaled && tile == 0) scale_tile(d_outputs, tile_rows * kDim, to_units);
    const float* keys = keys_of(tile);
    const float* values = keys + kTileFloats;
    const int first_key = tile * kKeyTile;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      if (group >= op.query_groups) break;
      const int warp_row = warp_row_of(group);
      const int first_row = first_query + warp_row;
      if (first_row >= at.queries) break;
      const bool any_seen = !shape.causal || first_key < first_row + kRowsOfWarp;
      if (!any_seen && op.d_probabilities == nullptr) continue;
      float d_scores[4][4] = {};
      if (any_seen) multiply_rows<Product, kDim>(d_scores, d_outputs, warp_row, values, lane);
      const auto sees = [&](int j, int e) {
        const int of_key = first_key + 8 * j + 2 * lane.t + e % 2;
        return of_key < (shape.causal ? first_row + lane.g + e / 2 * 8 + 1 : at.keys);
      };
      if (op.d_probabilities != nullptr) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          float now[4];
#pragma unroll
          for (int e = 0; e < 4; ++e) now[e] = sees(j, e) ? unit * d_scores[j][e] : 0;
          add_columns(map_columns[group], now, map_of(first_row), at.keys, first_key + 8 * j,
                      at.queries - first_row, lane);
        }
      }
      if (op.d_query != nullptr && any_seen) {
        float scores[4][4];
        multiply_rows<Product, kDim>(scores, queries, warp_row, keys, lane);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const float p = probability_of(scores[j][e] * scale - log_sums[group][e / 2]);
            d_scores[j][e] = sees(j, e) ? p * (d_scores[j][e] - row_products[group][e / 2]) : 0;
          }
        }
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
          multiply_columns<Product, kDim>(
              d_query[group], left_of<Product>(d_scores[j], d_scores[j + 1]), keys, 8 * j, lane);
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    if (group >= op.query_groups) break;
    const int first_row = first_query + warp_row_of(group);
    const int rows = at.queries - first_row;
    if (rows < 1) break;
    if (op.d_probabilities != nullptr) {
      // The keys that no query of the block sees, and at least what waits for its sector.
      int key = tile_count * kKeyTile;
      do {
        add_columns(map_columns[group], {}, map_of(first_row), at.keys, key, rows, lane);
        key += 8;
      } while (key < at.keys + 8);
    }
    if (op.d_query != nullptr) {
      store_all<kDim>(op.d_query + (at.first_query + first_row) * op.d_query_stride + at.column,
                      op.d_query_stride, rows, shape.head_dim, d_query[group],
                      mask * shape.scale * unit, shape.aligned, lane);
    }
  }
}

// ----------------------------------------------------------------------------------------------
// launches

/// Bytes of shared memory of key_gradients.
template <int kDim>
int64_t key_gradients_shared(int64_t tile_keys, bool whole) {
  const int64_t floats = 2 * tile_keys * kDim + 2 * kQueryTile * kDim + 2 * kQueryTile +
                         (whole ? kQueryTile * round_up(tile_keys, 32) : 0);
  return floats * static_cast<int64_t>(sizeof(float));
}

template <int kDim>
int64_t query_gradients_shared(int64_t tile_rows, int64_t stages) {
  const int64_t floats = 2 * tile_rows * kDim + 2 * stages * kKeyTile * kDim;
  return floats * static_cast<int64_t>(sizeof(float));
}

/// Of D, [heads, queries] by sequence, and units, [sequences, heads].
int64_t products_bytes(int64_t queries, int64_t sequences, int64_t heads) {
  return (queries + sequences) * heads * static_cast<int64_t>(sizeof(float));
}

int64_t tiles(int64_t rows, int64_t tile_rows) { return (rows + tile_rows - 1) / tile_rows; }

void launch_head_gradients(CudaStream& stream, const Backward& op, const AttentionInputs& in,
                           const HeadList& list) {
  const dim3 grid(static_cast<unsigned>(in.queries.count), static_cast<unsigned>(list.count));
  head_gradients<<<grid, kMaxWarps * kWarp, 0, stream.handle()>>>(op, list);
  stream.launched("attention_backward of heads", {in.queries.count, list.count, in.head_dim});
}

template <class Product, int kDim>
void launch(CudaStream& stream, Backward op, const AttentionInputs& in, const int32_t* head_index) {
  const int64_t sequences = in.queries.count;
  const int64_t queries = longest(in.queries);
  const int64_t keys = longest(in.keys);
  Context& context = stream.context();
  const int64_t limit = context.shared_memory_per_block();
  int64_t warps = std::min<int64_t>((keys + kRowsOfWarp - 1) / kRowsOfWarp, kMaxWarps);

  if constexpr (std::is_same_v<Product, FloatProduct>) {
    const int64_t shared = key_gradients_shared<kDim>(warps * kRowsOfWarp, true);
    if (op.d_query != nullptr && keys <= warps * kRowsOfWarp && shared <= limit) {
      allow_shared_memory(context, key_gradients<Product, kDim, true>, shared);
      each_list(in, head_index, true, [&](const HeadList& list) {
        const dim3 grid(static_cast<unsigned>(sequences), static_cast<unsigned>(list.count));
        key_gradients<Product, kDim, true>
            <<<grid, static_cast<unsigned>(warps * kWarp), shared, stream.handle()>>>(op, list);
        stream.launched("attention_backward", {sequences, list.count, keys, in.head_dim});
      });
      return;
    }
  }

  op.products =
      static_cast<float*>(stream.scratch(products_bytes(in.queries.rows(), sequences, in.heads)));
  if (in.dtype == BERTOLOGY_FLOAT16) op.units = op.products + in.queries.rows() * in.heads;
  while (key_gradients_shared<kDim>(warps * kRowsOfWarp, false) > limit) --warps;
  int64_t query_warps = std::min<int64_t>((queries + kRowsOfWarp - 1) / kRowsOfWarp, kMaxWarps);
  // Two tiles of keys take turns unless they leave room for few queries.
  op.stages =
      query_gradients_shared<kDim>(std::min<int64_t>(query_warps, 4) * kRowsOfWarp, 2) <= limit ? 2
                                                                                                : 1;
  while (query_gradients_shared<kDim>(query_warps * kRowsOfWarp, op.stages) > limit) --query_warps;
  each_list(in, head_index, true, [&](const HeadList& list) {
    launch_head_gradients(stream, op, in, list);
    // Large tiles, unless that leaves multiprocessors without work.
    const auto groups_of = [&](int64_t rows, int64_t group_rows, const auto& shared) {
      int64_t groups = kTileGroups<kDim>;
      while (groups > 1 && (shared(groups * group_rows) > limit || rows <= group_rows ||
                            sequences * list.count * tiles(rows, groups * group_rows) <
                                context.properties().multiProcessorCount)) {
        --groups;
      }
      return groups;
    };
    const auto grid = [&](int64_t count) {
      return dim3(static_cast<unsigned>(sequences), static_cast<unsigned>(list.count),
                  static_cast<unsigned>(count));
    };
    if (op.d_query != nullptr) {
      const auto shared = [&](int64_t rows) { return key_gradients_shared<kDim>(rows, false); };
      const int64_t groups = groups_of(keys, warps * kRowsOfWarp, shared);
      const int64_t tile = groups * warps * kRowsOfWarp;
      op.key_groups = static_cast<int>(groups);
      allow_shared_memory(context, key_gradients<Product, kDim, false>, shared(tile));
      key_gradients<Product, kDim, false>
          <<<grid(tiles(keys, tile)), static_cast<unsigned>(warps * kWarp), shared(tile),
             stream.handle()>>>(op, list);
      stream.launched("attention_backward of keys", {sequences, list.count, keys, in.head_dim});
    }
    const auto shared = [&](int64_t rows) { return query_gradients_shared<kDim>(rows, op.stages); };
    const int64_t groups = groups_of(queries, query_warps * kRowsOfWarp, shared);
    const int64_t tile = groups * query_warps * kRowsOfWarp;
    op.query_groups = static_cast<int>(groups);
    allow_shared_memory(context, query_gradients<Product, kDim>, shared(tile));
    query_gradients<Product, kDim>
        <<<grid(tiles(queries, tile)), static_cast<unsigned>(query_warps * kWarp), shared(tile),
           stream.handle()>>>(op, list);
    stream.launched("attention_backward of queries", {sequences, list.count, keys, in.head_dim});
  });
}

}  // namespace

int64_t attention_scratch(const Room& room) {
  return products_bytes(room.rows, room.rows, room.heads);  // no sequence is empty
}

void CudaStream::attention_backward(const AttentionBackward& op) {
  const AttentionInputs& in = op.inputs;
  if (in.queries.rows() == 0) return;
  check_head_dim(in.head_dim);
  Backward backward = {AttentionShape(in),
                       op.d_context,
                       op.head_outputs,
                       op.log_sum_exp,
                       op.d_query,
                       op.d_key,
                       op.d_value,
                       op.d_query_stride,
                       op.d_key_stride,
                       op.head_gradients,
                       op.token_head_gradients,
                       op.example_stride,
                       op.head_sums,
                       op.head_sums == nullptr ? nullptr : tickets(in.heads),
                       op.d_head_outputs,
                       op.d_probabilities,
                       nullptr,
                       nullptr,
                       1,
                       1,
                       1};
  backward.shape.aligned =
      aligned_16({in.query, in.key, in.value, op.d_context, op.head_outputs, op.d_query, op.d_key,
                  op.d_value, op.d_head_outputs},
                 {in.query_stride, in.key_stride, op.d_query_stride, op.d_key_stride, in.head_dim});
  if (op.d_query == nullptr && op.d_probabilities == nullptr) {
    each_list(in, op.head_index, true,
              [&](const HeadList& list) { launch_head_gradients(*this, backward, in, list); });
  } else if (op.d_query == nullptr || !launch_half_gradients(*this, backward, in, op.head_index)) {
    with_instance(in, [&](auto product, auto dim) {
      launch<decltype(product), decltype(dim)::value>(*this, backward, in, op.head_index);
    });
  }
  const int64_t width = in.heads * in.head_dim;
  const MaskedZeros zeros = {{{op.d_query, op.d_query_stride, false},
                              {op.d_key, op.d_key_stride, true},
                              {op.d_value, op.d_key_stride, true},
                              {op.d_head_outputs, width, false}},
                             nullptr,
                             op.d_probabilities};
  if (op.d_query == nullptr && op.d_head_outputs == nullptr && op.d_probabilities == nullptr)
    return;
  each_list(in, op.head_index, false, [&](const HeadList& list) {
    const dim3 grid(static_cast<unsigned>(in.queries.count), static_cast<unsigned>(list.count));
    zero_masked_heads<<<grid, 256, 0, handle()>>>(backward.shape, list, zeros);
    launched("attention_backward of masked heads", {in.queries.count, list.count, in.head_dim});
  });
}

}  // namespace bertology::cuda
