#include "cuda/cublas.h"

#include <dlfcn.h>
#include <library_types.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "base/error.h"

namespace bertology::cuda {
namespace {

// Values of cuBLAS's enumerations.
constexpr int kSuccess = 0;
constexpr int kAllocationFailed = 3;
constexpr int kNotTransposed = 0;
constexpr int kTransposed = 1;
constexpr int kCompute32F = 68;  // no TF32
constexpr int kDefaultAlgorithm = -1;

int type_of(DType dtype) {
  switch (dtype) {
    case BERTOLOGY_BFLOAT16:
      return CUDA_R_16BF;
    case BERTOLOGY_FLOAT16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

// What NVIDIA recommends. cuBLAS would take as much by itself, without saying so.
int64_t workspace_bytes(int compute_capability) {
  return int64_t{compute_capability == 90 ? 32 : compute_capability >= 100 ? 12 : 4} << 20;
}

/// Folders of toolkits that the system's loader may not know.
std::vector<std::string> toolkit_folders() {
  std::vector<std::string> folders;
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    const char* root = std::getenv(variable);
    if (root != nullptr && *root != 0) folders.push_back(std::string(root) + "/lib64/");
  }
  folders.emplace_back("/usr/local/cuda/lib64/");
  return folders;
}

/// The first of some files that can be loaded, or null, with the loader's `problems`.
void* load(const std::vector<std::string>& names, std::string* problems) {
  for (const std::string& name : names) {
    void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) return library;
    *problems += (problems->empty() ? "" : "; ") + std::string(dlerror());
  }
  return nullptr;
}

/// The same of a toolkit, where there is one.
void* load_of_toolkit(const std::vector<std::string>& names, std::string* problems) {
  for (const std::string& folder : toolkit_folders()) {
    for (const std::string& name : names) {
      if (access((folder + name).c_str(), F_OK) != 0) continue;
      // It needs the library beside it, which the loader would not look for there.
      const std::string beside = "libcublasLt" + name.substr(name.find(".so"));
      dlopen((folder + beside).c_str(), RTLD_NOW | RTLD_LOCAL);
      if (void* library = load({folder + name}, problems)) return library;
    }
  }
  return nullptr;
}

template <class Function>
bool look_up(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

const Cublas& Cublas::get() {
  static const Cublas library;
  return library;
}

Cublas::Cublas() {
  const std::string own = "matrix products: own tensor-core kernels (cuBLAS ";
  const char* named = std::getenv("BERTOLOGY_CUBLAS");
  const bool searched = named == nullptr || *named == 0;
  std::vector<std::string> names = {"libcublas.so.13", "libcublas.so.12"};
  if (!searched) names = {named};
  if (names[0] == "none") {
    description_ = own + "is turned off by BERTOLOGY_CUBLAS)";
    return;
  }
  std::string problems;
  void* library = load(names, &problems);
  if (library == nullptr && searched) library = load_of_toolkit(names, &problems);
  if (library == nullptr) {
    description_ = own + "was not found: " + problems + ")";
    return;
  }
  const bool complete = look_up(library, "cublasCreate_v2", functions_.create) &&
                        look_up(library, "cublasDestroy_v2", functions_.destroy) &&
                        look_up(library, "cublasSetStream_v2", functions_.set_stream) &&
                        look_up(library, "cublasGetProperty", functions_.get_property) &&
                        look_up(library, "cublasGemmEx", functions_.gemm);
  look_up(library, "cublasSetWorkspace_v2", functions_.set_workspace);
  look_up(library, "cublasGetStatusString", functions_.status_text);
  Dl_info file = {};
  const char* path = names.back().c_str();
  if (complete && dladdr(reinterpret_cast<void*>(functions_.gemm), &file) != 0 &&
      file.dli_fname != nullptr) {
    path = file.dli_fname;
  }
  int version[2] = {};
  if (!complete || functions_.get_property(0, &version[0]) != kSuccess ||
      functions_.get_property(1, &version[1]) != kSuccess) {
    description_ = own + "lacks functions: " + path + ")";
    return;
  }
  found_ = true;
  description_ = text("matrix products: cuBLAS ", version[0], ".", version[1], " (", path, ")");
}

CublasHandle::CublasHandle(Context& context, cudaStream_t stream)
    : context_(context), functions_(Cublas::get().functions_) {
  if (functions_.set_workspace != nullptr) {
    workspace_ =
        DeviceBuffer(context, workspace_bytes(context.compute_capability()), "cuBLAS's workspace");
  }
  check(functions_.create(&handle_), "cublasCreate");
  try {
    check(functions_.set_stream(handle_, stream), "cublasSetStream");
    if (functions_.set_workspace != nullptr) {
      check(functions_.set_workspace(handle_, workspace_.data(),
                                     static_cast<size_t>(workspace_.bytes())),
            "cublasSetWorkspace");
    }
    first_product();
  } catch (...) {
    functions_.destroy(handle_);
    throw;
  }
}

CublasHandle::~CublasHandle() {
  const Current current(context_, std::nothrow);
  functions_.destroy(handle_);
}

// The first product loads kernels, for which the driver takes memory: not in the middle of a run.
void CublasHandle::first_product() {
  constexpr int kSize = 16;
  const DeviceBuffer matrix(context_, kSize * kSize * 4, "cuBLAS's first product");
  const DeviceBuffer result(context_, kSize * kSize * 4, "cuBLAS's first product");
  Product product;
  product.right = matrix.data();
  product.right_stride = product.result_stride = kSize;
  product.rows = product.columns = product.depth = kSize;
  multiply(BERTOLOGY_FLOAT32, false, product, matrix.data(), kSize,
           static_cast<float*>(result.data()));
}

void CublasHandle::check(int status, const char* call) {
  if (status == kSuccess) return;
  context_.check(cudaGetLastError(), call);  // says more, if it knows
  const char* said = functions_.status_text == nullptr ? "" : functions_.status_text(status);
  fail(status == kAllocationFailed ? BERTOLOGY_OUT_OF_MEMORY : BERTOLOGY_DEVICE_ERROR,
       "device cuda:", context_.ordinal(), ": ", call, ": status ", status, " ", said,
       " (BERTOLOGY_CUBLAS=none does without cuBLAS)");
}

// cuBLAS stores columns one after the other: it sees every matrix of ours transposed, and is asked
// for the transposed product.
void CublasHandle::multiply(DType dtype, bool backward, const Product& product, const void* left,
                            int64_t left_stride, float* to) {
  const float one = 1;
  const float old = product.accumulate ? 1 : 0;
  const int type = type_of(dtype);
  check(functions_.gemm(handle_, backward ? kNotTransposed : kTransposed, kNotTransposed,
                        product.columns, product.rows, product.depth, &one, product.right, type,
                        static_cast<int>(product.right_stride), left, type,
                        static_cast<int>(left_stride), &old, to, CUDA_R_32F,
                        static_cast<int>(product.result_stride), kCompute32F, kDefaultAlgorithm),
        text("cublasGemmEx [", product.rows, ", ", product.columns, ", ", product.depth, "]")
            .c_str());
}

}  // namespace bertology::cuda
