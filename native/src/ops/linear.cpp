#include "ops/linear.h"

#include "base/error.h"
#include "ops/backend.h"

namespace bertology {
namespace {

void check_parts(const char* op, const PackedMatrix* weight, int first, int count) {
  check_internal(weight != nullptr, op, ": no weight");
  check_internal(first >= 0 && count > 0 && first + count <= weight->parts(), op, ": parts ", first,
                 " + ", count, " of ", weight->parts());
}

}  // namespace

void linear_forward(Stream& stream, LinearForward op) {
  check_parts("linear_forward", op.weight, op.first_part, op.parts);
  check_internal(op.input != nullptr && op.output != nullptr, "linear_forward: missing buffer");
  const int64_t outputs = op.parts * op.weight->part_outputs();
  if (op.output_stride == 0) op.output_stride = outputs;
  check_internal(op.output_stride >= outputs, "linear_forward: row stride ", op.output_stride,
                 " under ", outputs);
  if (op.rows == 0 || outputs == 0) return;
  stream.linear_forward(op);
}

void linear_backward(Stream& stream, LinearBackward op) {
  check_parts("linear_backward", op.weight, op.first_part, op.parts);
  check_internal(op.d_output != nullptr && op.d_input != nullptr,
                 "linear_backward: missing buffer");
  check_internal(
      op.activation == Activation::kNone || (op.preactivation != nullptr && !op.accumulate),
      "linear_backward: activation without its input, or after accumulation");
  const int64_t outputs = op.parts * op.weight->part_outputs();
  if (op.d_output_stride == 0) op.d_output_stride = outputs;
  check_internal(op.d_output_stride >= outputs, "linear_backward: row stride ", op.d_output_stride,
                 " under ", outputs);
  if (op.rows == 0) return;
  stream.linear_backward(op);
}

}  // namespace bertology
