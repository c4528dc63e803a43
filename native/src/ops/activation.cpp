#include "ops/activation.h"

#include "base/error.h"
#include "ops/backend.h"

namespace bertology {

void activation_backward(Stream& stream, const ActivationBackward& op) {
  check_internal(op.preactivation != nullptr && op.gradient != nullptr,
                 "activation_backward: missing buffer");
  stream.activation_backward(op);
}

}  // namespace bertology
