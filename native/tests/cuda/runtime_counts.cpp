// Stands between the CUDA backend and the runtime: the loader finds these functions of the program
// before those of the runtime, which they call.
#include "cuda/runtime_counts.h"

#include <dlfcn.h>

#include <cstddef>
#include <cstdlib>

namespace bertology::testing {

RuntimeCounts& runtime_counts() {
  static RuntimeCounts counts;
  return counts;
}

namespace {

/// The runtime's own function: of what the backend's library was linked with.
template <class... Arguments>
int call(const char* name, Arguments... arguments) {
  static void* const library = [] {
    const char* path = std::getenv("BERTOLOGY_CUDA_LIBRARY");
    return dlopen(path != nullptr ? path : "libbertology_cuda.so", RTLD_NOW | RTLD_LOCAL);
  }();
  return reinterpret_cast<int (*)(Arguments...)>(dlsym(library, name))(arguments...);
}

int taken(int status) {
  if (status == 0) {
    ++runtime_counts().allocations;
    ++runtime_counts().live;
  }
  return status;
}

int given_back(int status, const void* memory) {
  if (status == 0 && memory != nullptr) --runtime_counts().live;
  return status;
}

struct Dim3 {
  unsigned int x, y, z;
};

}  // namespace
}  // namespace bertology::testing

#pragma GCC visibility push(default)
extern "C" {

using namespace bertology::testing;

int cudaMalloc(void** memory, size_t bytes) { return taken(call("cudaMalloc", memory, bytes)); }
int cudaFree(void* memory) { return given_back(call("cudaFree", memory), memory); }
int cudaHostAlloc(void** memory, size_t bytes, unsigned int flags) {
  return taken(call("cudaHostAlloc", memory, bytes, flags));
}
int cudaFreeHost(void* memory) { return given_back(call("cudaFreeHost", memory), memory); }
int cudaHostRegister(void* memory, size_t bytes, unsigned int flags) {
  return taken(call("cudaHostRegister", memory, bytes, flags));
}
int cudaHostUnregister(void* memory) {
  return given_back(call("cudaHostUnregister", memory), memory);
}
int __cudaLaunchKernel(const void* kernel, Dim3 grid, Dim3 block, void** arguments, size_t shared,
                       void* stream) {
  const int status = call("__cudaLaunchKernel", kernel, grid, block, arguments, shared, stream);
  if (status == 0) ++runtime_counts().launches;
  return status;
}

}  // extern "C"
#pragma GCC visibility pop
