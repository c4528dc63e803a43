// Sums and maxima over the threads of a warp or of a block, the same bits in every thread and in
// every run.
#pragma once

namespace bertology::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

struct Sum {
  __device__ static float identity() { return 0.0f; }
  __device__ float operator()(float a, float b) const { return a + b; }
};

struct Max {
  __device__ static float identity() { return -3.4028235e38f; }
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

template <class Combine>
__device__ __forceinline__ float warp_combine(float value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = Combine()(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

/// All threads of a block that is one row of whole warps (blockDim.y = 1) must come here.
template <class Combine>
__device__ __forceinline__ float block_combine(float value) {
  __shared__ float of_warps[kWarp];
  const int lane = threadIdx.x % kWarp;
  value = warp_combine<Combine>(value);
  __syncthreads();  // what the call before left has been read
  if (lane == 0) of_warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  return warp_combine<Combine>(lane < blockDim.x / kWarp ? of_warps[lane] : Combine::identity());
}

__device__ __forceinline__ float warp_sum(float value) { return warp_combine<Sum>(value); }
__device__ __forceinline__ float warp_max(float value) { return warp_combine<Max>(value); }
__device__ __forceinline__ float block_sum(float value) { return block_combine<Sum>(value); }
__device__ __forceinline__ float block_max(float value) { return block_combine<Max>(value); }

/// Over the threads of one row: a warp, several of which share a block, or a whole block.
__device__ __forceinline__ float row_sum(float value) {
  return blockDim.x == kWarp ? warp_sum(value) : block_sum(value);
}
__device__ __forceinline__ float row_max(float value) {
  return blockDim.x == kWarp ? warp_max(value) : block_max(value);
}

}  // namespace bertology::cuda
