// cuBLAS, if the process can load it. It is not linked: the few functions that are needed are
// declared in cublas.cpp and looked up by name.
#pragma once

#include <string>

#include "base/dtype.h"
#include "cuda/context.h"
#include "cuda/product.h"

namespace bertology::cuda {

/// The library, once for the process. The environment variable BERTOLOGY_CUBLAS names the file to
/// load, or says "none"; else it is looked for where the system's loader does, then in toolkits.
class Cublas {
 public:
  static const Cublas& get();

  bool found() const { return found_; }
  /// A line for the device's description.
  const std::string& description() const { return description_; }

 private:
  friend class CublasHandle;
  struct Functions {
    int (*create)(void** handle);
    int (*destroy)(void* handle);
    int (*set_stream)(void* handle, cudaStream_t stream);
    int (*get_property)(int which, int* value);
    int (*gemm)(void* handle, int transpose_a, int transpose_b, int m, int n, int k,
                const void* alpha, const void* a, int a_type, int a_stride, const void* b,
                int b_type, int b_stride, const void* beta, void* c, int c_type, int c_stride,
                int compute_type, int algorithm);
    int (*set_workspace)(void* handle, void* workspace, size_t bytes);  // may be missing
    const char* (*status_text)(int status);                             // may be missing
  };

  Cublas();

  Functions functions_ = {};
  bool found_ = false;
  std::string description_;
};

/// cuBLAS on one stream. Slow to make. Its sums are those of whichever kernel it picks for a shape:
/// the last bits of a row may depend on how many rows there are.
class CublasHandle {
 public:
  CublasHandle(Context& context, cudaStream_t stream);
  ~CublasHandle();
  CublasHandle(const CublasHandle&) = delete;
  CublasHandle& operator=(const CublasHandle&) = delete;

  /// to [rows, columns] (+)= left times right of `product`, and nothing else of it. left: of type
  /// dtype, as right is.
  void multiply(DType dtype, bool backward, const Product& product, const void* left,
                int64_t left_stride, float* to);

 private:
  void first_product();
  void check(int status, const char* call);

  Context& context_;
  const Cublas::Functions& functions_;
  DeviceBuffer workspace_;
  void* handle_ = nullptr;
};

}  // namespace bertology::cuda
