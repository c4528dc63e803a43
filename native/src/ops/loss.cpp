#include "ops/loss.h"

#include "base/error.h"
#include "ops/backend.h"

namespace bertology {

void cross_entropy(Stream& stream, const CrossEntropy& op) {
  check_internal(
      op.logits != nullptr && (op.labels == nullptr) == (op.losses == nullptr) && op.classes > 0 &&
          (op.labels != nullptr || (op.predictions != nullptr && op.d_logits == nullptr)),
      "cross_entropy: missing buffer");
  stream.cross_entropy(op);
}

void squared_error(Stream& stream, const SquaredError& op) {
  check_internal(op.predictions != nullptr && op.targets != nullptr && op.losses != nullptr,
                 "squared_error: missing buffer");
  stream.squared_error(op);
}

}  // namespace bertology
