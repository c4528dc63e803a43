// What libbertology_cuda.so shows to libbertology.so. Both are built from one source tree by one
// compiler, which is why C++ objects and exceptions may pass between them; the version says so.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ops/backend.h"

namespace bertology::cuda {

struct Plugin {
  const char* version;
  /// Devices that can be opened; 0 with the reason in `why`.
  int32_t (*device_count)(std::string* why);
  /// Opens a device. Throws Error.
  std::shared_ptr<Backend> (*open)(int32_t ordinal);
};

}  // namespace bertology::cuda

extern "C" BERTOLOGY_API const bertology::cuda::Plugin* bertology_cuda_plugin();
