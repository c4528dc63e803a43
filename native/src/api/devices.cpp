#include "api/devices.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "cpu/backend.h"
#include "cuda/plugin.h"

namespace bertology {
namespace {

constexpr const char* kCudaLibrary = "libbertology_cuda.so";

struct CudaLibrary {
  std::mutex mutex;
  std::string path;
  const cuda::Plugin* plugin = nullptr;
};

CudaLibrary& cuda_library() {
  static auto& library = *new CudaLibrary();  // outlives all threads
  return library;
}

/// The CUDA backend's library, loaded when first asked for and never unloaded.
const cuda::Plugin& load_cuda() {
  CudaLibrary& library = cuda_library();
  const std::lock_guard<std::mutex> lock(library.mutex);
  if (library.plugin != nullptr) return *library.plugin;
  const std::string path = library.path.empty() ? kCudaLibrary : library.path;
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = dlerror();
    fail(BERTOLOGY_DEVICE_ERROR,
         "the CUDA backend could not be loaded: ", reason != nullptr ? reason : path.c_str());
  }
  const auto entry =
      reinterpret_cast<decltype(&bertology_cuda_plugin)>(dlsym(handle, "bertology_cuda_plugin"));
  const cuda::Plugin* plugin = entry != nullptr ? entry() : nullptr;
  if (plugin == nullptr || std::string(plugin->version) != BERTOLOGY_VERSION) {
    const std::string found = plugin == nullptr ? "no version" : plugin->version;
    dlclose(handle);
    fail(BERTOLOGY_DEVICE_ERROR, "the CUDA backend ", path, " is of version ", found,
         ", expected " BERTOLOGY_VERSION);
  }
  library.plugin = plugin;
  return *plugin;
}

/// N of "cuda:N", 0 of "cuda"; -1 of anything else.
int32_t cuda_ordinal(const std::string& name) {
  if (name == "cuda") return 0;
  const std::string prefix = "cuda:";
  const std::string digits = name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : "";
  const bool number = !digits.empty() && digits.size() <= 4 &&
                      digits.find_first_not_of("0123456789") == std::string::npos;
  return number ? std::stoi(digits) : -1;
}

std::shared_ptr<Backend> make_backend(const std::string& name, int32_t threads) {
  if (name == "cpu") return std::make_shared<cpu::CpuBackend>(threads);
  const int32_t ordinal = cuda_ordinal(name);
  check_argument(ordinal >= 0, "device: \"", name, "\", expected \"cpu\" or \"cuda:0\"");
  return load_cuda().open(ordinal);
}

}  // namespace

std::shared_ptr<Backend> open_device(const std::string& name, int32_t threads) {
  static std::mutex mutex;
  static auto& open = *new std::map<std::pair<std::string, int32_t>,
                                    std::weak_ptr<Backend>>();  // outlives all threads
  const int32_t ordinal = cuda_ordinal(name);
  const bool cuda = ordinal >= 0;
  const std::string known_name = cuda ? text("cuda:", ordinal) : name;
  const std::lock_guard<std::mutex> lock(mutex);
  std::weak_ptr<Backend>& known = open[{known_name, cuda ? 0 : threads}];
  std::shared_ptr<Backend> backend = known.lock();
  if (backend == nullptr) {
    backend = make_backend(known_name, threads);
    known = backend;
  }
  return backend;
}

double copy_peak(Backend& backend, double seconds) {
  // Larger than any cache; several copies, so that waiting for the device does not count.
  constexpr int64_t kBytes = int64_t{1} << 28;
  constexpr int64_t kFloats = kBytes / static_cast<int64_t>(sizeof(float));
  constexpr int kRepeats = 4;
  const std::unique_ptr<DeviceMemory> from = backend.allocate(kBytes, "the copy measurement");
  const std::unique_ptr<DeviceMemory> to = backend.allocate(kBytes, "the copy measurement");
  const std::shared_ptr<Stream> stream = backend.stream();
  float* const source = static_cast<float*>(from->data());
  float* const target = static_cast<float*>(to->data());
  stream->zero(source, kFloats);  // pages that were never written are read from nowhere
  stream->copy(target, source, kFloats);
  stream->synchronize();
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  double best = 0;
  do {
    const double elapsed = stream->seconds_of([&] {
      for (int i = 0; i < kRepeats; ++i) stream->copy(target, source, kFloats);
    });
    best = std::max(best, 2.0 * kBytes * kRepeats / elapsed);
  } while (std::chrono::duration<double>(Clock::now() - start).count() < seconds);
  return best;
}

int32_t cuda_device_count(std::string* why) {
  try {
    return load_cuda().device_count(why);
  } catch (const Error& error) {
    *why = error.what();
    return 0;
  }
}

void set_cuda_library(const std::string& path) {
  CudaLibrary& library = cuda_library();
  const std::lock_guard<std::mutex> lock(library.mutex);
  check_argument(library.plugin == nullptr || path == library.path,
                 "the CUDA backend is loaded already from ",
                 library.path.empty() ? kCudaLibrary : library.path);
  library.path = path;
}

}  // namespace bertology
