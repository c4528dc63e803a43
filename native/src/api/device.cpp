#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "api/guard.h"
#include "api/handles.h"
#include "cpu/backend.h"

#ifndef BERTOLOGY_VERSION
#error "the build defines BERTOLOGY_VERSION"
#endif

namespace bertology {
namespace {

std::string& last_error() {
  static thread_local std::string text;
  return text;
}

/// Devices that are open, shared by all who ask for the same.
std::shared_ptr<Backend> open_device(const std::string& name, int32_t threads) {
  if (name.rfind("cuda", 0) == 0) {
    fail(BERTOLOGY_DEVICE_ERROR, "device ", name,
         ": this build of the library has no CUDA backend");
  }
  check_argument(name == "cpu", "device: \"", name, "\", expected \"cpu\"");
  static std::mutex mutex;
  static auto& open = *new std::map<std::pair<std::string, int32_t>,
                                    std::weak_ptr<Backend>>();  // outlives all threads
  const std::lock_guard<std::mutex> lock(mutex);
  std::weak_ptr<Backend>& known = open[{name, threads}];
  std::shared_ptr<Backend> backend = known.lock();
  if (backend == nullptr) {
    backend = std::make_shared<cpu::CpuBackend>(threads);
    known = backend;
  }
  return backend;
}

}  // namespace

int set_last_error(bertology_status status, const char* text) noexcept {
  try {
    last_error() = text;
  } catch (...) {
    last_error().clear();  // no memory for the text: the status alone must do
  }
  return status;
}

}  // namespace bertology

using namespace bertology;

extern "C" {

const char* bertology_last_error(void) { return last_error().c_str(); }

const char* bertology_version(void) { return BERTOLOGY_VERSION; }

int bertology_device_open(const char* name, int32_t threads, bertology_device** device) {
  return guarded([&] {
    check_argument(name != nullptr && device != nullptr,
                   "device_open: name and device must be given");
    *device = new bertology_device{open_device(name, threads)};
  });
}

void bertology_device_close(bertology_device* device) { delete device; }

const char* bertology_device_description(const bertology_device* device) {
  return device == nullptr ? "" : device->backend->description().c_str();
}

int bertology_device_supports(const bertology_device* device, int32_t dtype) {
  return device != nullptr && device->backend->supports(static_cast<DType>(dtype)) ? 1 : 0;
}

int bertology_device_matrix_peak(bertology_device* device, int32_t dtype, double seconds,
                                 double* flops) {
  return guarded([&] {
    check_argument(flops != nullptr, "flops is null");
    *flops = checked(device, "device").backend->matrix_peak(static_cast<DType>(dtype), seconds);
  });
}

}  // extern "C"
