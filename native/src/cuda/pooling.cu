#include "ops/pooling.h"

#include "base/error.h"
#include "cuda/stream.h"

namespace bertology::cuda {

void CudaStream::pooling_forward(const PoolingForward&) {
  fail(BERTOLOGY_UNSUPPORTED, "not written yet");
}

void CudaStream::pooling_backward(const PoolingBackward&) {
  fail(BERTOLOGY_UNSUPPORTED, "not written yet");
}

}  // namespace bertology::cuda
