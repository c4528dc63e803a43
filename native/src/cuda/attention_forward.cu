// Attention forward with an online softmax: FlashAttention-2 (Dao 2023), algorithm 1. A block works
// on the queries of one head of one sequence, a warp on sixteen of them at a time; scores stay in
// registers. Where the keys and values of a sequence fit a block's shared memory they stay there,
// and the queries pass by (forward); else queries stay, their outputs in registers, and keys and
// values pass by (forward_of_long). Either way every operand is read once, up to the length that
// fits. Which one it is depends on the sequence alone, so that its bits do not depend on others.
#include <algorithm>

#include "cuda/attention.cuh"

namespace bertology::cuda {
namespace {

// Scores are in units of ln 2 from here on. A key that a query does not see scores kUnseen; a row
// that has seen none has the maximum kNoMaximum: the difference of the two is finite and its
// exponential 0.
constexpr float kNoMaximum = -1e30f;
constexpr float kUnseen = -2e30f;

struct Forward {
  AttentionShape shape;
  float* context;        // [query rows, heads head_dim]
  float* head_outputs;   // as context, or null
  float* log_sum_exp;    // by sequence [heads, queries], or null
  float* entropies;      // by sequence [heads, queries], or null
  float* probabilities;  // by sequence [heads, n, n], or null
  int tile_keys;         // of forward: keys in shared memory, those of the longest that it takes
  int short_keys;        // of forward_of_long: what forward takes
  int groups;            // of forward_of_long: sixteens of queries a warp
};

/// Keys whose scores a warp holds at a time, as many as registers allow.
constexpr int kChunk = 32;

/// Warps of a block, as many as registers allow: those of half precision have half as much to hold.
template <class Product, int kDim>
constexpr int kForwardWarps = kMaxWarps;
template <class Half, int kDim>
constexpr int kForwardWarps<HalfProduct<Half>, kDim> = kDim <= 64 ? 2 * kMaxWarps : kMaxWarps;

/// The sixteen queries of a warp as left matrices, in registers; the widest in shared memory, where
/// a lane reads what it has written itself.
template <class Product, int kDim>
struct QueryFragments {
  static constexpr int64_t kSharedFloats = 0;  // of a warp
  typename Product::KeptLeft kept[kDim / 16];

  __device__ explicit QueryFragments(float*) {}
  __device__ __forceinline__ void set(int k, const float4& upper, const float4& lower) {
    kept[k] = Product::keep(upper, lower);
  }
  __device__ __forceinline__ typename Product::Left left(int k) const {
    return Product::left(kept[k]);
  }
};

template <>
struct QueryFragments<FloatProduct, 128> {
  static constexpr int64_t kSharedFloats = kRowsOfWarp * 128;
  float* place;

  __device__ explicit QueryFragments(float* shared)
      : place(shared + threadIdx.x / kWarp * kSharedFloats + threadIdx.x % kWarp * 4) {}
  __device__ __forceinline__ void set(int k, const float4& upper, const float4& lower) {
    *reinterpret_cast<float4*>(place + 8 * kWarp * k) = upper;
    *reinterpret_cast<float4*>(place + 8 * kWarp * k + 4 * kWarp) = lower;
  }
  __device__ __forceinline__ FloatProduct::Left left(int k) const {
    return FloatProduct::left(FloatProduct::keep(load_shared(place + 8 * kWarp * k),
                                                 load_shared(place + 8 * kWarp * k + 4 * kWarp)));
  }
};

/// scores[8 keys each][elements of a product] of sixteen queries and the keys from row `first` of a
/// tile on, of which those in front of `end` are computed, sixteen at a time.
template <class Product, int kDim>
__device__ __forceinline__ void multiply_keys(float (&scores)[kChunk / 8][4],
                                              const QueryFragments<Product, kDim>& query,
                                              const typename RowTile<Product, kDim>::Element* keys,
                                              int first, int end, Lane lane) {
#pragma unroll
  for (int j = 0; j < kChunk / 8; j += 2) {
#pragma unroll
    for (int e = 0; e < 4; ++e) scores[j][e] = scores[j + 1][e] = 0;
    if (first + 8 * j >= end || never(j)) continue;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      RowTile<Product, kDim>::multiply_rows(scores[j], scores[j + 1], query.left(k), keys,
                                            first + 8 * j, k, lane);
    }
  }
}

/// Scores times their scale; of keys that a row does not see, kUnseen. `first` is the first key of
/// the scores, `seen` what the rows g and g + 8 of the lane see.
template <int kCount>
__device__ __forceinline__ void scale_scores(float (&scores)[kCount][4], float scale, int first,
                                             int seen_upper, int seen_lower, Lane lane) {
  const bool all_seen = first + 8 * kCount <= min(seen_upper, seen_lower);
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int key = first + 8 * j + 2 * lane.t + e % 2;
      const bool is_seen = all_seen || key < (e < 2 ? seen_upper : seen_lower);
      scores[j][e] = is_seen ? scores[j][e] * scale : kUnseen;
    }
  }
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}

/// What the softmax of a row has come to: the largest score and, over the keys of this lane, the
/// sums of e = 2^(score - maximum) and of e (score - maximum).
struct RowState {
  float maximum = kNoMaximum;
  float total = 0;
  float weighted = 0;

  /// Returns what earlier sums of the row are to be multiplied with.
  __device__ __forceinline__ float raise(float peak) {
    const float raised = fmaxf(maximum, peak);
    const float distance = maximum - raised;
    const float factor = exp2_of(distance);
    weighted = factor * (weighted + total * distance);
    total *= factor;
    maximum = raised;
    return factor;
  }
};

/// What the scores of some keys do to sixteen rows: they become 2^(score - maximum).
template <int kCount, int kDim>
__device__ __forceinline__ void absorb(float (&scores)[kCount][4], RowState& upper, RowState& lower,
                                       float (&output)[kDim / 8][4]) {
  float upper_peak = kUnseen;
  float lower_peak = kUnseen;
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    upper_peak = fmaxf(upper_peak, fmaxf(scores[j][0], scores[j][1]));
    lower_peak = fmaxf(lower_peak, fmaxf(scores[j][2], scores[j][3]));
  }
  const float upper_factor = upper.raise(quad_max(upper_peak));
  const float lower_factor = lower.raise(quad_max(lower_peak));
#pragma unroll
  for (int c = 0; c < kDim / 8; ++c) {
    output[c][0] *= upper_factor;
    output[c][1] *= upper_factor;
    output[c][2] *= lower_factor;
    output[c][3] *= lower_factor;
  }
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      RowState& state = e < 2 ? upper : lower;
      const float distance = scores[j][e] - state.maximum;
      scores[j][e] = exp2_of(distance);
      state.total += scores[j][e];
      state.weighted += scores[j][e] * distance;
    }
  }
}

/// Writes what sixteen rows from `first_row` on have come to, of which `rows` are there; their
/// log-sum-exp in units of ln 2 goes to `log_sums`.
template <class Product, int kDim>
__device__ __forceinline__ void finish_rows(const Forward& op, const HeadRows& at, int head,
                                            float mask, int first_row, int rows,
                                            const RowState& upper, const RowState& lower,
                                            float (&output)[kDim / 8][4], float (&log_sums)[2],
                                            Lane lane) {
  using Rows = RowTile<Product, kDim>;
  const AttentionShape& shape = op.shape;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const RowState& state = half == 0 ? upper : lower;
    const float total = quad_sum(state.total);
    const float weighted = quad_sum(state.weighted);
    const float log_total = logf(total);
    const int row = lane.g + 8 * half;
    if (lane.t == 0 && row < rows) {
      // With p = e / total: -sum p ln p = ln total - sum p (score - maximum). Rounding may put a
      // row that sees one key below zero.
      if (op.log_sum_exp != nullptr) {
        at.of_queries(op.log_sum_exp, shape, head)[first_row + row] =
            state.maximum * kLn2 + log_total;
      }
      if (op.entropies != nullptr) {
        at.of_queries(op.entropies, shape, head)[first_row + row] =
            fmaxf(log_total - kLn2 * weighted / total, 0.0f);
      }
    }
    log_sums[half] = state.maximum + log_total * kLog2E;
#pragma unroll
    for (int c = 0; c < kDim / 8; ++c) {
      output[c][2 * half] *= 1 / total;
      output[c][2 * half + 1] *= 1 / total;
    }
  }
  const int64_t offset = first_row * at.width;
  if (op.head_outputs != nullptr) {
    Rows::store(at.dense(op.head_outputs) + offset, at.width, rows, shape.head_dim, output, 1.0f,
                shape.aligned, lane);
  }
  Rows::store(at.dense(op.context) + offset, at.width, rows, shape.head_dim, output, mask,
              shape.aligned, lane);
}

/// The probabilities of some keys from `first` on, eight at a time; `map` begins at the first of
/// sixteen rows.
template <int kCount>
__device__ __forceinline__ void write_map(float (&last)[4], const float (&scores)[kCount][4],
                                          const float (&log_sums)[2], float mask, float* map,
                                          int keys, int first, int rows, Lane lane) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    float now[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) now[e] = mask * probability_of(scores[j][e] - log_sums[e / 2]);
    add_columns(last, now, map, keys, first + 8 * j, rows, lane);
  }
}

template <class Product, int kDim>
__global__ void __launch_bounds__(kForwardWarps<Product, kDim>* kWarp)
    forward(const __grid_constant__ Forward op, const __grid_constant__ HeadList list) {
  constexpr int kKeys = kChunk;
  using Rows = RowTile<Product, kDim>;
  using Element = typename Rows::Element;
  extern __shared__ __align__(128) float shared[];
  const AttentionShape& shape = op.shape;
  const int64_t sequence = blockIdx.x;
  // Registers are scarce: what is read again is not kept.
  const auto head_of = [&] { return list.head[again(blockIdx.y)]; };
  const auto mask_of = [&] { return list.mask[again(blockIdx.y)]; };
  const HeadRows at(shape, sequence, head_of());
  const int warp = threadIdx.x / kWarp;
  const Lane lane;
  const int block_rows = blockDim.x / kWarp * kRowsOfWarp;
  const float scale = shape.scale * kLog2E;
  Element* const keys = reinterpret_cast<Element*>(shared);
  Element* const values = keys + op.tile_keys * kDim;
  float* query_shared = reinterpret_cast<float*>(values + op.tile_keys * kDim);
  if (at.keys > op.tile_keys || static_cast<int>(blockIdx.z) * block_rows >= at.queries) return;

  const int64_t key_offset = at.first_key * shape.key_stride + at.column;
  const int padded = (at.keys + 15) / 16 * 16;
  Rows::load(keys, shape.key + key_offset, shape.key_stride, at.keys, padded, shape.head_dim,
             shape.aligned);
  Rows::load(values, shape.value + key_offset, shape.key_stride, at.keys, padded, shape.head_dim,
             shape.aligned);
  copies_issued();
  bool arrived = false;
  for (int block_row = blockIdx.z * block_rows; block_row < at.queries;
       block_row += gridDim.z * block_rows) {
    const int first_row = block_row + warp * kRowsOfWarp;
    const int rows = min(kRowsOfWarp, at.queries - first_row);  // none: below 1
    const int seen = rows < 1 ? 0 : shape.causal ? first_row + rows : at.keys;
    const int seen_upper = shape.causal ? first_row + lane.g + 1 : at.keys;
    const int seen_lower = shape.causal ? seen_upper + 8 : at.keys;
    QueryFragments<Product, kDim> query(query_shared);
    const float* query_row = shape.query +
                             (at.first_query + first_row + lane.g) * shape.query_stride +
                             at.column + Rows::kLaneColumns * lane.t;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      const int count = shape.head_dim - 16 * k - Rows::kLaneColumns * lane.t;
      query.set(k, Rows::row_part(query_row + 16 * k, lane.g < rows ? count : 0, shape.aligned),
                Rows::row_part(query_row + 8 * shape.query_stride + 16 * k,
                               lane.g + 8 < rows ? count : 0, shape.aligned));
    }
    if (!arrived) {
      copies_arrived<0>();
      __syncthreads();
      arrived = true;
    }

    float output[kDim / 8][4] = {};
    RowState upper, lower;
    float scores[kKeys / 8][4];
    for (int key = 0; key < seen; key += kKeys) {
      const Lane lane(again(threadIdx.x));
      multiply_keys<Product, kDim>(scores, query, keys, key, seen, lane);
      scale_scores(scores, scale, key, seen_upper, seen_lower, lane);
      absorb<kKeys / 8, kDim>(scores, upper, lower, output);
#pragma unroll
      for (int j = 0; j < kKeys / 8; j += 2) {
        if (key + 8 * j >= seen) continue;
        Rows::multiply_columns(output, left_of<Product>(scores[j], scores[j + 1]), values,
                               key + 8 * j, lane);
      }
    }
    float log_sums[2];
    finish_rows<Product, kDim>(op, at, head_of(), mask_of(), first_row, rows, upper, lower, output,
                               log_sums, lane);
    if (op.probabilities == nullptr || rows < 1) continue;
    // Once more over the keys: now the sums are known.
    float* map = at.map(op.probabilities, shape, sequence, head_of()) +
                 static_cast<int64_t>(first_row) * at.keys;
    float last[4] = {};
    int key = 0;
    for (; key < at.keys; key += kKeys) {
      multiply_keys<Product, kDim>(scores, query, keys, key, seen, lane);
      scale_scores(scores, scale, key, seen_upper, seen_lower, lane);
      write_map(last, scores, log_sums, mask_of(), map, at.keys, key, rows, lane);
    }
    add_columns(last, last, map, at.keys, key, rows, lane);
  }
}

// ----------------------------------------------------------------------------------------------
// sequences whose keys do not fit a block

/// Sixteens of queries of a warp, as many as registers hold the outputs of.
template <int kDim>
constexpr int kLongGroups = kDim <= 64 ? 4 : 2;
/// Keys that come at a time.
template <int kDim>
constexpr int kStepKeys = kDim < 64 ? 32 : 16;

template <class Product, int kDim>
__global__ void __launch_bounds__(kMaxWarps* kWarp)
    forward_of_long(const __grid_constant__ Forward op, const __grid_constant__ HeadList list) {
  constexpr int kKeys = kStepKeys<kDim>;
  constexpr int kGroups = kLongGroups<kDim>;
  using Rows = RowTile<Product, kDim>;
  using Element = typename Rows::Element;
  extern __shared__ __align__(128) float shared[];
  const AttentionShape& shape = op.shape;
  const int64_t sequence = blockIdx.x;
  const int head = list.head[blockIdx.y];
  const float mask = list.mask[blockIdx.y];
  const HeadRows at(shape, sequence, head);
  const int block_rows = op.groups * kMaxWarps * kRowsOfWarp;
  const int block_row = blockIdx.z * block_rows;
  if (at.keys <= op.short_keys || block_row >= at.queries) return;
  const int block_seen = shape.causal ? min(block_row + block_rows, at.keys) : at.keys;
  Element* const queries = reinterpret_cast<Element*>(shared);
  Element* const steps = queries + block_rows * kDim;
  /// Of a group in the block.
  const auto first_of = [](int group) {
    return (group * kMaxWarps + again(threadIdx.x) / kWarp) * kRowsOfWarp;
  };

  const auto load = [&](int key, bool with_values) {
    Element* to = steps + key / kKeys % 2 * 2 * kKeys * kDim;
    const int64_t offset = (at.first_key + key) * shape.key_stride + at.column;
    Rows::load(to, shape.key + offset, shape.key_stride, at.keys - key, kKeys, shape.head_dim,
               shape.aligned);
    if (with_values) {
      Rows::load(to + kKeys * kDim, shape.value + offset, shape.key_stride, at.keys - key, kKeys,
                 shape.head_dim, shape.aligned);
    }
    copies_issued();
  };
  /// Calls use(first key, its tile) for the keys up to `end`.
  const auto each_step = [&](int end, bool with_values, const auto& use) {
    load(0, with_values);
    for (int key = 0; key < end; key += kKeys) {
      if (key + kKeys < end) {
        load(key + kKeys, with_values);
        copies_arrived<1>();
      } else {
        copies_arrived<0>();
      }
      __syncthreads();
      use(key, steps + key / kKeys % 2 * 2 * kKeys * kDim);
      __syncthreads();
    }
  };
  const auto score = [&](float(&scores)[kKeys / 8][4], int group, const Element* keys, int key,
                         Lane lane) {
    products_of_rows<Rows, kDim / 16>(scores, queries, first_of(group), keys, lane);
    const int seen = shape.causal ? block_row + first_of(group) + lane.g + 1 : at.keys;
    scale_scores(scores, shape.scale * kLog2E, key, seen, shape.causal ? seen + 8 : seen, lane);
  };

  Rows::load(queries, shape.query + (at.first_query + block_row) * shape.query_stride + at.column,
             shape.query_stride, at.queries - block_row, block_rows, shape.head_dim, shape.aligned);
  float log_sums[kGroups][2];
  {
    float output[kGroups][kDim / 8][4] = {};
    RowState states[kGroups][2];
    each_step(block_seen, true, [&](int key, const Element* keys) {
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        if (group >= op.groups) break;
        const Lane lane(again(threadIdx.x));
        const int first_row = block_row + first_of(group);
        if (first_row >= at.queries || (shape.causal && key >= first_row + kRowsOfWarp)) continue;
        float scores[kKeys / 8][4];
        score(scores, group, keys, key, lane);
        absorb<kKeys / 8, kDim>(scores, states[group][0], states[group][1], output[group]);
#pragma unroll
        for (int j = 0; j < kKeys / 8; j += 2) {
          Rows::multiply_columns(output[group], left_of<Product>(scores[j], scores[j + 1]),
                                 keys + kKeys * kDim, 8 * j, lane);
        }
      }
    });
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      if (group >= op.groups) break;
      const int first_row = block_row + first_of(group);
      finish_rows<Product, kDim>(op, at, head, mask, first_row, at.queries - first_row,
                                 states[group][0], states[group][1], output[group], log_sums[group],
                                 Lane());
    }
  }
  if (op.probabilities == nullptr) return;
  float last[kGroups][4] = {};
  const auto map_of = [&](int first_row) {
    return at.map(op.probabilities, shape, sequence, head) +
           static_cast<int64_t>(first_row) * at.keys;
  };
  // Once more over the keys: now the sums are known.
  each_step(at.keys, false, [&](int key, const Element* keys) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      if (group >= op.groups) break;
      const Lane lane(again(threadIdx.x));
      const int first_row = block_row + first_of(group);
      if (first_row >= at.queries) continue;
      float scores[kKeys / 8][4];
      score(scores, group, keys, key, lane);
      write_map(last[group], scores, log_sums[group], mask, map_of(first_row), at.keys, key,
                at.queries - first_row, lane);
    }
  });
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    if (group >= op.groups) break;
    const int first_row = block_row + first_of(group);
    add_columns(last[group], last[group], map_of(first_row), at.keys,
                (at.keys + kKeys - 1) / kKeys * kKeys, at.queries - first_row, Lane());
  }
}

template <class Product, int kDim>
constexpr int64_t kRowBytes = kDim * sizeof(typename RowTile<Product, kDim>::Element);

/// For the sequences with keys up to `most`.
template <class Product, int kDim>
void launch_forward(CudaStream& stream, Forward op, const AttentionInputs& in, int64_t most,
                    int64_t warp_bytes) {
  const int64_t queries = longest(in.queries);
  const int64_t keys = longest(in.keys, most);
  const int64_t multiprocessors = stream.context().properties().multiProcessorCount;
  // Some warps more than there are queries help to load the keys.
  const int64_t warps =
      std::clamp<int64_t>((queries + kRowsOfWarp - 1) / kRowsOfWarp,
                          std::min<int64_t>(4, (keys + 15) / 16), kForwardWarps<Product, kDim>);
  op.tile_keys = static_cast<int>(round_up(keys, 16));
  const int64_t shared = 2 * op.tile_keys * kRowBytes<Product, kDim> + warps * warp_bytes;
  allow_shared_memory(stream.context(), forward<Product, kDim>, shared);
  each_list(in, nullptr, true, [&](const HeadList& list) {
    // Blocks that go on with the next queries read the keys once; but all multiprocessors are to
    // have work.
    const int64_t steps = (queries + warps * kRowsOfWarp - 1) / (warps * kRowsOfWarp);
    const int64_t pairs = in.queries.count * list.count;
    const int64_t fill = (multiprocessors + pairs - 1) / pairs;
    const dim3 grid(static_cast<unsigned>(in.queries.count), static_cast<unsigned>(list.count),
                    static_cast<unsigned>(std::min(steps, fill)));
    forward<Product, kDim>
        <<<grid, static_cast<unsigned>(warps * kWarp), shared, stream.handle()>>>(op, list);
    stream.launched("attention_forward", {in.queries.count, list.count, keys, in.head_dim});
  });
}

/// For those with more keys than op.short_keys.
template <class Product, int kDim>
void launch_forward_of_long(CudaStream& stream, Forward op, const AttentionInputs& in) {
  const int64_t queries = longest(in.queries);
  Context& context = stream.context();
  constexpr int64_t kGroupRows = kMaxWarps * kRowsOfWarp;
  const auto shared_of = [&](int64_t groups) {
    return (groups * kGroupRows + 4 * kStepKeys<kDim>)*kRowBytes<Product, kDim>;
  };
  each_list(in, nullptr, true, [&](const HeadList& list) {
    // Blocks with many queries read keys less often; but all multiprocessors are to have work.
    const auto blocks = [&](int64_t groups) {
      return (queries + groups * kGroupRows - 1) / (groups * kGroupRows);
    };
    int64_t groups = kLongGroups<kDim>;
    while (groups > 1 && (shared_of(groups) > context.shared_memory_per_block() ||
                          groups * kGroupRows >= queries + kGroupRows ||
                          in.queries.count * list.count * blocks(groups) <
                              context.properties().multiProcessorCount)) {
      --groups;
    }
    op.groups = static_cast<int>(groups);
    allow_shared_memory(context, forward_of_long<Product, kDim>, shared_of(groups));
    const dim3 grid(static_cast<unsigned>(in.queries.count), static_cast<unsigned>(list.count),
                    static_cast<unsigned>(blocks(groups)));
    forward_of_long<Product, kDim>
        <<<grid, kMaxWarps * kWarp, shared_of(groups), stream.handle()>>>(op, list);
    stream.launched("attention_forward of long sequences",
                    {in.queries.count, list.count, longest(in.keys), in.head_dim});
  });
}

template <class Product, int kDim>
void launch(CudaStream& stream, Forward op, const AttentionInputs& in) {
  const int64_t warp_bytes =
      QueryFragments<Product, kDim>::kSharedFloats * static_cast<int64_t>(sizeof(float));
  const int64_t room =
      stream.context().shared_memory_per_block() - kForwardWarps<Product, kDim> * warp_bytes;
  const int64_t most = room / (2 * kRowBytes<Product, kDim>) / 16 * 16;
  op.short_keys = static_cast<int>(most);
  if (longest(in.keys, most) > 0) launch_forward<Product, kDim>(stream, op, in, most, warp_bytes);
  if (longest(in.keys) > most) launch_forward_of_long<Product, kDim>(stream, op, in);
}

}  // namespace

void CudaStream::attention_forward(const AttentionForward& op) {
  const AttentionInputs& in = op.inputs;
  if (in.queries.rows() == 0) return;
  Forward forward = {AttentionShape(in),
                     op.context,
                     op.head_outputs == op.context ? nullptr : op.head_outputs,
                     op.log_sum_exp,
                     op.entropies,
                     op.probabilities,
                     0,
                     0,
                     0};
  forward.shape.aligned = aligned_16({in.query, in.key, in.value, op.context, op.head_outputs},
                                     {in.query_stride, in.key_stride, in.head_dim});
  with_instance(in, [&](auto product, auto dim) {
    launch<decltype(product), decltype(dim)::value>(*this, forward, in);
  });
  const int64_t width = in.heads * in.head_dim;
  const MaskedZeros zeros = {{{op.context, width, false}, {forward.head_outputs, width, false}},
                             op.entropies,
                             op.probabilities};
  each_list(in, nullptr, false, [&](const HeadList& list) {
    const dim3 grid(static_cast<unsigned>(in.queries.count), static_cast<unsigned>(list.count));
    zero_masked_heads<<<grid, 256, 0, handle()>>>(forward.shape, list, zeros);
    launched("attention_forward of masked heads", {in.queries.count, list.count, in.head_dim});
  });
}

}  // namespace bertology::cuda
