#include "ops/pooling.h"

#include "base/error.h"
#include "ops/backend.h"

namespace bertology {

void pooling_forward(Stream& stream, const PoolingForward& op) {
  check_internal(
      op.input != nullptr && op.output != nullptr && (!op.normalize || op.lengths != nullptr),
      "pooling_forward: missing buffer");
  stream.pooling_forward(op);
}

void pooling_backward(Stream& stream, const PoolingBackward& op) {
  check_internal(op.d_output != nullptr && op.d_input != nullptr,
                 "pooling_backward: missing buffer");
  check_internal(!op.normalize || (op.output != nullptr && op.lengths != nullptr),
                 "pooling_backward: missing buffer");
  stream.pooling_backward(op);
}

}  // namespace bertology
