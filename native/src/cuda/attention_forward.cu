// Attention forward with an online softmax: FlashAttention-2 (Dao 2023), algorithm 1. A block works
// on the queries of one head of one sequence, a warp on sixteen of them; scores stay in registers.
#include <algorithm>

#include "cuda/attention_tiles.cuh"

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
  int tile_keys;         // a tile in shared memory
  bool resident;         // one tile holds all keys of a sequence; else two take turns
};

/// Keys whose scores a warp holds at a time, as many as registers allow; and of each of two tiles
/// that take turns.
template <class Product, int kDim>
constexpr int kChunk = kDim <= 32   ? 64
                       : kDim <= 64 ? 48
                                    : 32;

/// Warps of a block, as many as registers allow: those of half precision have half as much to hold.
template <class Product, int kDim>
constexpr int kForwardWarps = kMaxWarps;
template <class Half, int kDim>
constexpr int kForwardWarps<HalfProduct<Half>, kDim> = kDim <= 64 ? 2 * kMaxWarps : kMaxWarps;

/// Keys or values in shared memory, and how products take them from there. float32: as they are in
/// memory, copied without a detour.
template <class Product, int kDim>
struct KeyTile {
  using Element = float;

  static __device__ __forceinline__ void load(float* tile, const float* from, int64_t stride,
                                              int rows, int padded, int dim, bool aligned) {
    load_tile<kDim>(tile, from, stride, rows, padded, dim, aligned);
  }
  /// What a lane has of sixteen columns of a query: from kLaneColumns t on, of which `count` are
  /// there.
  static constexpr int kLaneColumns = 4;
  static __device__ __forceinline__ float4 query(const float* row, int count, bool aligned) {
    return load_four(row, count, aligned);
  }
  /// scores of eight keys and the next eight, from row `first` of the tile on, grow by what sixteen
  /// columns add.
  static __device__ __forceinline__ void multiply_keys(float (&scores)[4], float (&next)[4],
                                                       const typename Product::Left& left,
                                                       const float* tile, int first, int k,
                                                       Lane lane) {
    Product::multiply(scores, left, Product::right(row_of<kDim, 0>(tile, first, k, lane)));
    Product::multiply(next, left, Product::right(row_of<kDim, 1>(tile, first, k, lane)));
  }
  static __device__ __forceinline__ void multiply_values(float (&output)[kDim / 8][4],
                                                         const typename Product::Left& left,
                                                         const float* tile, int first, Lane lane) {
    multiply_columns<Product, kDim>(output, left, tile, first, lane);
  }
  static __device__ __forceinline__ void store(float* to, int64_t stride, int rows, int dim,
                                               const float (&output)[kDim / 8][4], float factor,
                                               bool aligned, Lane lane) {
    store_all<kDim>(to, stride, rows, dim, output, factor, aligned, lane);
  }
};

/// Half precision: see HalfTile.
template <class Half, int kDim>
struct KeyTile<HalfProduct<Half>, kDim> : HalfTile<Half, kDim> {
  using Product = HalfProduct<Half>;
  using Rows = HalfTile<Half, kDim>;

  static constexpr int kLaneColumns = 2;
  static __device__ __forceinline__ float4 query(const float* row, int count, bool aligned) {
    const float2 a = load_two(row, count, aligned);
    const float2 b = load_two(row + 8, count - 8, aligned);
    return {a.x, a.y, b.x, b.y};
  }
  static __device__ __forceinline__ void multiply_keys(float (&scores)[4], float (&next)[4],
                                                       const typename Product::Left& left,
                                                       const uint16_t* tile, int first, int k,
                                                       Lane lane) {
    typename Product::Right right[2];
    Rows::rights_of_rows(right, tile, first, k, lane);
    Product::multiply(scores, left, right[0]);
    Product::multiply(next, left, right[1]);
  }
  static __device__ __forceinline__ void multiply_values(float (&output)[kDim / 8][4],
                                                         const typename Product::Left& left,
                                                         const uint16_t* tile, int first,
                                                         Lane lane) {
    Rows::multiply_columns(output, left, tile, first, lane);
  }

 private:
  static __device__ __forceinline__ float2 load_two(const float* from, int count, bool aligned) {
    if (aligned && count >= 2) return *reinterpret_cast<const float2*>(from);
    return {count > 0 ? from[0] : 0.0f, count > 1 ? from[1] : 0.0f};
  }
};

/// Rows of probabilities on their way to memory: so many floats apart that no bank is met twice.
template <class Product, int kDim>
constexpr int kStagedStride = kChunk<Product, kDim> + 8;
constexpr int kStagedRows = 8;  // of a warp

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
__device__ __forceinline__ void multiply_keys(float (&scores)[kChunk<Product, kDim> / 8][4],
                                              const QueryFragments<Product, kDim>& query,
                                              const typename KeyTile<Product, kDim>::Element* keys,
                                              int first, int end, Lane lane) {
#pragma unroll
  for (int j = 0; j < kChunk<Product, kDim> / 8; j += 2) {
#pragma unroll
    for (int e = 0; e < 4; ++e) scores[j][e] = scores[j + 1][e] = 0;
    if (first + 8 * j >= end) continue;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      KeyTile<Product, kDim>::multiply_keys(scores[j], scores[j + 1], query.left(k), keys,
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

template <class Product, int kDim>
__global__ void __launch_bounds__(kForwardWarps<Product, kDim>* kWarp)
    forward(const __grid_constant__ Forward op, const __grid_constant__ HeadList list) {
  constexpr int kKeys = kChunk<Product, kDim>;
  using Tile = KeyTile<Product, kDim>;
  using Element = typename Tile::Element;
  extern __shared__ __align__(128) float shared[];
  const AttentionShape& shape = op.shape;
  const int64_t sequence = blockIdx.x;
  const int head = list.head[blockIdx.y];
  const float mask = list.mask[blockIdx.y];
  const HeadRows at(shape, sequence, head);
  const int warp = threadIdx.x / kWarp;
  const Lane lane;
  const int block_rows = blockDim.x / kWarp * kRowsOfWarp;
  const float scale = shape.scale * kLog2E;
  const float* key = shape.key + at.first_key * shape.key_stride + at.column;
  const float* value = shape.value + at.first_key * shape.key_stride + at.column;
  Element* const tiles_shared = reinterpret_cast<Element*>(shared);
  const int tile_elements = op.tile_keys * kDim;
  float* query_shared =
      reinterpret_cast<float*>(tiles_shared + (op.resident ? 2 : 4) * tile_elements);
  float* staged = query_shared + blockDim.x / kWarp * QueryFragments<Product, kDim>::kSharedFloats +
                  warp * kStagedRows * kStagedStride<Product, kDim>;

  const auto keys_of = [&](int tile) {
    return tiles_shared + (op.resident ? 0 : tile % 2 * 2 * tile_elements);
  };
  const auto load = [&](int tile, bool values) {
    const int first = tile * op.tile_keys;
    const int rows = min(op.tile_keys, at.keys - first);
    const int padded = (rows + 15) / 16 * 16;
    const int64_t offset = first * shape.key_stride;
    Tile::load(keys_of(tile), key + offset, shape.key_stride, rows, padded, shape.head_dim,
               shape.aligned);
    if (values) {
      Tile::load(keys_of(tile) + tile_elements, value + offset, shape.key_stride, rows, padded,
                 shape.head_dim, shape.aligned);
    }
  };

  bool loaded = false;
  for (int block_row = blockIdx.z * block_rows; block_row < at.queries;
       block_row += gridDim.z * block_rows) {
    const int first_row = block_row + warp * kRowsOfWarp;
    const int rows = min(kRowsOfWarp, at.queries - first_row);  // none: below 1
    const int row_end = first_row + rows;
    const int block_seen = shape.causal ? min(block_row + block_rows, at.keys) : at.keys;
    const int warp_seen = rows < 1 ? 0 : shape.causal ? row_end : at.keys;
    const int seen_upper = shape.causal ? first_row + lane.g + 1 : at.keys;
    const int seen_lower = shape.causal ? seen_upper + 8 : at.keys;
    const int tiles = op.resident ? 1 : (block_seen + op.tile_keys - 1) / op.tile_keys;

    /// Calls use(tile's first key, tile, first row in the tile, end) for every chunk of keys that
    /// the warp sees.
    const auto each_chunk = [&](bool values, const auto& use) {
      if (!op.resident || !loaded) {
        load(0, values);
        copies_issued();
      }
      for (int tile = 0; tile < tiles; ++tile) {
        if (!op.resident) {
          if (tile + 1 < tiles) load(tile + 1, values);
          copies_issued();
          copies_arrived<1>();
          __syncthreads();
        } else if (!loaded) {
          copies_arrived<0>();
          __syncthreads();
          loaded = true;
        }
        const int first = tile * op.tile_keys;
        const int end = min(op.tile_keys, warp_seen - first);
        for (int row = 0; row < end; row += kKeys) use(first, keys_of(tile), row, end);
        if (!op.resident) __syncthreads();
      }
    };

    QueryFragments<Product, kDim> query(query_shared);
    const float* query_row = shape.query +
                             (at.first_query + first_row + lane.g) * shape.query_stride +
                             at.column + Tile::kLaneColumns * lane.t;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      const int count = shape.head_dim - 16 * k - Tile::kLaneColumns * lane.t;
      query.set(k, Tile::query(query_row + 16 * k, lane.g < rows ? count : 0, shape.aligned),
                Tile::query(query_row + 8 * shape.query_stride + 16 * k,
                            lane.g + 8 < rows ? count : 0, shape.aligned));
    }

    float output[kDim / 8][4] = {};
    RowState upper, lower;
    each_chunk(true, [&](int first, const Element* tile, int row, int end) {
      float scores[kKeys / 8][4];
      multiply_keys<Product, kDim>(scores, query, tile, row, end, lane);
      scale_scores(scores, scale, first + row, seen_upper, seen_lower, lane);
      float upper_peak = kUnseen;
      float lower_peak = kUnseen;
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j) {
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
      for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          RowState& state = e < 2 ? upper : lower;
          const float distance = scores[j][e] - state.maximum;
          scores[j][e] = exp2_of(distance);
          state.total += scores[j][e];
          state.weighted += scores[j][e] * distance;
        }
      }
#pragma unroll
      for (int j = 0; j < kKeys / 8; j += 2) {
        if (row + 8 * j >= end) continue;
        Tile::multiply_values(output, left_of<Product>(scores[j], scores[j + 1]),
                              tile + tile_elements, row + 8 * j, lane);
      }
    });

    const float upper_total = quad_sum(upper.total);
    const float lower_total = quad_sum(lower.total);
    const float upper_weighted = quad_sum(upper.weighted);
    const float lower_weighted = quad_sum(lower.weighted);
    const float upper_log = logf(upper_total);
    const float lower_log = logf(lower_total);
    if (lane.t == 0) {
      // With p = e / total: -sum p ln p = ln total - sum p (score - maximum). Rounding may put a
      // row that sees one key below zero.
      float* log_sum_exp = at.of_queries(op.log_sum_exp, shape, head) + first_row;
      float* entropies = at.of_queries(op.entropies, shape, head) + first_row;
      if (lane.g < rows) {
        if (op.log_sum_exp != nullptr) log_sum_exp[lane.g] = upper.maximum * kLn2 + upper_log;
        if (op.entropies != nullptr)
          entropies[lane.g] = fmaxf(upper_log - kLn2 * upper_weighted / upper_total, 0.0f);
      }
      if (lane.g + 8 < rows) {
        if (op.log_sum_exp != nullptr) log_sum_exp[lane.g + 8] = lower.maximum * kLn2 + lower_log;
        if (op.entropies != nullptr)
          entropies[lane.g + 8] = fmaxf(lower_log - kLn2 * lower_weighted / lower_total, 0.0f);
      }
    }
#pragma unroll
    for (int c = 0; c < kDim / 8; ++c) {
      output[c][0] *= 1 / upper_total;
      output[c][1] *= 1 / upper_total;
      output[c][2] *= 1 / lower_total;
      output[c][3] *= 1 / lower_total;
    }
    const int64_t offset = first_row * at.width;
    if (op.head_outputs != nullptr) {
      Tile::store(at.dense(op.head_outputs) + offset, at.width, rows, shape.head_dim, output, 1.0f,
                  shape.aligned, lane);
    }
    Tile::store(at.dense(op.context) + offset, at.width, rows, shape.head_dim, output, mask,
                shape.aligned, lane);

    if (op.probabilities == nullptr) continue;
    // Once more over the keys: now the sums are known.
    float* map =
        at.map(op.probabilities, shape, sequence, head) + static_cast<int64_t>(first_row) * at.keys;
    const float upper_sum = upper.maximum + upper_log * kLog2E;
    const float lower_sum = lower.maximum + lower_log * kLog2E;
    each_chunk(false, [&](int first, const Element* tile, int row, int end) {
      float scores[kKeys / 8][4];
      multiply_keys<Product, kDim>(scores, query, tile, row, end, lane);
      scale_scores(scores, scale, first + row, seen_upper, seen_lower, lane);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float log_sum = half == 0 ? upper_sum : lower_sum;
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j) {
          float* to = staged + lane.g * kStagedStride<Product, kDim> + 8 * j + 2 * lane.t;
          *reinterpret_cast<float2*>(to) = {mask * exp2_of(scores[j][2 * half] - log_sum),
                                            mask * exp2_of(scores[j][2 * half + 1] - log_sum)};
        }
        __syncwarp();
        for (int r = 0; r < min(8, rows - 8 * half); ++r) {
          store_run(map + static_cast<int64_t>(8 * half + r) * at.keys + first + row,
                    min(kKeys, at.keys - first - row),
                    [&](int i) { return staged[r * kStagedStride<Product, kDim> + i]; });
        }
        __syncwarp();
      }
    });
    const int written = (warp_seen + kKeys - 1) / kKeys * kKeys;
    for (int r = 0; r < rows; ++r) {
      store_run(map + static_cast<int64_t>(r) * at.keys + written, at.keys - written,
                [](int) { return 0.0f; });
    }
  }
}

template <class Product, int kDim>
void launch(CudaStream& stream, Forward op, const AttentionInputs& in) {
  const int64_t sequences = in.queries.count;
  const int64_t queries = longest(in.queries);
  const int64_t keys = longest(in.keys);
  Context& context = stream.context();
  // Some warps more than there are queries help to load the keys.
  int64_t warps =
      std::clamp<int64_t>((queries + kRowsOfWarp - 1) / kRowsOfWarp,
                          std::min<int64_t>(4, (keys + 15) / 16), kForwardWarps<Product, kDim>);
  const int64_t warp_floats =
      QueryFragments<Product, kDim>::kSharedFloats +
      (op.probabilities == nullptr ? 0 : kStagedRows * kStagedStride<Product, kDim>);
  const auto shared_bytes = [&](int64_t tile_keys, int64_t tiles) {
    return 2 * tiles * tile_keys * kDim *
               static_cast<int64_t>(sizeof(typename KeyTile<Product, kDim>::Element)) +
           static_cast<int64_t>(sizeof(float)) * warps * warp_floats;
  };
  const int64_t limit = context.shared_memory_per_block();
  op.resident = shared_bytes(round_up(keys, 16), 1) <= limit;
  op.tile_keys = static_cast<int>(op.resident ? round_up(keys, 16) : kChunk<Product, kDim>);
  while (!op.resident && shared_bytes(op.tile_keys, 2) > limit) --warps;
  const int64_t shared = shared_bytes(op.tile_keys, op.resident ? 1 : 2);
  allow_shared_memory(context, forward<Product, kDim>, shared);
  each_list(in, nullptr, true, [&](const HeadList& list) {
    // Where the keys stay in shared memory, blocks that go on with the next queries read them once;
    // but all multiprocessors are to have work.
    const int64_t steps = (queries + warps * kRowsOfWarp - 1) / (warps * kRowsOfWarp);
    const int64_t pairs = sequences * list.count;
    const int64_t fill = (context.properties().multiProcessorCount + pairs - 1) / pairs;
    const dim3 grid(static_cast<unsigned>(sequences), static_cast<unsigned>(list.count),
                    static_cast<unsigned>(op.resident ? std::min(steps, fill) : steps));
    forward<Product, kDim>
        <<<grid, static_cast<unsigned>(warps * kWarp), shared, stream.handle()>>>(op, list);
    stream.launched("attention_forward", {sequences, list.count, keys, in.head_dim});
  });
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
                     false};
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
