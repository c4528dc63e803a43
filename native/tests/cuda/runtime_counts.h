// What the CUDA backend under test asks of the CUDA runtime, whichever runtime that is.
#pragma once

#include <atomic>
#include <cstdint>

namespace bertology::testing {

/// Calls that succeeded, of all threads since the process started.
struct RuntimeCounts {
  std::atomic<int64_t> allocations{0};  // of device memory and pinned memory
  std::atomic<int64_t> live{0};         // of these, not yet given back
  std::atomic<int64_t> launches{0};     // of kernels
};

RuntimeCounts& runtime_counts();

}  // namespace bertology::testing
