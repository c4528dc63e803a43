// Attention, a task for each head of each sequence.
#include "ops/attention.h"

#include <algorithm>
#include <cmath>

#include "cpu/stream.h"

namespace bertology::cpu {
namespace {

int64_t longest(const Sequences& sequences) {
  int64_t length = 0;
  for (int64_t b = 0; b < sequences.count; ++b) length = std::max(length, sequences.length(b));
  return length;
}

void add_head_sums(const AttentionBackward& op) {
  for (int64_t h = 0; h < op.inputs.heads; ++h) {
    if (op.inputs.head_mask[h] == 0 && !op.inputs.compute_masked_heads) continue;
    const int64_t index = op.head_index[h];
    double* sums = op.head_sums + index * kHeadSums;
    for (int64_t b = 0; b < op.inputs.queries.count; ++b) {
      const double g = op.head_gradients[b * op.example_stride + index];
      sums[kSignedSum] += g;
      sums[kAbsoluteSum] += std::abs(g);
      sums[kSquaredSum] += g * g;
      sums[kTokenAbsoluteSum] += op.token_head_gradients[b * op.example_stride + index];
    }
  }
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
  if (op.head_sums != nullptr) add_head_sums(op);
}

}  // namespace bertology::cpu
