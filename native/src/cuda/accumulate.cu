// Adding the sums of a run to those of the runs before it: a few thousand numbers, once a run.
#include <algorithm>

#include "cuda/stream.h"

namespace bertology::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    accumulate_kernel(double* __restrict__ to, const double* __restrict__ from, int64_t count) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step)
    to[i] += from[i];
}

}  // namespace

void CudaStream::accumulate(double* to, const double* from, int64_t count) {
  if (count == 0) return;
  constexpr int64_t kMostBlocks = 1024;
  const int64_t blocks = std::min((count + kThreads - 1) / kThreads, kMostBlocks);
  accumulate_kernel<<<static_cast<unsigned int>(blocks), kThreads, 0, handle()>>>(to, from, count);
  launched("accumulate", {count});
}

}  // namespace bertology::cuda
