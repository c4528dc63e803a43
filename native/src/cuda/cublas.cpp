#include "cuda/cublas.h"

#include <dlfcn.h>
#include <library_types.h>

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
  std::vector<std::string> names = {"libcublas.so.13", "libcublas.so.12"};
  if (named != nullptr && *named != 0) names = {named};
  if (names[0] == "none") {
    description_ = own + "is turned off by BERTOLOGY_CUBLAS)";
    return;
  }
  void* library = nullptr;
  std::string problems;
  for (const std::string& name : names) {
    library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) break;
    problems += (problems.empty() ? "" : "; ") + std::string(dlerror());
  }
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
  } catch (...) {
    functions_.destroy(handle_);
    throw;
  }
}

CublasHandle::~CublasHandle() {
  const Current current(context_, std::nothrow);
  functions_.destroy(handle_);
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
