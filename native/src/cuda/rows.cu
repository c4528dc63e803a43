#include "ops/rows.h"

#include "base/error.h"
#include "cuda/stream.h"

namespace bertology::cuda {

void CudaStream::gather_rows(const GatherRows&) { fail(BERTOLOGY_UNSUPPORTED, "not written yet"); }

void CudaStream::scatter_rows(const ScatterRows&) {
  fail(BERTOLOGY_UNSUPPORTED, "not written yet");
}

void CudaStream::broadcast_row(const BroadcastRow&) {
  fail(BERTOLOGY_UNSUPPORTED, "not written yet");
}

}  // namespace bertology::cuda
