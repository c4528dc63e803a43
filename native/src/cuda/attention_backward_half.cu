// All gradients of attention in half precision, in one kernel that reads every operand once: the
// formulas are those of attention_backward.cu.
//
// A block has all queries of its (sequence, head) in shared memory, with their dcontext, and their
// gradients in registers; keys and values come sixteen at a time, and their gradients are complete
// before the next ones come.
//
// Each row of dcontext is in shared memory divided by a power of two next to its largest element,
// for Float16's sake; what stands in products with other rows is in units of `unit`, the largest of
// these powers.
#include <algorithm>

#include "cuda/attention_backward.cuh"

namespace bertology::cuda {
namespace {

constexpr int kStepKeys = 16;
constexpr int kHalfWarps = 2 * kMaxWarps;

/// Warps of a block at least: as many as there are chunks of eight columns.
template <int kDim>
constexpr int kLeastWarps = kDim <= 64 ? kMaxWarps : kHalfWarps;
/// Sixteen queries a group: so many of a warp have their gradients in its registers.
template <int kDim>
constexpr int kGroups = kDim <= 32   ? 4
                        : kDim <= 64 ? 2
                                     : 1;
template <int kDim>
constexpr int kPartialStride = kDim + 8;  // so that no bank is met twice

/// Steps of the longest products that are unrolled: with more a thread's registers do not suffice.
constexpr int kUnrolled = 4;

/// Warps for a sequence with so many queries, a multiple of 32.
template <int kDim>
__host__ __device__ constexpr int warps_of(int rows) {
  const int warps = rows / kRowsOfWarp;
  return warps < kLeastWarps<kDim> ? kLeastWarps<kDim> : warps < kHalfWarps ? warps : kHalfWarps;
}
/// Of these, those that share the queries of one chunk of columns, in dK and dV.
template <int kDim>
__host__ __device__ constexpr int splits_of(int warps) {
  return warps / (kDim / 8);
}

/// Where things are in shared memory.
template <int kDim>
struct Places {
  __device__ __forceinline__ Places(float* shared, int rows, int kept)
      : unit(shared),
        steps(reinterpret_cast<uint16_t*>(shared + kFixedFloats)),
        values(steps + 4 * kStepKeys * kDim),
        queries(values + kept * kDim),
        d_outputs(queries + rows * kDim),
        weights(d_outputs + rows * kDim),
        log_sums(reinterpret_cast<float*>(weights + rows * kStepKeys)),
        products(log_sums + rows),
        powers(products + rows),
        partial(powers + rows) {}

  static constexpr int kFixedFloats = 4;

  float* unit;          // the largest of the powers of rows
  uint16_t* steps;      // keys and values, two of each in turns
  uint16_t* values;     // [kept, kDim]
  uint16_t* queries;    // [rows, kDim]
  uint16_t* d_outputs;  // [rows, kDim], by rows divided by powers
  uint16_t* weights;    // of a step [rows, kStepKeys]: P, then dS
  float* log_sums;      // [rows]
  float* products;      // [rows], D in units
  float* powers;        // [rows], in units
  float* partial;       // sums of all splits but the first
};

/// Bytes of shared memory.
template <int kDim>
int64_t half_gradients_shared(int64_t rows, int64_t kept, int warps) {
  const int64_t halves = (2 * rows + kept + 4 * kStepKeys) * kDim + rows * kStepKeys;
  const int64_t floats = Places<kDim>::kFixedFloats + 3 * rows +
                         (splits_of<kDim>(warps) - 1) * kStepKeys * kPartialStride<kDim>;
  return halves * static_cast<int64_t>(sizeof(uint16_t)) +
         floats * static_cast<int64_t>(sizeof(float));
}

/// `rows`: queries of the longest sequence, up to a multiple of 32; `kept`: the same of keys, if
/// all values stay in shared memory, where maps need them twice, else 0.
template <class Half, int kDim>
__global__ void __launch_bounds__(kHalfWarps* kWarp)
    half_gradients(const __grid_constant__ Backward op, const __grid_constant__ HeadList list,
                   const int rows, const int kept) {
  using Product = HalfProduct<Half>;
  using Rows = HalfTile<Half, kDim>;
  extern __shared__ __align__(128) float shared[];
  const AttentionShape& shape = op.shape;
  const int64_t sequence = blockIdx.x;
  const int head = list.head[blockIdx.y];
  const HeadRows at(shape, sequence, head);
  if (at.queries > rows) return;
  const auto first_row_of = [](int group) {
    return static_cast<int>(group * blockDim.x + again(threadIdx.x)) / kWarp * kRowsOfWarp;
  };

  const auto padded_of = [](int rows) { return (again(rows) + 31) / 32 * 32; };
  const auto mask_of = [&] { return list.mask[again(blockIdx.y)]; };
  const auto head_of = [&] { return list.head[again(blockIdx.y)]; };

  {
    const Places<kDim> place(shared, rows, kept);
    const int padded = padded_of(at.queries);
    Rows::load(place.queries, shape.query + at.first_query * shape.query_stride + at.column,
               shape.query_stride, at.queries, padded, shape.head_dim, shape.aligned);
    load_d_outputs<Rows, true>(op, at, 0, at.queries, padded, true, mask_of(), place.d_outputs,
                               place.products, place.powers);
    for (int row = threadIdx.x; row < padded; row += blockDim.x) {
      place.log_sums[row] =
          row < at.queries ? at.of_queries(op.log_sum_exp, shape, head)[row] * kLog2E : kNever;
    }
    __syncthreads();
    if (threadIdx.x < kWarp) {
      float power = 0;
      float signed_sum = 0;
      float absolute_sum = 0;
      for (int row = threadIdx.x; row < at.queries; row += kWarp) {
        power = fmaxf(power, place.powers[row]);
        signed_sum += place.products[row];
        absolute_sum += fabsf(place.products[row]);
      }
      finish_head(op, list, signed_sum, absolute_sum);
      power = warp_max(power);
      if (threadIdx.x == 0) *place.unit = power;
    }
    __syncthreads();
    const float to_units = inverse(*place.unit);
    for (int row = threadIdx.x; row < padded; row += blockDim.x) {
      place.products[row] *= to_units;
      place.powers[row] *= to_units;
    }
    __syncthreads();
  }

  // The gradients of probabilities on their own: with all else a thread would need too many
  // registers. If they are not kept, values come a second time.
  if (op.d_probabilities != nullptr) {
    constexpr int kKeys = 2 * kStepKeys;
    const Places<kDim> place(shared, rows, kept);
    const auto map_of = [&](int first_row) {
      return at.map(op.d_probabilities, shape, again(blockIdx.x), head_of()) +
             static_cast<int64_t>(first_row) * at.keys;
    };
    float last[kGroups<kDim>][4] = {};
    for (int first_key = 0; first_key < at.keys; first_key += kKeys) {
      uint16_t* values = kept > 0 ? place.values + first_key * kDim
                                  : place.steps + first_key / kKeys % 2 * kKeys * kDim;
      if (kept == 0 || first_key == 0) {
        Rows::load(values, shape.value + (at.first_key + first_key) * shape.key_stride + at.column,
                   shape.key_stride, at.keys - first_key,
                   kept > 0 ? (at.keys + kKeys - 1) / kKeys * kKeys : kKeys, shape.head_dim,
                   shape.aligned);
        __syncthreads();
      }
#pragma unroll
      for (int group = 0; group < kGroups<kDim>; ++group) {
        const Lane lane(again(threadIdx.x));
        const int first_row = again(first_row_of(group));
        if (first_row >= at.queries) break;
        const bool any_seen = !shape.causal || first_key < first_row + kRowsOfWarp;
#pragma unroll 1
        for (int j = 0; j < kKeys / 8; j += 2) {
          float d[2][4] = {};
          if (any_seen) {
#pragma unroll
            for (int k = 0; k < kDim / 16; ++k) {
              const auto left = Rows::left_of_rows(place.d_outputs, first_row, k, lane);
              Rows::multiply_rows(d[0], d[1], left, values, 8 * j, k, lane);
            }
          }
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int first = first_key + 8 * (j + i);
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              const int row = first_row + lane.g + e / 2 * 8;
              const bool sees = !shape.causal || first + 2 * lane.t + e % 2 <= row;
              d[i][e] = sees ? d[i][e] * place.powers[row] * *place.unit : 0;
            }
            add_columns(last[group], d[i], map_of(first_row), at.keys, first,
                        at.queries - first_row, lane);
          }
        }
      }
    }
#pragma unroll
    for (int group = 0; group < kGroups<kDim>; ++group) {
      const int first_row = first_row_of(group);
      if (first_row >= at.queries) break;
      add_columns(last[group], last[group], map_of(first_row), at.keys,
                  (at.keys + kKeys - 1) / kKeys * kKeys, at.queries - first_row, Lane());
    }
    __syncthreads();
  }

  constexpr int kFours = kDim / 4;
  const auto key_row = [first = static_cast<int>(at.first_key)](int row) {
    return static_cast<int64_t>(first + row);
  };
  const auto step_row = [&](const float* from, int row) {
    return from + key_row(row) * shape.key_stride + head_of() * shape.head_dim;
  };
  /// Of keys and values; a row of values follows each sixteen of keys.
  const auto load_step = [&](uint16_t* to, int first_key) {
#pragma unroll 1
    for (int i = again(threadIdx.x); i < (kept > 0 ? 1 : 2) * kStepKeys * kFours; i += blockDim.x) {
      const int row = first_key + i / kFours % kStepKeys;
      const int four = i % kFours;
      Rows::put(
          to, i / kFours, four,
          load_four(step_row(i < kStepKeys * kFours ? shape.key : shape.value, row) + 4 * four,
                    row < at.keys ? shape.head_dim - 4 * four : 0, shape.aligned));
    }
  };
  /// No registers are left to hold them on their way: they come as far as the second level cache.
  const auto announce_step = [&](int first_key) {
    const int i = again(threadIdx.x);
    constexpr int kLines = (kDim * 4 + 127) / 128;  // of a row
    const int row = first_key + i / kLines % kStepKeys;
    if (i < (kept > 0 ? 1 : 2) * kStepKeys * kLines && row < at.keys) {
      asm volatile("prefetch.global.L2 [%0];" ::"l"(
          __cvta_generic_to_global(step_row(i < kStepKeys * kLines ? shape.key : shape.value, row) +
                                   min(i % kLines * 32, shape.head_dim - 1))));
    }
  };
  /// Of the eight keys of a half of a step: halves change places so that no bank is met twice.
  const auto weights_at = [](uint16_t* weights, int row, int half) {
    return weights + row * kStepKeys + 8 * (half ^ row / 4 % 2);
  };
  const auto put_weights = [&](uint16_t* weights, int first_row,
                               const typename Product::Left& values, Lane lane) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      *reinterpret_cast<uint32_t*>(weights_at(weights, first_row + lane.g + i % 2 * 8, i / 2) +
                                   2 * lane.t) = values.r[i];
    }
  };
  /// to[kStepKeys, kDim] = factor times weights^T rows of `right`: each warp has eight columns and
  /// a split of the queries. Does `meanwhile` when all warps have seen the weights.
  const auto multiply_weights = [&](float* to, int first_key, bool is_key, float factor,
                                    const auto& meanwhile) {
    constexpr int kColumns = kDim / 8;
    constexpr int kSplitFloats = kStepKeys * kPartialStride<kDim>;
    const Places<kDim> place(shared, again(rows), again(kept));
    const Lane lane(again(threadIdx.x));
    const uint16_t* right_rows = is_key ? place.queries : place.d_outputs;
    const int warp = again(threadIdx.x) / kWarp;
    const int padded = padded_of(at.queries);
    const int splits = splits_of<kDim>(warps_of<kDim>(padded));
    const int column = warp % kColumns;
    const int split = warp / kColumns;  // none from `splits` on
    const int begin =
        max(padded / 32 * split / splits * 32, shape.causal ? first_key / 32 * 32 : 0);
    const int end = split < splits ? padded / 32 * (split + 1) / splits * 32 : 0;
    float sum[4] = {};
#pragma unroll 1
    for (int row = begin; row < end; row += 32) {
      typename Product::Right right[2];
      Rows::rights_of_columns(right, right_rows, row, column, lane);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        typename Product::Left left;
        load_four_matrices<true>(
            left.r[0], left.r[1], left.r[2], left.r[3],
            weights_at(place.weights, row + 16 * half + lane.l % 8 + lane.l / 16 * 8,
                       lane.l / 8 % 2));
        Product::multiply(sum, left, right[half]);
      }
    }
    float* sums = place.partial + lane.g * kPartialStride<kDim> + 8 * column + 2 * lane.t;
    if (split > 0 && split < splits) {
      float* mine = sums + (split - 1) * kSplitFloats;
      *reinterpret_cast<float2*>(mine) = {sum[0], sum[1]};
      *reinterpret_cast<float2*>(mine + 8 * kPartialStride<kDim>) = {sum[2], sum[3]};
    }
    __syncthreads();
    if (split == 0) {
#pragma unroll 1
      for (int other = 0; other < splits - 1; ++other) {
        const float* its = sums + other * kSplitFloats;
        const float2 upper = *reinterpret_cast<const float2*>(its);
        const float2 lower = *reinterpret_cast<const float2*>(its + 8 * kPartialStride<kDim>);
        sum[0] += upper.x;
        sum[1] += upper.y;
        sum[2] += lower.x;
        sum[3] += lower.y;
      }
      Rows::store(to + key_row(first_key) * op.d_key_stride + head_of() * shape.head_dim,
                  op.d_key_stride, at.keys - first_key, shape.head_dim, column, sum,
                  mask_of() * factor * *place.unit, shape.aligned, lane);
    }
    meanwhile(place, lane);
  };

  load_step(Places<kDim>(shared, rows, kept).steps, 0);
  __syncthreads();
  float d_query[kGroups<kDim>][kDim / 8][4] = {};
  const int step_count = (at.keys + kStepKeys - 1) / kStepKeys;
  for (int step = 0; step < step_count; ++step) {
    const int first_key = again(step) * kStepKeys;
    announce_step(first_key + kStepKeys);
    typename Product::Left d_scores[kGroups<kDim>];
#pragma unroll
    for (int group = 0; group < kGroups<kDim>; ++group) {
      const Places<kDim> place(shared, again(rows), again(kept));
      const Lane lane(again(threadIdx.x));
      const uint16_t* keys = place.steps + step % 2 * 2 * kStepKeys * kDim;
      const uint16_t* values = kept > 0 ? place.values + first_key * kDim : keys + kStepKeys * kDim;
      const int first_row = first_row_of(group);
      if (first_row >= padded_of(at.queries)) break;
      const bool any_seen =
          first_row < at.queries && (!shape.causal || first_key < first_row + kRowsOfWarp);
      float p[2][4] = {};
      float d[2][4] = {};
      if (any_seen) {
#pragma unroll kUnrolled
        for (int k = 0; k < kDim / 16; ++k) {
          auto left = Rows::left_of_rows(place.queries, first_row, k, lane);
          Rows::multiply_rows(p[0], p[1], left, keys, 0, k, lane);
          left = Rows::left_of_rows(place.d_outputs, first_row, k, lane);
          Rows::multiply_rows(d[0], d[1], left, values, 0, k, lane);
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = first_row + lane.g + 8 * half;
          const float log_sum = place.log_sums[row];
          const float product = place.products[row];
          const float power = place.powers[row];
          const int seen = (shape.causal ? row + 1 : at.keys) - first_key - 2 * lane.t;
#pragma unroll
          for (int j = 0; j < 2; ++j) {
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; ++e) {
              const float x = probability_of(p[j][e] * (shape.scale * kLog2E) - log_sum);
              const float seen_x = 8 * j + e % 2 < seen ? x : 0;
              p[j][e] = seen_x * power;
              d[j][e] = seen_x * (power * d[j][e] - product);
            }
          }
        }
      }
      put_weights(place.weights, first_row, left_of<Product>(p[0], p[1]), lane);
      d_scores[group] = left_of<Product>(d[0], d[1]);
      if (any_seen) Rows::multiply_columns(d_query[group], d_scores[group], keys, 0, lane);
    }
    __syncthreads();
    multiply_weights(op.d_value, first_key, false, 1, [&](const Places<kDim>& place, Lane lane) {
      load_step(place.steps + (step + 1) % 2 * 2 * kStepKeys * kDim, first_key + kStepKeys);
#pragma unroll
      for (int group = 0; group < kGroups<kDim>; ++group) {
        if (first_row_of(group) >= padded_of(at.queries)) break;
        put_weights(place.weights, first_row_of(group), d_scores[group], lane);
      }
    });
    __syncthreads();
    multiply_weights(op.d_key, first_key, true, shape.scale, [](const Places<kDim>&, Lane) {});
  }
  const float unit = *Places<kDim>(shared, rows, kept).unit;
  const HeadRows end(shape, again(blockIdx.x), head_of());
#pragma unroll
  for (int group = 0; group < kGroups<kDim>; ++group) {
    const int first_row = first_row_of(group);
    if (first_row >= at.queries) break;
    Rows::store(op.d_query + (end.first_query + first_row) * op.d_query_stride + end.column,
                op.d_query_stride, at.queries - first_row, shape.head_dim, d_query[group],
                mask_of() * shape.scale * unit, shape.aligned, Lane());
  }
}

template <class Half, int kDim>
int64_t launch(HalfProduct<Half>, Dim<kDim>, CudaStream& stream, const Backward& op,
               const AttentionInputs& in, const int32_t* head_index) {
  const int64_t limit = stream.context().shared_memory_per_block();
  int64_t most = kGroups<kDim> * kHalfWarps * kRowsOfWarp;
  while (most > 0 && half_gradients_shared<kDim>(most, 0, kHalfWarps) > limit) most -= 32;
  const int64_t rows = round_up(longest(in.queries, most), 32);
  if (rows == 0) return -1;
  const int warps = warps_of<kDim>(static_cast<int>(rows));
  int64_t kept = op.d_probabilities == nullptr ? 0 : round_up(longest(in.keys), 32);
  if (half_gradients_shared<kDim>(rows, kept, warps) > limit) kept = 0;
  const int64_t shared = half_gradients_shared<kDim>(rows, kept, warps);
  allow_shared_memory(stream.context(), half_gradients<Half, kDim>, shared);
  each_list(in, head_index, true, [&](const HeadList& list) {
    const dim3 grid(static_cast<unsigned>(in.queries.count), static_cast<unsigned>(list.count));
    half_gradients<Half, kDim>
        <<<grid, static_cast<unsigned>(warps * kWarp), shared, stream.handle()>>>(
            op, list, static_cast<int>(rows), static_cast<int>(kept));
    stream.launched("attention_backward",
                    {in.queries.count, list.count, longest(in.keys), in.head_dim});
  });
  return most;
}

}  // namespace

int64_t launch_half_gradients(CudaStream& stream, const Backward& op, const AttentionInputs& in,
                              const int32_t* head_index) {
  int64_t most = -1;
  const auto launch_one = [&](auto product, auto dim) {
    most = launch(product, dim, stream, op, in, head_index);
  };
  if (in.dtype == BERTOLOGY_BFLOAT16) with_dim<BFloat16Product>(in.head_dim, launch_one);
  if (in.dtype == BERTOLOGY_FLOAT16) with_dim<Float16Product>(in.head_dim, launch_one);
  return most;
}

}  // namespace bertology::cuda
