// One CUDA device: which it is, what it can do, whether it still works; and owners of what the
// runtime hands out. All calls of the runtime are checked here.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <vector>

namespace bertology::cuda {

/// Whether the device cannot be used any more in this process: a kernel failed, or the device
/// itself.
bool is_fatal(cudaError_t status);

/// How errors name a kernel.
std::string kernel_text(const char* kernel, const std::vector<int64_t>& shape);

/// Devices that can be opened; 0 with the reason in `why`: no driver, too old a driver, no device.
int32_t device_count(std::string* why);

class Context {
 public:
  explicit Context(int32_t ordinal);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  int32_t ordinal() const { return ordinal_; }
  const cudaDeviceProp& properties() const { return properties_; }
  /// 80 for compute capability 8.0.
  int compute_capability() const { return properties_.major * 10 + properties_.minor; }
  /// Shared memory that a block may have when it asks for it.
  int64_t shared_memory_per_block() const {
    return static_cast<int64_t>(properties_.sharedMemPerBlockOptin);
  }

  /// Throws what `status` says of `call`. A device that is lost stays lost.
  void check(cudaError_t status, const char* call);
  /// The same where nothing can be thrown: only the loss of the device is remembered.
  void note(cudaError_t status, const char* call) noexcept;
  /// Throws if the device was lost before.
  void check_alive() const;
  bool lost() const { return lost_.load(std::memory_order_acquire); }

  /// Whether [host, host + bytes) was pinned by a PinnedRange of this device.
  bool is_pinned(const void* host, int64_t bytes) const;

  /// What gives back device memory that is only kept for later, and says whether there was any:
  /// called before an allocation fails.
  void on_shortage(std::function<bool()> reclaim) { reclaim_ = std::move(reclaim); }

 private:
  friend class DeviceBuffer;
  friend class PinnedRange;

  int32_t ordinal_;
  cudaDeviceProp properties_ = {};
  std::atomic<bool> lost_{false};
  mutable std::mutex mutex_;
  std::string loss_;                       // what lost the device
  std::map<const char*, int64_t> pinned_;  // ranges by their start
  std::function<bool()> reclaim_;
};

/// Makes a device current in the calling thread while it lives. Then the thread has the driver's
/// context back that it had before, or none: choosing the device it would have used by default
/// would start that device, which takes hundreds of megabytes of its memory.
class Current {
 public:
  explicit Current(Context& context);
  /// If it can be had: for destructors.
  Current(Context& context, std::nothrow_t) noexcept;
  ~Current();
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  bool restores_ = false;
  CUcontext before_ = nullptr;
};

// The owners' device must be current when they are made; when they go they see to it themselves,
// since what is freed elsewhere would start another device for it. The context must outlive them.

/// Device memory.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  /// Fails with BERTOLOGY_OUT_OF_MEMORY, naming `what` and the sizes.
  DeviceBuffer(Context& context, int64_t bytes, const char* what);
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  ~DeviceBuffer();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  Context* context_ = nullptr;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

/// Host memory that the device copies from and to without a detour.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  PinnedBuffer(Context& context, int64_t bytes, const char* what);
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;
  ~PinnedBuffer();

  char* data() const { return static_cast<char*>(data_); }
  int64_t bytes() const { return bytes_; }

 private:
  Context* context_ = nullptr;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

/// Pins memory that somebody else owns, while it lives; if the system lets it.
class PinnedRange {
 public:
  PinnedRange(Context& context, void* host, int64_t bytes);
  ~PinnedRange();
  PinnedRange(const PinnedRange&) = delete;
  PinnedRange& operator=(const PinnedRange&) = delete;
  bool pinned() const { return pinned_; }

 private:
  Context& context_;
  void* host_;
  bool pinned_ = false;
};

class StreamHandle {
 public:
  explicit StreamHandle(Context& context);
  ~StreamHandle();
  StreamHandle(const StreamHandle&) = delete;
  StreamHandle& operator=(const StreamHandle&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  Context& context_;
  cudaStream_t stream_ = nullptr;
};

class EventHandle {
 public:
  /// timing: for elapsed times; else only to be waited for.
  EventHandle(Context& context, bool timing);
  ~EventHandle();
  EventHandle(const EventHandle&) = delete;
  EventHandle& operator=(const EventHandle&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  Context& context_;
  cudaEvent_t event_ = nullptr;
};

}  // namespace bertology::cuda
