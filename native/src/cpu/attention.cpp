// Attention, a task for each head of each sequence.
#include "ops/attention.h"

#include <algorithm>

#include "cpu/stream.h"

namespace bertology::cpu {
namespace {

int64_t longest(const Sequences& sequences) {
  int64_t length = 0;
  for (int64_t b = 0; b < sequences.count; ++b) length = std::max(length, sequences.length(b));
  return length;
}

}  // namespace

void CpuStream::attention_forward(const AttentionForward& op) {
  const int64_t heads = op.inputs.heads;
  reserve_scratch(kernels().attention_forward_scratch(longest(op.inputs.keys), op.inputs.head_dim) *
                  static_cast<int64_t>(sizeof(float)));
  backend_.parallel(op.inputs.keys.count * heads, [&](int64_t task, int worker) {
    kernels().attention_forward(op, task / heads, task % heads,
                                static_cast<float*>(scratch(worker)));
  });
}

void CpuStream::attention_backward(const AttentionBackward& op) {
  const int64_t heads = op.inputs.heads;
  reserve_scratch(
      kernels().attention_backward_scratch(longest(op.inputs.keys), op.inputs.head_dim) *
      static_cast<int64_t>(sizeof(float)));
  backend_.parallel(op.inputs.keys.count * heads, [&](int64_t task, int worker) {
    kernels().attention_backward(op, task / heads, task % heads,
                                 static_cast<float*>(scratch(worker)));
  });
}

}  // namespace bertology::cpu
