#include "cuda/context.h"

#include <cudaTypedefs.h>

#include <utility>

#include "base/error.h"
#include "base/memory.h"

namespace bertology::cuda {
namespace {

/// "13.0" of 13000
std::string version_text(int version) { return text(version / 1000, ".", version % 1000 / 10); }

/// What a call failed for, with the versions of the driver where they matter.
std::string reason_of(cudaError_t status) {
  const std::string reason = text(cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
  // A driver may be newer or older than the runtime's minor version, but does not compile what a
  // newer compiler wrote.
  const bool compiles = status != cudaErrorUnsupportedPtxVersion;
  if (status != cudaErrorInsufficientDriver && status != cudaErrorNoDevice && compiles)
    return reason;
  int driver = 0;
  int runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaGetLastError();
  const std::string needed = "; one for CUDA " +
                             version_text(compiles ? runtime / 1000 * 1000 : runtime) +
                             " or newer is needed";
  if (driver == 0) return "no CUDA driver was found" + needed;
  if (status == cudaErrorNoDevice) return reason;
  return reason + ": the driver is for CUDA " + version_text(driver) + needed;
}

/// The context that a thread has in the driver, which is what all users of CUDA in a process share.
/// The runtime can only tell which device it would use.
class DriverContexts {
 public:
  static const DriverContexts& get() {
    static const DriverContexts contexts;
    return contexts;
  }

  /// Whether it could be told. None is null.
  bool current(CUcontext* context) const {
    return get_ != nullptr && set_ != nullptr && get_(context) == CUDA_SUCCESS;
  }
  void make_current(CUcontext context) const { set_(context); }

 private:
  DriverContexts() {
    look_up("cuCtxGetCurrent", get_);
    look_up("cuCtxSetCurrent", set_);
  }

  template <class Function>
  static void look_up(const char* name, Function& function) {
    constexpr unsigned int kSince = 4000;
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    const cudaError_t status =
        cudaGetDriverEntryPointByVersion(name, &found, kSince, cudaEnableDefault, &result);
    if (status == cudaSuccess) {
      function = reinterpret_cast<Function>(found);
    } else {
      cudaGetLastError();
    }
  }

  PFN_cuCtxGetCurrent_v4000 get_ = nullptr;
  PFN_cuCtxSetCurrent_v4000 set_ = nullptr;
};

}  // namespace

bool is_fatal(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorContained:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorExternalDevice:
    case cudaErrorMpsClientTerminated:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorDevicesUnavailable:
    case cudaErrorDeviceUninitialized:
    case cudaErrorContextIsDestroyed:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

std::string kernel_text(const char* kernel, const std::vector<int64_t>& shape) {
  std::string sizes;
  for (const int64_t size : shape) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  return text("kernel ", kernel, " [", sizes, "]");
}

int32_t device_count(std::string* why) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  *why = status == cudaSuccess ? "the driver shows no device" : reason_of(status);
  return 0;
}

Context::Context(int32_t ordinal) : ordinal_(ordinal) {
  std::string why;
  const int32_t count = device_count(&why);
  if (count == 0) fail(BERTOLOGY_DEVICE_ERROR, "device cuda:", ordinal, ": ", why);
  if (ordinal >= count) {
    fail(BERTOLOGY_DEVICE_ERROR, "device cuda:", ordinal, " does not exist: there ",
         count == 1 ? "is only cuda:0" : text("are cuda:0 to cuda:", count - 1));
  }
  check(cudaGetDeviceProperties(&properties_, ordinal), "cudaGetDeviceProperties");
  if (compute_capability() < 80) {
    fail(BERTOLOGY_DEVICE_ERROR, "device cuda:", ordinal, " (", properties_.name,
         ") has compute capability ", properties_.major, ".", properties_.minor,
         "; 8.0 or newer is needed");
  }
}

void Context::check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  note(status, call);
  fail(status == cudaErrorMemoryAllocation ? BERTOLOGY_OUT_OF_MEMORY : BERTOLOGY_DEVICE_ERROR,
       "device cuda:", ordinal_, ": ", call, ": ", reason_of(status));
}

void Context::note(cudaError_t status, const char* call) noexcept {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // else the next call would report it again
  if (!is_fatal(status)) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!lost()) {
    try {
      loss_ = text("device cuda:", ordinal_, ": ", call, ": ", reason_of(status));
    } catch (...) {  // no memory for the text: that the device is lost must do
    }
  }
  lost_.store(true, std::memory_order_release);
}

void Context::check_alive() const {
  if (!lost()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  fail(BERTOLOGY_DEVICE_ERROR, "the device was lost before: ", loss_,
       "; close its models and start a new process to use it again");
}

bool Context::is_pinned(const void* host, int64_t bytes) const {
  const char* start = static_cast<const char*>(host);
  const std::lock_guard<std::mutex> lock(mutex_);
  auto range = pinned_.upper_bound(start);
  if (range == pinned_.begin()) return false;
  --range;
  return start + bytes <= range->first + range->second;
}

Current::Current(Context& context) {
  restores_ = DriverContexts::get().current(&before_);
  // The first call for a device starts it, for which there may be no memory.
  context.check(cudaSetDevice(context.ordinal()), "cudaSetDevice");
  cudaGetLastError();  // what other users of CUDA left in this thread is not ours
}

Current::Current(Context& context, std::nothrow_t) noexcept {
  restores_ = DriverContexts::get().current(&before_);
  if (cudaSetDevice(context.ordinal()) == cudaSuccess) return;
  cudaGetLastError();
  restores_ = false;
}

Current::~Current() {
  if (restores_) DriverContexts::get().make_current(before_);
}

// ----------------------------------------------------------------------------------------------
// owners: what fails when something is given back is not reported, but a lost device is remembered

DeviceBuffer::DeviceBuffer(Context& context, int64_t bytes, const char* what)
    : context_(&context), bytes_(bytes) {
  if (bytes == 0) return;
  cudaError_t status = cudaMalloc(&data_, static_cast<size_t>(bytes));
  if (status == cudaErrorMemoryAllocation && context.reclaim_ && context.reclaim_())
    status = cudaMalloc(&data_, static_cast<size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free = 0;
    size_t total = 0;
    const bool known = cudaMemGetInfo(&free, &total) == cudaSuccess;
    if (!known) cudaGetLastError();
    fail(BERTOLOGY_OUT_OF_MEMORY, what, ": ", bytes,
         " bytes of memory of device cuda:", context.ordinal(),
         known ? text(", which has ", free, " of ", total, " free") : text());
  }
  context.check(status, text("cudaMalloc of ", bytes, " bytes for ", what).c_str());
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(context_, other.context_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ == nullptr) return;
  const Current current(*context_, std::nothrow);
  context_->note(cudaFree(data_), "cudaFree");
}

PinnedBuffer::PinnedBuffer(Context& context, int64_t bytes, const char* what)
    : context_(&context), bytes_(bytes) {
  if (bytes == 0) return;
  const cudaError_t status =
      cudaHostAlloc(&data_, static_cast<size_t>(bytes), cudaHostAllocPortable);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    fail(BERTOLOGY_OUT_OF_MEMORY, what, ": ", bytes,
         " bytes of pinned host memory; the process can take ", available_memory());
  }
  context.check(status, text("cudaHostAlloc of ", bytes, " bytes for ", what).c_str());
}

PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept { *this = std::move(other); }

PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(context_, other.context_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ == nullptr) return;
  const Current current(*context_, std::nothrow);
  context_->note(cudaFreeHost(data_), "cudaFreeHost");
}

PinnedRange::PinnedRange(Context& context, void* host, int64_t bytes)
    : context_(context), host_(host) {
  const char* start = static_cast<const char*>(host);
  {
    const std::lock_guard<std::mutex> lock(context.mutex_);
    context.pinned_[start] = 0;  // its place, for which there may be no memory
  }
  const cudaError_t status =
      cudaHostRegister(host, static_cast<size_t>(bytes), cudaHostRegisterPortable);
  {
    const std::lock_guard<std::mutex> lock(context.mutex_);
    pinned_ = status == cudaSuccess;
    if (pinned_) {
      context.pinned_[start] = bytes;
      return;
    }
    context.pinned_.erase(start);
  }
  // Not every system can, or lets a process lock so much memory. And where a registration of
  // somebody else's is, it may be of pages that lay at these addresses before.
  if (status == cudaErrorHostMemoryAlreadyRegistered || status == cudaErrorNotSupported ||
      status == cudaErrorNotPermitted || status == cudaErrorOperatingSystem) {
    cudaGetLastError();
    return;
  }
  context.check(status, text("cudaHostRegister of ", bytes, " bytes").c_str());
}

PinnedRange::~PinnedRange() {
  if (!pinned_) return;
  {
    const std::lock_guard<std::mutex> lock(context_.mutex_);
    context_.pinned_.erase(static_cast<const char*>(host_));
  }
  const Current current(context_, std::nothrow);
  context_.note(cudaHostUnregister(host_), "cudaHostUnregister");
}

StreamHandle::StreamHandle(Context& context) : context_(context) {
  // It does not wait for the default stream, on which other libraries of the process may work.
  context.check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                "cudaStreamCreateWithFlags");
}

StreamHandle::~StreamHandle() {
  if (stream_ == nullptr) return;
  const Current current(context_, std::nothrow);
  context_.note(cudaStreamDestroy(stream_), "cudaStreamDestroy");
}

EventHandle::EventHandle(Context& context, bool timing) : context_(context) {
  // Waiting threads sleep: a JVM has other work for the processor.
  const unsigned int flags =
      timing ? cudaEventDefault : cudaEventDisableTiming | cudaEventBlockingSync;
  context.check(cudaEventCreateWithFlags(&event_, flags), "cudaEventCreateWithFlags");
}

EventHandle::~EventHandle() {
  if (event_ == nullptr) return;
  const Current current(context_, std::nothrow);
  context_.note(cudaEventDestroy(event_), "cudaEventDestroy");
}

}  // namespace bertology::cuda
