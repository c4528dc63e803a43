// Devices by name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ops/backend.h"

namespace bertology {

/// "cpu", "cuda" (the first) or "cuda:1": the device that is open already, or opened now. `threads`
/// as bertology_device_open says.
std::shared_ptr<Backend> open_device(const std::string& name, int32_t threads);

/// Bytes per second, read and written, of large copies inside the device's memory.
double copy_peak(Backend& backend, double seconds);

/// How many CUDA devices can be opened; 0 with the reason in `why`.
int32_t cuda_device_count(std::string* why);

/// Where libbertology_cuda.so is; "" for where the loader finds it by its name.
void set_cuda_library(const std::string& path);

}  // namespace bertology
