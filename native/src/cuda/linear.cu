#include "ops/linear.h"

#include "base/error.h"
#include "cuda/stream.h"

namespace bertology::cuda {

void CudaStream::linear_forward(const LinearForward&) {
  fail(BERTOLOGY_UNSUPPORTED, "not written yet");
}

void CudaStream::linear_backward(const LinearBackward&) {
  fail(BERTOLOGY_UNSUPPORTED, "not written yet");
}

}  // namespace bertology::cuda
