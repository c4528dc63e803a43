// A cuBLAS that BERTOLOGY_CUBLAS can name: it calls the system's, and tells runtime_counts.cpp of
// the test program.
#include <dlfcn.h>

#include <cstddef>

#pragma GCC visibility push(default)
extern "C" {

void bertology_cublas_made(void* handle);
void bertology_cublas_used(void* handle);
void bertology_cublas_destroyed(void* handle);

}  // extern "C"

namespace {

template <class... Arguments>
int call(const char* name, Arguments... arguments) {
  constexpr int kNotInitialized = 1;
  static void* const library = [] {
    void* newest = dlopen("libcublas.so.13", RTLD_NOW | RTLD_LOCAL);
    return newest != nullptr ? newest : dlopen("libcublas.so.12", RTLD_NOW | RTLD_LOCAL);
  }();
  if (library == nullptr) return kNotInitialized;
  return reinterpret_cast<int (*)(Arguments...)>(dlsym(library, name))(arguments...);
}

}  // namespace

extern "C" {

int cublasCreate_v2(void** handle) {
  const int status = call("cublasCreate_v2", handle);
  if (status == 0) bertology_cublas_made(*handle);
  return status;
}
int cublasDestroy_v2(void* handle) {
  const int status = call("cublasDestroy_v2", handle);
  if (status == 0) bertology_cublas_destroyed(handle);
  return status;
}
int cublasSetStream_v2(void* handle, void* stream) {
  bertology_cublas_used(stream);
  return call("cublasSetStream_v2", handle, stream);
}
int cublasSetWorkspace_v2(void* handle, void* workspace, size_t bytes) {
  bertology_cublas_used(workspace);
  return call("cublasSetWorkspace_v2", handle, workspace, bytes);
}
int cublasGetProperty(int which, int* value) { return call("cublasGetProperty", which, value); }
int cublasGemmEx(void* handle, int transpose_a, int transpose_b, int m, int n, int k,
                 const void* alpha, const void* a, int a_type, int a_stride, const void* b,
                 int b_type, int b_stride, const void* beta, void* c, int c_type, int c_stride,
                 int compute_type, int algorithm) {
  bertology_cublas_used(handle);
  return call("cublasGemmEx", handle, transpose_a, transpose_b, m, n, k, alpha, a, a_type, a_stride,
              b, b_type, b_stride, beta, c, c_type, c_stride, compute_type, algorithm);
}

}  // extern "C"
#pragma GCC visibility pop
