#include "ops/attention.h"

#include "base/error.h"
#include "cuda/stream.h"

namespace bertology::cuda {

void CudaStream::attention_backward(const AttentionBackward&) {
  fail(BERTOLOGY_UNSUPPORTED, "not written yet");
}

}  // namespace bertology::cuda
