#include "ops/linear.h"

#include "base/error.h"
#include "cuda/stream.h"

namespace bertology::cuda {

std::unique_ptr<PackedMatrix> CudaBackend::pack(const float*, int64_t, int64_t, int, DType) {
  fail(BERTOLOGY_UNSUPPORTED, "not written yet");
}

std::unique_ptr<PackedMatrix> CudaBackend::borrow(const float*, int64_t, int64_t, DType) {
  fail(BERTOLOGY_UNSUPPORTED, "not written yet");
}

double CudaBackend::matrix_peak(DType, double) { fail(BERTOLOGY_UNSUPPORTED, "not written yet"); }

}  // namespace bertology::cuda
