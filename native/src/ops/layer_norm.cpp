#include "ops/layer_norm.h"

#include "base/error.h"
#include "ops/backend.h"

namespace bertology {

void layer_norm_forward(Stream& stream, const LayerNormForward& op) {
  check_internal(
      op.input != nullptr && op.gamma != nullptr && op.beta != nullptr && op.output != nullptr,
      "layer_norm_forward: missing buffer");
  check_internal(op.width > 0, "layer_norm_forward: width ", op.width);
  stream.layer_norm_forward(op);
}

void layer_norm_backward(Stream& stream, const LayerNormBackward& op) {
  check_internal(op.d_output != nullptr && op.sum != nullptr && op.statistics != nullptr &&
                     op.gamma != nullptr && op.d_input != nullptr,
                 "layer_norm_backward: missing buffer");
  check_internal(op.width > 0, "layer_norm_backward: width ", op.width);
  stream.layer_norm_backward(op);
}

}  // namespace bertology
