// What the kernels of the attention's backward pass share.
#pragma once

#include "cuda/attention.cuh"

namespace bertology::cuda {

struct Backward {
  AttentionShape shape;
  const float* d_context;     // [query rows, heads head_dim]
  const float* head_outputs;  // [query rows, heads head_dim]
  const float* log_sum_exp;   // by sequence [heads, queries]
  float* d_query;             // [query rows, d_query_stride], or null
  float* d_key;               // [key rows, d_key_stride], or null
  float* d_value;             // [key rows, d_key_stride], or null
  int64_t d_query_stride, d_key_stride;
  float* head_gradients;        // [sequences, example_stride] at the head's index
  float* token_head_gradients;  // as head_gradients, or null
  int64_t example_stride;
  double* head_sums;       // [head's index, kHeadSums], or null
  int32_t* tickets;        // [heads]: blocks of each head that have written their gradient
  float* d_head_outputs;   // [query rows, heads head_dim], or null
  float* d_probabilities;  // by sequence [heads, n, n], or null
  float* products;         // D by sequence [heads, queries]
  int short_queries;  // of key_gradients: half_gradients takes sequences with up to so many; -1:
                      // none
};

constexpr int kRowLanes = 8;     // that multiply a row of o and dcontext
constexpr float kNever = 1e30f;  // log-sum-exp of a row that is not there: all its p are 0

// Gradients may be far below what Float16 can tell from zero: each row of dcontext is divided by a
// power of two next to its largest element. P and dS, which stand in products with other rows, are
// in units of the largest of these powers, and so are the sums of such products.

/// The power of two not above a number, far enough from the ends of float's range for inverse().
__device__ __forceinline__ float power_of_two(float x) {
  const int bits = __float_as_int(x) & 0x7f800000;
  return __int_as_float(min(max(bits, 1 << 23), 253 << 23));
}
__device__ __forceinline__ float inverse(float power) {
  return __int_as_float((254 << 23) - __float_as_int(power));
}
__device__ __forceinline__ float largest_of(const float4& v) {
  return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
}

/// What four columns add to D.
__device__ __forceinline__ void add_product(float& product, const float4& o, const float4& d) {
  product = fmaf(o.x, d.x, product);
  product = fmaf(o.y, d.y, product);
  product = fmaf(o.z, d.z, product);
  product = fmaf(o.w, d.w, product);
}
/// D of a row, whose chunks of four columns are dealt to kRowLanes lanes: the same bits wherever it
/// is computed.
__device__ __forceinline__ float sum_row(float product) {
#pragma unroll
  for (int distance = kRowLanes / 2; distance > 0; distance /= 2) {
    product += __shfl_xor_sync(kAllLanes, product, distance);
  }
  return product;
}
__device__ __forceinline__ float largest_of_row(float largest) {
#pragma unroll
  for (int distance = kRowLanes / 2; distance > 0; distance /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, distance));
  }
  return largest;
}

/// Rows of dcontext of the queries `first` ... of a sequence go to a tile in shared memory, by the
/// whole block, with what else is made of them: D if `with_products`, and dL/dhead_outputs then. If
/// kScaled, each is divided by a power of two next to its largest element, which goes to `powers`.
/// Of the rows up to `padded`, those from `rows` on are 0.
template <class Rows, bool kScaled>
__device__ __forceinline__ void load_d_outputs(const Backward& op, const HeadRows& at, int first,
                                               int rows, int padded, bool with_products, float mask,
                                               typename Rows::Element* tile, float* products,
                                               float* powers) {
  constexpr int kFours = Rows::kColumns / 4 / kRowLanes;
  const AttentionShape& shape = op.shape;
  const int lane = again(threadIdx.x) % kRowLanes;
  for (int row = again(threadIdx.x) / kRowLanes; row < padded; row += blockDim.x / kRowLanes) {
    float4 d[kFours];
    float product = 0;
    float largest = 0;
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const int column = 4 * (lane + i * kRowLanes);
      const int count = row < rows ? shape.head_dim - column : 0;
      const int64_t offset = (first + row) * at.width + column;
      d[i] = load_four(at.dense(op.d_context) + offset, count, shape.aligned);
      largest = fmaxf(largest, largest_of(d[i]));
      if (!with_products) continue;
      add_product(product, load_four(at.dense(op.head_outputs) + offset, count, shape.aligned),
                  d[i]);
      if (op.d_head_outputs != nullptr) {
        store_four(at.dense(op.d_head_outputs) + offset,
                   {mask * d[i].x, mask * d[i].y, mask * d[i].z, mask * d[i].w}, count,
                   shape.aligned);
      }
    }
    product = sum_row(product);
    if (with_products && lane == 0) products[row] = product;
    float factor = 1;
    if (kScaled) {
      const float power = power_of_two(largest_of_row(largest));
      factor = inverse(power);
      if (lane == 0) powers[row] = power;
    }
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      Rows::put(tile, row, lane + i * kRowLanes,
                {factor * d[i].x, factor * d[i].y, factor * d[i].z, factor * d[i].w});
    }
  }
}

/// Writes the gradient of a head of a sequence, by one warp, whose lane l comes with the sums over
/// the rows l, l + 32, ... The last block of a head to come here adds up what all have written.
__device__ __forceinline__ void finish_head(const Backward& op, const HeadList& list,
                                            float signed_sum, float absolute_sum) {
  const int lane = threadIdx.x % kWarp;
  const int64_t index = list.index[blockIdx.y];
  const int64_t sequences = gridDim.x;
  signed_sum = warp_sum(signed_sum);
  absolute_sum = warp_sum(absolute_sum);
  int32_t* ticket = op.tickets + list.head[blockIdx.y];
  int finished = 0;
  if (lane == 0) {
    const int64_t target = blockIdx.x * op.example_stride + index;
    op.head_gradients[target] = signed_sum;
    if (op.token_head_gradients != nullptr) op.token_head_gradients[target] = absolute_sum;
    if (op.head_sums != nullptr) {
      __threadfence();
      finished = atomicAdd(ticket, 1) + 1;
    }
  }
  if (op.head_sums == nullptr) return;
  if (__shfl_sync(kAllLanes, finished, 0) != sequences) return;
  __threadfence();
  __syncwarp();
  if (lane == 0) *ticket = 0;  // for the next launch
  double* sums = op.head_sums + index * kHeadSums;
  double sum = lane < kHeadSums ? sums[lane] : 0;
  for (int64_t first = 0; first < sequences; first += kWarp) {
    const int count = static_cast<int>(min(static_cast<int64_t>(kWarp), sequences - first));
    const int64_t source = (first + min(lane, count - 1)) * op.example_stride + index;
    const float gradients = __ldcg(op.head_gradients + source);
    const float of_tokens = __ldcg(op.token_head_gradients + source);
    for (int b = 0; b < count; ++b) {
      const double g = __shfl_sync(kAllLanes, gradients, b);
      const double tokens = __shfl_sync(kAllLanes, of_tokens, b);
      switch (lane) {
        case kSignedSum:
          sum += g;
          break;
        case kAbsoluteSum:
          sum += fabs(g);
          break;
        case kSquaredSum:
          sum += g * g;
          break;
        default:
          sum += tokens;
      }
    }
  }
  if (lane < kHeadSums) sums[lane] = sum;
}

/// Launches half_gradients: every gradient in one kernel, where products are of half precision and
/// all queries of a sequence fit a block. Returns how many queries do, or -1 if no sequence has
/// been taken, as in float32.
int64_t launch_half_gradients(CudaStream& stream, const Backward& op, const AttentionInputs& in,
                              const int32_t* head_index);

}  // namespace bertology::cuda
