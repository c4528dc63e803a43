// What the CUDA backend under test asks of the CUDA runtime, whichever runtime that is.
#pragma once

#include <atomic>
#include <cstdint>

namespace bertology::testing {

/// Calls that succeeded, of all threads since the process started.
struct RuntimeCounts {
  std::atomic<int64_t> allocations{0};  // of device memory and pinned memory
  std::atomic<int64_t> live{0};         // of these, not yet given back
  std::atomic<int64_t> handles{0};      // streams, events and cuBLAS's, not yet given back
  std::atomic<int64_t> launches{0};     // of kernels
};

RuntimeCounts& runtime_counts();

/// Makes the runtime show several devices while it lives, all of which are its first one, and
/// watches which of them is used.
class SeveralDevices {
 public:
  static constexpr int kNone = -1;

  explicit SeveralDevices(int count);
  ~SeveralDevices();
  SeveralDevices(const SeveralDevices&) = delete;
  SeveralDevices& operator=(const SeveralDevices&) = delete;

  /// The device whose context the calling thread has, or kNone: the next call starts cuda:0.
  int current() const;
  void make_current(int device);
  /// Whether the device was started.
  bool started(int device) const;
  /// Kernels that were launched on it.
  int64_t launches(int device) const;
  /// Calls that had to do with something of another device than the current one.
  int64_t astray() const;
};

/// What cudaDriverGetVersion says while it lives.
class DriverVersion {
 public:
  explicit DriverVersion(int version);
  ~DriverVersion();
  DriverVersion(const DriverVersion&) = delete;
  DriverVersion& operator=(const DriverVersion&) = delete;
};

}  // namespace bertology::testing
