#include "ops/attention.h"

#include "base/error.h"
#include "ops/backend.h"

namespace bertology {
namespace {

void check_inputs(const char* op, const AttentionInputs& in) {
  check_internal(
      in.query != nullptr && in.key != nullptr && in.value != nullptr && in.head_mask != nullptr,
      op, ": missing buffer");
  check_internal(in.head_dim > 0 && in.query_stride >= in.heads * in.head_dim &&
                     in.key_stride >= in.heads * in.head_dim,
                 op, ": rows of ", in.query_stride, " and ", in.key_stride, " floats hold no ",
                 in.heads, " heads of ", in.head_dim);
  check_internal(in.queries.count == in.keys.count, op, ": ", in.queries.count,
                 " sequences of queries, ", in.keys.count, " of keys");
}

bool all_rows(const AttentionInputs& in) { return in.queries.rows() == in.keys.rows(); }

}  // namespace

void attention_forward(Stream& stream, const AttentionForward& op) {
  if (op.inputs.heads == 0) return;
  check_inputs("attention_forward", op.inputs);
  check_internal(op.context != nullptr, "attention_forward: missing buffer");
  check_internal(all_rows(op.inputs) || (op.probabilities == nullptr && !op.inputs.causal),
                 "attention_forward: maps and causal rows need all rows as queries");
  stream.attention_forward(op);
}

void attention_backward(Stream& stream, const AttentionBackward& op) {
  if (op.inputs.heads == 0) return;
  check_inputs("attention_backward", op.inputs);
  check_internal(op.d_context != nullptr && op.head_outputs != nullptr &&
                     op.head_index != nullptr && op.head_gradients != nullptr,
                 "attention_backward: missing buffer");
  const bool inputs = op.d_query != nullptr;
  check_internal(inputs == (op.d_key != nullptr) && inputs == (op.d_value != nullptr),
                 "attention_backward: gradients of some inputs only");
  check_internal(op.head_sums == nullptr || op.token_head_gradients != nullptr,
                 "attention_backward: sums without the gradients of tokens");
  check_internal(op.log_sum_exp != nullptr || (!inputs && op.d_probabilities == nullptr),
                 "attention_backward: no log_sum_exp");
  check_internal(all_rows(op.inputs) || (op.d_probabilities == nullptr && !op.inputs.causal),
                 "attention_backward: maps and causal rows need all rows as queries");
  stream.attention_backward(op);
}

}  // namespace bertology
