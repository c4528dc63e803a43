#include "ops/activation.h"

#include <algorithm>

#include "cuda/activations.cuh"
#include "cuda/row.cuh"
#include "cuda/stream.h"

namespace bertology::cuda {
namespace {

__global__ void __launch_bounds__(kRowBlock)
    times_slope(ActivationBackward op, int64_t quads) {  // those that are read four at a time
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t i = thread; i < quads; i += threads) {
    float x[4], gradient[4];
    load_piece<true>(op.preactivation + 4 * i, x);
    load_piece<true>(op.gradient + 4 * i, gradient);
#pragma unroll
    for (int k = 0; k < 4; ++k) gradient[k] *= activation_slope(op.activation, x[k]);
    store_piece<true>(op.gradient + 4 * i, gradient);
  }
  for (int64_t i = 4 * quads + thread; i < op.count; i += threads) {
    op.gradient[i] *= activation_slope(op.activation, op.preactivation[i]);
  }
}

}  // namespace

void CudaStream::activation_backward(const ActivationBackward& op) {
  if (op.count == 0 || op.activation == Activation::kNone) return;
  const int64_t quads = by_four(0, op.preactivation, op.gradient) ? op.count / 4 : 0;
  const int64_t items = std::max(quads, op.count - 4 * quads);
  const int64_t blocks = std::min<int64_t>((items + kRowBlock - 1) / kRowBlock, int64_t{1} << 20);
  times_slope<<<static_cast<unsigned>(blocks), kRowBlock, 0, handle()>>>(op, quads);
  launched("activation_backward", {op.count});
}

}  // namespace bertology::cuda
