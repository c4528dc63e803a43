// Stands between the CUDA backend and the runtime: the loader finds these functions of the program
// before those of the runtime, which they call.
#include "cuda/runtime_counts.h"

#include <dlfcn.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace bertology::testing {

RuntimeCounts& runtime_counts() {
  static RuntimeCounts counts;
  return counts;
}

namespace {

constexpr int kInvalidDevice = 101;  // of cudaError_t

/// The runtime's own function: of what the backend's library was linked with.
template <class... Arguments>
int call(const char* name, Arguments... arguments) {
  static void* const library = [] {
    const char* path = std::getenv("BERTOLOGY_CUDA_LIBRARY");
    return dlopen(path != nullptr ? path : "libbertology_cuda.so", RTLD_NOW | RTLD_LOCAL);
  }();
  return reinterpret_cast<int (*)(Arguments...)>(dlsym(library, name))(arguments...);
}

// ----------------------------------------------------------------------------------------------
// devices

/// Where everything is that was taken from the runtime.
struct Devices {
  static constexpr int kMost = 8;

  std::atomic<int> count{0};  // 0: those that there are, and nothing is watched
  std::atomic<bool> started[kMost] = {};
  std::atomic<int64_t> launches[kMost] = {};
  std::atomic<int64_t> astray{0};
  std::mutex mutex;
  struct Range {
    size_t bytes;
    int device;
  };
  std::map<const char*, Range> ranges;  // memory and handles by their start
};

Devices& devices() {
  static Devices all;
  return all;
}

thread_local int current_device = SeveralDevices::kNone;

/// The device that a call of this thread uses, which starts it.
int used_device() {
  if (current_device == SeveralDevices::kNone) current_device = 0;
  devices().started[current_device] = true;
  return current_device;
}

bool watched() { return devices().count > 0; }

/// Of something that belongs to the current device from now on.
void taken_here(const void* start, size_t bytes) {
  if (!watched()) return;
  const std::lock_guard<std::mutex> lock(devices().mutex);
  devices().ranges[static_cast<const char*>(start)] = {bytes, used_device()};
}

/// Of something that must belong to the current device, unless it is nobody's.
void used_here(const void* place) {
  if (!watched()) return;
  const std::lock_guard<std::mutex> lock(devices().mutex);
  const char* address = static_cast<const char*>(place);
  auto range = devices().ranges.upper_bound(address);
  if (range == devices().ranges.begin()) return;
  --range;
  if (address < range->first + range->second.bytes && range->second.device != used_device())
    ++devices().astray;
}

void gone(const void* start) {
  used_here(start);
  if (!watched()) return;
  const std::lock_guard<std::mutex> lock(devices().mutex);
  devices().ranges.erase(static_cast<const char*>(start));
}

/// The driver's functions, if there is a driver.
int (*driver_get_context)(void**) = nullptr;
int (*driver_set_context)(void*) = nullptr;

// While several devices are shown, a context is the number of its device, from 1.
int get_context(void** context) {
  if (!watched() && driver_get_context != nullptr) return driver_get_context(context);
  *context = reinterpret_cast<void*>(static_cast<intptr_t>(current_device + 1));
  return 0;
}

int set_context(void* context) {
  if (!watched() && driver_set_context != nullptr) return driver_set_context(context);
  current_device = static_cast<int>(reinterpret_cast<intptr_t>(context)) - 1;
  return 0;
}

std::atomic<int> driver_version{-1};  // -1: as it is

// ----------------------------------------------------------------------------------------------
// counts

int taken(int status, void* const* memory, size_t bytes) {
  if (status == 0) {
    ++runtime_counts().allocations;
    ++runtime_counts().live;
    taken_here(*memory, bytes);
  }
  return status;
}

int given_back(int status, const void* memory) {
  if (status == 0 && memory != nullptr) {
    --runtime_counts().live;
    gone(memory);
  }
  return status;
}

int made(int status, void* const* handle) {
  if (status == 0) {
    ++runtime_counts().handles;
    taken_here(*handle, 1);
  }
  return status;
}

int destroyed(int status, const void* handle) {
  if (status == 0) {
    --runtime_counts().handles;
    gone(handle);
  }
  return status;
}

struct Dim3 {
  unsigned int x, y, z;
};

}  // namespace

SeveralDevices::SeveralDevices(int count) {
  for (int i = 0; i < Devices::kMost; ++i) {
    devices().started[i] = false;
    devices().launches[i] = 0;
  }
  devices().astray = 0;
  current_device = kNone;
  devices().count = count;
}
SeveralDevices::~SeveralDevices() {
  devices().count = 0;
  devices().ranges.clear();
  current_device = kNone;
}
int SeveralDevices::current() const { return current_device; }
void SeveralDevices::make_current(int device) { current_device = device; }
bool SeveralDevices::started(int device) const { return devices().started[device]; }
int64_t SeveralDevices::launches(int device) const { return devices().launches[device]; }
int64_t SeveralDevices::astray() const { return devices().astray; }

DriverVersion::DriverVersion(int version) { driver_version = version; }
DriverVersion::~DriverVersion() { driver_version = -1; }

}  // namespace bertology::testing

#pragma GCC visibility push(default)
extern "C" {

using namespace bertology::testing;

int cudaGetDeviceCount(int* count) {
  const int status = call("cudaGetDeviceCount", count);
  if (status == 0 && watched()) *count = devices().count;
  return status;
}
int cudaGetDeviceProperties(void* properties, int device) {
  return call("cudaGetDeviceProperties", properties, watched() ? 0 : device);
}
int cudaSetDevice(int device) {
  if (!watched()) return call("cudaSetDevice", device);
  if (device >= devices().count) return kInvalidDevice;
  const int status = call("cudaSetDevice", 0);
  if (status == 0) {
    current_device = device;
    used_device();
  }
  return status;
}
int cudaDriverGetVersion(int* version) {
  if (driver_version < 0) return call("cudaDriverGetVersion", version);
  *version = driver_version;
  return 0;
}
int cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned int version,
                                     unsigned long long flags, int* result) {
  int status = call("cudaGetDriverEntryPointByVersion", name, function, version, flags, result);
  const bool gets = std::strcmp(name, "cuCtxGetCurrent") == 0;
  if (!gets && std::strcmp(name, "cuCtxSetCurrent") != 0) return status;
  void* const driver = status == 0 ? *function : nullptr;
  if (status != 0) call("cudaGetLastError");
  if (gets) {
    driver_get_context = reinterpret_cast<int (*)(void**)>(driver);
    *function = reinterpret_cast<void*>(get_context);
  } else {
    driver_set_context = reinterpret_cast<int (*)(void*)>(driver);
    *function = reinterpret_cast<void*>(set_context);
  }
  return 0;
}

int cudaMalloc(void** memory, size_t bytes) {
  return taken(call("cudaMalloc", memory, bytes), memory, bytes);
}
int cudaFree(void* memory) { return given_back(call("cudaFree", memory), memory); }
int cudaHostAlloc(void** memory, size_t bytes, unsigned int flags) {
  return taken(call("cudaHostAlloc", memory, bytes, flags), memory, bytes);
}
int cudaFreeHost(void* memory) { return given_back(call("cudaFreeHost", memory), memory); }
int cudaHostRegister(void* memory, size_t bytes, unsigned int flags) {
  return taken(call("cudaHostRegister", memory, bytes, flags), &memory, bytes);
}
int cudaHostUnregister(void* memory) {
  return given_back(call("cudaHostUnregister", memory), memory);
}

int cudaStreamCreateWithFlags(void** stream, unsigned int flags) {
  return made(call("cudaStreamCreateWithFlags", stream, flags), stream);
}
int cudaStreamDestroy(void* stream) { return destroyed(call("cudaStreamDestroy", stream), stream); }
int cudaEventCreateWithFlags(void** event, unsigned int flags) {
  return made(call("cudaEventCreateWithFlags", event, flags), event);
}
int cudaEventDestroy(void* event) { return destroyed(call("cudaEventDestroy", event), event); }

int __cudaLaunchKernel(const void* kernel, Dim3 grid, Dim3 block, void** arguments, size_t shared,
                       void* stream) {
  used_here(stream);
  const int status = call("__cudaLaunchKernel", kernel, grid, block, arguments, shared, stream);
  if (status != 0) return status;
  ++runtime_counts().launches;
  if (watched()) ++devices().launches[used_device()];
  return status;
}
int cudaMemcpyAsync(void* to, const void* from, size_t bytes, int kind, void* stream) {
  for (const void* place : {static_cast<const void*>(to), from, static_cast<const void*>(stream)})
    used_here(place);
  return call("cudaMemcpyAsync", to, from, bytes, kind, stream);
}
int cudaMemcpy(void* to, const void* from, size_t bytes, int kind) {
  used_here(to);
  used_here(from);
  return call("cudaMemcpy", to, from, bytes, kind);
}
int cudaMemsetAsync(void* to, int value, size_t bytes, void* stream) {
  used_here(to);
  used_here(stream);
  return call("cudaMemsetAsync", to, value, bytes, stream);
}
int cudaEventRecord(void* event, void* stream) {
  used_here(event);
  used_here(stream);
  return call("cudaEventRecord", event, stream);
}
int cudaStreamSynchronize(void* stream) {
  used_here(stream);
  return call("cudaStreamSynchronize", stream);
}

// What cublas_counts.cpp tells.
void bertology_cublas_made(void* handle) { made(0, &handle); }
void bertology_cublas_used(void* handle) { used_here(handle); }
void bertology_cublas_destroyed(void* handle) { destroyed(0, handle); }

}  // extern "C"
#pragma GCC visibility pop
