#include <string>
#include <utility>

#include "api/devices.h"
#include "api/guard.h"
#include "api/handles.h"
#include "bertology/operations.h"

#ifndef BERTOLOGY_VERSION
#error "the build defines BERTOLOGY_VERSION"
#endif

namespace bertology {
namespace {

std::string& last_error() {
  static thread_local std::string text;
  return text;
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

int bertology_set_cuda_library(const char* path) {
  return guarded([&] {
    check_argument(path != nullptr, "path is null");
    set_cuda_library(path);
  });
}

int bertology_cuda_device_count(int32_t* count) {
  return guarded([&] {
    check_argument(count != nullptr, "count is null");
    std::string why;
    *count = cuda_device_count(&why);
    if (*count == 0) set_last_error(BERTOLOGY_OK, why.c_str());
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

int bertology_device_copy_peak(bertology_device* device, double seconds, double* bytes) {
  return guarded([&] {
    check_argument(bytes != nullptr, "bytes is null");
    *bytes = copy_peak(*checked(device, "device").backend, seconds);
  });
}

int bertology_device_measure(bertology_device* device, int32_t operation,
                             const bertology_config* config, int32_t examples, int32_t length,
                             double seconds, double* measures) {
  return guarded([&] {
    check_argument(config != nullptr && measures != nullptr,
                   "device_measure: config and measures must be given");
    Operation(checked(device, "device").backend, operation, Config(*config), examples, length)
        .measure(seconds, measures);
  });
}

}  // extern "C"
