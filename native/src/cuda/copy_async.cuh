// Copies from global to shared memory that arrive later, while the threads do something else.
#pragma once

#include <cstdint>

namespace bertology::cuda {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Starts a copy of `bytes` bytes; the rest of 16 becomes 0. Both addresses are multiples of 16.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(bytes)
               : "memory");
}

/// The same of 4.
__device__ __forceinline__ void copy_async_4(void* shared, const void* global, int bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(bytes)
               : "memory");
}

/// Ends a group of copies of this thread.
__device__ __forceinline__ void copies_issued() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits for all but the last kPending groups of copies of this thread.
template <int kPending>
__device__ __forceinline__ void copies_arrived() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace bertology::cuda
