// A row is read once for the largest logit, the sum and the prediction together, and once more for
// its gradient, which the second level cache still has.
//
// Rows of a vocabulary of odd size start at any address. They are read in aligned fours all the
// same, and a shuffle brings each thread the four columns that are its own wherever the row starts:
// so the sums of an example are the same bits at any place of a batch.
#include "ops/loss.h"

#include <climits>

#include "cuda/row.cuh"
#include "cuda/stream.h"

namespace bertology::cuda {
namespace {

constexpr float kLowest = -3.4028235e38f;

/// How many floats after a multiple of 16 bytes an address is.
__device__ __forceinline__ int float4_offset(const float* address) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(address) / sizeof(float) % 4);
}

/// row[column ... column + 4), aligned, at most one end outside of the row: -infinity there.
__device__ __forceinline__ float4 load_aligned(const float* row, int64_t column, int64_t classes) {
  if (column >= 0 && column + 4 <= classes) return *reinterpret_cast<const float4*>(row + column);
  float four[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    four[k] = column + k >= 0 && column + k < classes ? row[column + k] : -INFINITY;
  }
  return make_float4(four[0], four[1], four[2], four[3]);
}

/// row[column ... column + 4) with column = 4 lane + the same for all lanes of the warp.
__device__ __forceinline__ void load_four(const float* row, int64_t column, int64_t classes,
                                          float* four) {
  const int offset = float4_offset(row);  // the same in the whole warp
  const float4 left = load_aligned(row, column - offset, classes);
  four[0] = left.x;
  four[1] = left.y;
  four[2] = left.z;
  four[3] = left.w;
  if (offset == 0) return;
  float4 right;
  right.x = __shfl_down_sync(kAllLanes, left.x, 1);
  right.y = __shfl_down_sync(kAllLanes, left.y, 1);
  right.z = __shfl_down_sync(kAllLanes, left.z, 1);
  right.w = 0;  // never wanted
  if (threadIdx.x % kWarp == kWarp - 1) right = load_aligned(row, column - offset + 4, classes);
  if (offset == 1) {
    four[0] = left.y;
    four[1] = left.z;
    four[2] = left.w;
    four[3] = right.x;
  } else if (offset == 2) {
    four[0] = left.z;
    four[1] = left.w;
    four[2] = right.x;
    four[3] = right.y;
  } else {
    four[0] = left.w;
    four[1] = right.x;
    four[2] = right.y;
    four[3] = right.z;
  }
}

/// d = scale exp(logit - peak), less weight at the label. logits and d_logits may be the same.
struct Gradient {
  const float* logits;  // [classes]
  float* d_logits;      // [classes]
  int label;
  float peak, scale, weight;

  __device__ __forceinline__ float at(float logit, int64_t column) const {
    if (label < 0) return 0;
    const float d = __fmul_rn(scale, expf(logit - peak));  // rounded alike in every loop
    return column == label ? d - weight : d;
  }

  __device__ __forceinline__ void write(int64_t classes) const {
    const int offset = float4_offset(logits);
    // Elements before the first multiple of 16 bytes; all, if the two rows never are at one.
    int64_t head = offset == float4_offset(d_logits) ? (4 - offset) % 4 : classes;
    if (head > classes) head = classes;
    const int64_t quads = (classes - head) / 4;
    for (int64_t c = threadIdx.x; c < head; c += blockDim.x)
      d_logits[c] = label < 0 ? 0 : at(logits[c], c);
    for (int64_t q = threadIdx.x; q < quads; q += blockDim.x) {
      const int64_t c = head + 4 * q;
      float4 four = make_float4(0, 0, 0, 0);
      if (label >= 0) {
        four = *reinterpret_cast<const float4*>(logits + c);
        four = make_float4(at(four.x, c), at(four.y, c + 1), at(four.z, c + 2), at(four.w, c + 3));
      }
      // One store: the compiler would split it where labels are compared.
      asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(d_logits + c), "f"(four.x),
                   "f"(four.y), "f"(four.z), "f"(four.w)
                   : "memory");
    }
    for (int64_t c = head + 4 * quads + threadIdx.x; c < classes; c += blockDim.x)
      d_logits[c] = label < 0 ? 0 : at(logits[c], c);
  }
};

__global__ void __launch_bounds__(kRowBlock) cross_entropy_rows(CrossEntropy op) {
  const int64_t r = this_row();
  if (r >= op.rows) return;
  const float* logits = op.logits + r * op.classes;
  const int label = op.labels == nullptr ? -1 : op.labels[r];
  float peak = kLowest;  // of this thread's columns
  float total = 0;       // of exp(logit - peak)
  int largest = INT_MAX;
  if (label >= 0 || op.predictions != nullptr) {
    const int lane = threadIdx.x % kWarp;
    // Columns that the row does not have are -infinity, which changes nothing.
    for (int64_t tile = 4 * (threadIdx.x - lane); tile < op.classes; tile += 4 * blockDim.x) {
      float four[4];
      load_four(logits, tile + 4 * lane, op.classes, four);
      const float most = fmaxf(fmaxf(four[0], four[1]), fmaxf(four[2], four[3]));
      if (most > peak) {
        total *= expf(peak - most);
        peak = most;
#pragma unroll
        for (int k = 3; k >= 0; --k) {
          if (four[k] == most) largest = static_cast<int>(tile) + 4 * lane + k;
        }
      }
      if (label >= 0) {
#pragma unroll
        for (int k = 0; k < 4; ++k) total += expf(four[k] - peak);
      }
    }
    const float own_peak = peak;
    peak = row_max(own_peak);
    total = row_sum(total * expf(own_peak - peak));
    if (op.predictions != nullptr) {
      // The first column that has the largest logit. Columns are exact in float32 up to 2^24.
      const float first = -row_max(own_peak == peak ? -static_cast<float>(largest) : kLowest);
      const float last = static_cast<float>(op.classes - 1);
      if (threadIdx.x == 0) op.predictions[r] = first < last ? first : last;
    }
  }
  if (op.losses != nullptr && threadIdx.x == 0)
    op.losses[r] = label < 0 ? 0 : logf(total) - (logits[label] - peak);
  if (op.d_logits == nullptr) return;
  // The loss above is read from the logits that the gradient may overwrite.
  if (blockDim.x == kWarp) {
    __syncwarp();
  } else {
    __syncthreads();
  }
  const float weight = label >= 0 && op.weights != nullptr ? op.weights[r] : 1.0f;
  const Gradient gradient = {logits, op.d_logits + r * op.classes, label, peak, weight / total,
                             weight};
  gradient.write(op.classes);
}

__global__ void __launch_bounds__(kRowBlock) squared_error_rows(SquaredError op) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (r >= op.rows) return;
  const float difference = op.predictions[r] - op.targets[r];
  op.losses[r] = difference * difference;
  if (op.d_predictions != nullptr) op.d_predictions[r] = 2 * difference;
}

}  // namespace

void CudaStream::cross_entropy(const CrossEntropy& op) {
  if (op.rows == 0) return;
  const RowGrid grid = row_grid(op.rows, op.classes, kPartFloats, kRowBlock);
  cross_entropy_rows<<<grid.blocks, grid.block, 0, handle()>>>(op);
  launched("cross_entropy", {op.rows, op.classes});
}

void CudaStream::squared_error(const SquaredError& op) {
  if (op.rows == 0) return;
  const unsigned blocks = static_cast<unsigned>((op.rows + kRowBlock - 1) / kRowBlock);
  squared_error_rows<<<blocks, kRowBlock, 0, handle()>>>(op);
  launched("squared_error", {op.rows});
}

}  // namespace bertology::cuda
