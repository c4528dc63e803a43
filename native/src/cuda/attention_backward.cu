// Attention backward: FlashAttention-2 (Dao 2023), algorithm 2. With p recomputed from the
// log-sum-exp and D_i = sum_c o_ic dcontext_ic:
//   dV = m P^T dO,  dS = P (dO V^T - D),  dQ = m scale dS K,  dK = m scale dS^T Q.
// The gradient of the head is g = sum_i D_i (Michel et al. 2019): it comes for nothing.
//
// A block makes every gradient of its (sequence, head), so that no sum depends on the order of
// blocks. Half precision: half_gradients in attention_backward_half.cu, for as many queries as fit
// a block. The others: key_gradients, which goes over tiles of as many keys as fit, and for each
// over the queries. Which one it is depends on the sequence alone, so that its bits do not depend
// on others.
#include <algorithm>
#include <type_traits>

#include "cuda/attention_backward.cuh"

namespace bertology::cuda {
namespace {

constexpr int kQueryTile = 32;

// ----------------------------------------------------------------------------------------------
// gradients of heads

/// g on its own: a block for each (sequence, head).
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
  for (int first = 0; first < at.queries; first += kRows) {
    const int row = first + group;
    const int64_t offset = row * at.width;
    const bool there = row < at.queries;
    float product = 0;
    for (int c = threadIdx.x % kRowLanes; c < (there ? chunks : 0); c += kRowLanes) {
      const int count = shape.head_dim - 4 * c;
      const float4 d = load_four(d_context + offset + 4 * c, count, shape.aligned);
      add_product(product, load_four(output + offset + 4 * c, count, shape.aligned), d);
      if (op.d_head_outputs != nullptr) {
        store_four(at.dense(op.d_head_outputs) + offset + 4 * c,
                   {mask * d.x, mask * d.y, mask * d.z, mask * d.w}, count, shape.aligned);
      }
    }
    product = sum_row(product);
    signed_sum += product;
    absolute_sum += fabsf(product);
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
// all gradients

// dS of 32 queries and a group of keys is [kQueryTile, kScoresWidth] in shared memory. Each warp
// writes the columns of its keys (rows 2 t, chunks c + g / 4) and reads whole rows (rows g, chunks
// c + t); its chunks change places so that neither meets a bank twice.
constexpr int kScoresWidth = kMaxWarps * kRowsOfWarp;
__host__ __device__ constexpr int swizzle_scores(int row) {
  return (row >> 2 & 1) << 1 | ((row >> 1 ^ row) & 1) << 2;
}

__device__ __forceinline__ float* score_at(float* scores, int row, int key) {
  return scores + row * kScoresWidth + 4 * (key / 4 ^ swizzle_scores(row)) + key % 4;
}

__device__ __forceinline__ float2 times(float factor, const float2& v) {
  return {factor * v.x, factor * v.y};
}

template <int kCount>
__device__ __forceinline__ void multiply_all(float (&sums)[kCount][4], float factor) {
#pragma unroll
  for (int c = 0; c < kCount; ++c) {
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[c][e] *= factor;
  }
}

/// Groups of sixteen keys for each warp that a tile has, as many as registers hold the gradients
/// of: queries come less often the larger it is.
template <int kDim>
constexpr int kMostGroups = kDim <= 64 ? 2 : 1;

/// Steps along a row at once in its longest products.
constexpr int kUnrolled = 2;

constexpr int kPlaceFloats = 32;  // in front of all else in shared memory

/// A block for each (sequence, head), over tiles of keys, whose gradients are in registers, and for
/// each over tiles of queries. What is made of queries alone is made while the first keys are
/// there; the gradients of queries grow in memory with each tile of keys.
template <class Product, int kDim>
__global__ void __launch_bounds__(kMaxWarps* kWarp)
    key_gradients(const __grid_constant__ Backward op, const __grid_constant__ HeadList list,
                  const int groups) {
  extern __shared__ __align__(128) float shared[];
  using Rows = RowTile<Product, kDim>;
  using Element = typename Rows::Element;
  constexpr bool kScaled = std::is_same_v<Product, Float16Product>;
  constexpr int kGroups = kMostGroups<kDim>;
  const AttentionShape& shape = op.shape;
  const auto mask_of = [&] { return list.mask[again(blockIdx.y)]; };
  const auto head_of = [&] { return list.head[again(blockIdx.y)]; };
  // Registers are scarce: what is needed now and then waits in shared memory.
  static_assert(sizeof(HeadRows) <= kPlaceFloats * sizeof(float));
  const auto at = [&]() -> const HeadRows& {
    return reinterpret_cast<const HeadRows*>(shared)[again(0)];
  };
  if (threadIdx.x == 0) {
    *reinterpret_cast<HeadRows*>(shared) = HeadRows(shape, blockIdx.x, head_of());
  }
  __syncthreads();
  if (at().queries <= op.short_queries) return;
  const int key_count = at().keys;
  const int query_count = at().queries;
  const int warps = blockDim.x / kWarp;
  const int warp = threadIdx.x / kWarp;
  const int group_keys = warps * kRowsOfWarp;
  const int tile_keys = groups * group_keys;
  const auto warp_row_of = [](int group) {
    return static_cast<int>(group * blockDim.x + again(threadIdx.x)) / kWarp * kRowsOfWarp;
  };
  const auto lane_of = [] { return Lane(again(threadIdx.x)); };

  float* log_sums = shared + kPlaceFloats;
  float* products = log_sums + kQueryTile;
  float* powers = products + kQueryTile;  // that rows of dcontext are divided by, if kScaled
  float* sums = powers + kQueryTile;      // of D and of its absolute values
  float* d_scores = sums + 2 * kQueryTile;
  Element* queries = reinterpret_cast<Element*>(d_scores + kQueryTile * kScoresWidth);
  Element* d_outputs = queries + kQueryTile * kDim;
  Element* keys = d_outputs + kQueryTile * kDim;
  Element* values = keys + tile_keys * kDim;

  static_assert(kQueryTile == kWarp, "finish_head takes a lane for a row");
  if (warp == 0) sums[threadIdx.x] = sums[kWarp + threadIdx.x] = 0;
  float unit = kScaled ? power_of_two(0) : 1;  // the largest of `powers` so far
  for (int first_key = 0; first_key < key_count; first_key += tile_keys) {
    const int key_rows = min(tile_keys, key_count - first_key);
    const int64_t key_offset = (at().first_key + first_key) * shape.key_stride + at().column;
    if (first_key > 0) __syncthreads();  // the tile before has been used
    Rows::load(keys, shape.key + key_offset, shape.key_stride, key_rows, tile_keys, shape.head_dim,
               shape.aligned);
    Rows::load(values, shape.value + key_offset, shape.key_stride, key_rows, tile_keys,
               shape.head_dim, shape.aligned);

    float d_key[kGroups][kDim / 8][4] = {};
    float d_value[kGroups][kDim / 8][4] = {};
    const float scale = shape.scale * kLog2E;
    // Queries in front of the tile see none of its keys.
    const int first_query = shape.causal ? first_key / kQueryTile * kQueryTile : 0;
    if (op.d_probabilities != nullptr) {
      float* map = at().map(op.d_probabilities, shape, again(blockIdx.x), head_of()) + first_key;
      for (int r = warp; r < min(first_query, query_count); r += warps) {
        store_run(map + static_cast<int64_t>(r) * key_count, key_rows, [](int) { return 0.0f; });
      }
    }
    for (int query = first_query; query < query_count; query += kQueryTile) {
      const int rows = min(kQueryTile, query_count - query);
      if (query != first_query) __syncthreads();  // the tile before has been used
      Rows::load(queries,
                 shape.query + (at().first_query + query) * shape.query_stride + at().column,
                 shape.query_stride, rows, kQueryTile, shape.head_dim, shape.aligned);
      for (int i = again(threadIdx.x); i < kQueryTile; i += blockDim.x) {
        const bool there = i < rows && op.d_query != nullptr;
        log_sums[i] =
            there ? at().of_queries(op.log_sum_exp, shape, head_of())[query + i] * kLog2E : kNever;
        if (first_key > 0) {
          products[i] = there ? at().of_queries(op.products, shape, head_of())[query + i] : 0;
        }
      }
      load_d_outputs<Rows, kScaled>(op, at(), query, rows, kQueryTile, first_key == 0, mask_of(),
                                    d_outputs, products, powers);
      copies_issued();
      copies_arrived<0>();
      __syncthreads();
      if (first_key == 0 && warp == 0) {
        const float product = products[threadIdx.x];
        if (tile_keys < key_count && op.d_query != nullptr && static_cast<int>(threadIdx.x) < rows)
          at().of_queries(op.products, shape, head_of())[query + threadIdx.x] = product;
        sums[threadIdx.x] += product;
        sums[kWarp + threadIdx.x] += fabsf(product);
      }
      if (kScaled) {
        const float raised = fmaxf(unit, warp_max(powers[again(threadIdx.x) % kWarp]));
        const float factor = unit * inverse(raised);
        if (factor != 1) {
#pragma unroll
          for (int group = 0; group < kGroups; ++group) {
            multiply_all(d_key[group], factor);
            multiply_all(d_value[group], factor);
          }
        }
        unit = raised;
      }

      // Transposed: rows are keys, columns are queries.
      float d_query[2][4];
      const int last_key = shape.causal && op.d_probabilities == nullptr
                               ? min(query + kQueryTile, key_count)
                               : key_count;
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        const int group_key = first_key + group * group_keys;
        if (group > 0 && (group >= groups || group_key >= last_key)) break;
        const int warp_row = warp_row_of(group);
        const bool any_seen = first_key + warp_row < key_count &&
                              (!shape.causal || first_key + warp_row < query + kQueryTile);
        const auto sees = [&](int j, int e, Lane lane) {
          const int key = first_key + warp_row + lane.g + e / 2 * 8;
          return key < key_count && (!shape.causal || key <= query + 8 * j + 2 * lane.t + e % 2);
        };
        const auto score_of = [&](int j, int e, Lane lane) {
          return score_at(d_scores, 8 * j + 2 * lane.t + e % 2,
                          warp_row_of(0) + lane.g + e / 2 * 8);
        };
        // Registers are scarce: dP and dS of a lane are in shared memory between its products.
        if (group > 0) __syncthreads();  // the group before has been used
        float results[4][4];
        if (any_seen) {
          products_of_rows<Rows, kUnrolled>(results, values, warp_row, d_outputs, lane_of());
          const Lane lane = lane_of();
#pragma unroll
          for (int j = 0; j < 4; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e)
              *score_of(j, e, lane) = sees(j, e, lane) ? results[j][e] : 0;
          }
        } else {
          const Lane lane = lane_of();
#pragma unroll
          for (int j = 0; j < 4; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) *score_of(j, e, lane) = 0;
          }
        }
        if (op.d_probabilities != nullptr) {
          __syncthreads();
          float* map =
              at().map(op.d_probabilities, shape, again(blockIdx.x), head_of()) + group_key;
          for (int r = warp; r < rows; r += warps) {
            store_run(map + static_cast<int64_t>(query + r) * key_count,
                      min(group_keys, key_count - group_key),
                      [&](int i) { return (kScaled ? powers[r] : 1) * *score_at(d_scores, r, i); });
          }
          __syncthreads();
          if (op.d_query == nullptr) continue;
        }
        if (any_seen) {
          products_of_rows<Rows, kUnrolled>(results, keys, warp_row, queries, lane_of());
          {
            const Lane lane = lane_of();
#pragma unroll
            for (int j = 0; j < 4; ++j) {
              // Of the two queries of a lane: log-sum-exp, and D and powers in units.
              const int row = 8 * j + 2 * lane.t;
              const float to_units = inverse(unit);
              const float2 log_sum = load_two_shared(log_sums + row);
              const float2 product = times(to_units, load_two_shared(products + row));
              const float2 power =
                  kScaled ? times(to_units, load_two_shared(powers + row)) : float2{1, 1};
#pragma unroll
              for (int e = 0; e < 4; ++e) {
                const auto mine = [e](const float2& two) { return e % 2 == 0 ? two.x : two.y; };
                const float x = probability_of(results[j][e] * scale - mine(log_sum));
                const float p = sees(j, e, lane) ? x : 0;
                float* score = score_of(j, e, lane);
                *score = p * (mine(power) * *score - mine(product));
                results[j][e] = p * mine(power);
              }
            }
          }
#pragma unroll
          for (int j = 0; j < 4; j += 2) {
            Rows::multiply_columns(d_value[group], left_of<Product>(results[j], results[j + 1]),
                                   d_outputs, 8 * j, lane_of());
          }
#pragma unroll
          for (int j = 0; j < 4; j += 2) {
            const Lane lane = lane_of();
#pragma unroll
            for (int i = 0; i < 2; ++i) {
#pragma unroll
              for (int e = 0; e < 4; ++e) results[i][e] = *score_of(j + i, e, lane);
            }
            Rows::multiply_columns(d_key[group], left_of<Product>(results[0], results[1]), queries,
                                   8 * j, lane);
          }
        }
        __syncthreads();
        // dQ of the tile, sixteen rows and columns at a time: one for each warp if there is more
        // than one group.
        constexpr int kParts = kDim / 16;
        const int units = (rows + kRowsOfWarp - 1) / kRowsOfWarp * kParts;
        for (int i = again(threadIdx.x) / kWarp; i < units; i += warps) {
          const Lane lane = lane_of();
          const int row = i / kParts * kRowsOfWarp;
          const int part = i % kParts;
          if (group == 0) {
#pragma unroll
            for (int e = 0; e < 4; ++e) d_query[0][e] = d_query[1][e] = 0;
          }
          const int end = min(
              group_keys,
              (shape.causal ? min(key_count, query + row + kRowsOfWarp) : key_count) - group_key);
          for (int k = 0; k < end; k += 16) {
            Rows::multiply_part(d_query,
                                load_shared(score_at(d_scores, row + lane.g, k + 4 * lane.t)),
                                load_shared(score_at(d_scores, row + lane.g + 8, k + 4 * lane.t)),
                                keys, group * group_keys + k, part, lane);
          }
          if (group + 1 < groups && group_key + group_keys < last_key) continue;
          Rows::store_part(
              op.d_query + (at().first_query + query + row) * op.d_query_stride + at().column,
              op.d_query_stride, rows - row, shape.head_dim, part, d_query,
              mask_of() * shape.scale * unit, first_key > 0, shape.aligned, lane);
        }
      }
    }
    if (op.d_query == nullptr) continue;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      if (group > 0 && group >= groups) break;
      const int warp_row = warp_row_of(group);
      const Lane lane = lane_of();
      const int64_t d_offset =
          (at().first_key + first_key + warp_row) * op.d_key_stride + at().column;
      Rows::store(op.d_key + d_offset, op.d_key_stride, key_rows - warp_row, shape.head_dim,
                  d_key[group], mask_of() * shape.scale * unit, shape.aligned, lane);
      Rows::store(op.d_value + d_offset, op.d_key_stride, key_rows - warp_row, shape.head_dim,
                  d_value[group], mask_of() * unit, shape.aligned, lane);
    }
  }
  if (warp == 0) finish_head(op, list, sums[threadIdx.x], sums[kWarp + threadIdx.x]);
}

// ----------------------------------------------------------------------------------------------
// launches

/// Bytes of shared memory of key_gradients.
template <class Product, int kDim>
int64_t key_gradients_shared(int64_t keys) {
  const int64_t floats = kPlaceFloats + kQueryTile * (5 + kScoresWidth);
  const int64_t elements = 2 * (kQueryTile + keys) * kDim;
  return floats * static_cast<int64_t>(sizeof(float)) +
         elements * static_cast<int64_t>(sizeof(typename RowTile<Product, kDim>::Element));
}

/// Of D by sequence [heads, queries].
int64_t products_bytes(int64_t queries, int64_t heads) {
  return queries * heads * static_cast<int64_t>(sizeof(float));
}

void launch_head_gradients(CudaStream& stream, const Backward& op, const AttentionInputs& in,
                           const HeadList& list) {
  const dim3 grid(static_cast<unsigned>(in.queries.count), static_cast<unsigned>(list.count));
  head_gradients<<<grid, kMaxWarps * kWarp, 0, stream.handle()>>>(op, list);
  stream.launched("attention_backward of heads", {in.queries.count, list.count, in.head_dim});
}

template <class Product, int kDim>
void launch(CudaStream& stream, Backward op, const AttentionInputs& in, const int32_t* head_index) {
  const int64_t keys = longest(in.keys);
  Context& context = stream.context();
  const int64_t limit = context.shared_memory_per_block();
  int64_t warps = std::min<int64_t>((keys + kRowsOfWarp - 1) / kRowsOfWarp, kMaxWarps);
  while (key_gradients_shared<Product, kDim>(warps * kRowsOfWarp) > limit) --warps;
  const int64_t group_keys = warps * kRowsOfWarp;
  int64_t groups = warps < kMaxWarps ? 1 : kMostGroups<kDim>;
  while (groups > 1 && (keys <= (groups - 1) * group_keys ||
                        key_gradients_shared<Product, kDim>(groups * group_keys) > limit)) {
    --groups;
  }
  if (keys > groups * group_keys) {
    op.products = static_cast<float*>(stream.scratch(products_bytes(in.queries.rows(), in.heads)));
  }
  const int64_t shared = key_gradients_shared<Product, kDim>(groups * group_keys);
  allow_shared_memory(context, key_gradients<Product, kDim>, shared);
  each_list(in, head_index, true, [&](const HeadList& list) {
    const dim3 grid(static_cast<unsigned>(in.queries.count), static_cast<unsigned>(list.count));
    key_gradients<Product, kDim>
        <<<grid, static_cast<unsigned>(warps * kWarp), shared, stream.handle()>>>(
            op, list, static_cast<int>(groups));
    stream.launched("attention_backward", {in.queries.count, list.count, keys, in.head_dim});
  });
}

}  // namespace

int64_t attention_scratch(const Room& room) { return products_bytes(room.rows, room.heads); }

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
                       -1};
  backward.shape.aligned =
      aligned_16({in.query, in.key, in.value, op.d_context, op.head_outputs, op.d_query, op.d_key,
                  op.d_value, op.d_head_outputs},
                 {in.query_stride, in.key_stride, op.d_query_stride, op.d_key_stride, in.head_dim});
  if (op.d_query == nullptr && op.d_probabilities == nullptr) {
    each_list(in, op.head_index, true,
              [&](const HeadList& list) { launch_head_gradients(*this, backward, in, list); });
  } else {
    if (op.d_query != nullptr) {
      backward.short_queries =
          static_cast<int>(launch_half_gradients(*this, backward, in, op.head_index));
    }
    if (longest(in.queries) > backward.short_queries) {
      with_instance(in, [&](auto product, auto dim) {
        launch<decltype(product), decltype(dim)::value>(*this, backward, in, op.head_index);
      });
    }
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
