// Masked multi-head attention over packed sequences, and its backward pass with the gradients of
// the heads.
//
// For a head with queries q_i, keys k_j, values v_j and mask value m:
//   p_ij = softmax_j(scale q_i . k_j),  o_i = sum_j p_ij v_j,  context_i = m o_i.
// The derivative of an example's loss with respect to m is g = sum_i o_i . dloss/dcontext_i (Michel
// et al. 2019), and o_i . dloss/dcontext_i is what the gradient of the softmax needs anyway: it
// costs nothing extra.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "ops/sequences.h"

namespace bertology {

class Stream;

/// The queries, keys and values of one layer. Rows are tokens; head h is at columns h head_dim ...
/// of each. Queries may be fewer than keys: some rows of each sequence, in order.
struct AttentionInputs {
  int64_t heads = 0;
  int64_t head_dim = 0;
  Sequences queries;
  Sequences keys;  // as many sequences as `queries`
  const float* query = nullptr;
  const float* key = nullptr;
  const float* value = nullptr;
  int64_t query_stride = 0;  // floats from row to row
  int64_t key_stride = 0;    // of keys and of values
  float scale = 1;
  bool causal = false;               // token i sees tokens 0 .. i only; needs all rows as queries
  const float* head_mask = nullptr;  // [heads], host
  /// What products may round their inputs to; sums are float32. The CPU multiplies float32.
  DType dtype = BERTOLOGY_FLOAT32;
  bool compute_masked_heads =
      false;  // heads with mask 0 too; else they write zeros, or nothing where it says so
};

struct AttentionForward {
  AttentionInputs inputs;
  float* context = nullptr;       // [query rows, heads head_dim], dense: m o
  float* log_sum_exp = nullptr;   // by sequence [heads, queries]: ln sum_j exp(scale q_i . k_j);
                                  // null: not kept; not written for heads that are not computed
  float* head_outputs = nullptr;  // [query rows, heads head_dim]: o; null: not kept
  float* probabilities =
      nullptr;  // by sequence [heads, n, n]: m p; null: not kept. Needs all rows as queries.
  float* entropies = nullptr;  // by sequence [heads, queries]: -sum_j p ln p; null: not kept
};

/// What a run sums of a head's gradients g over its examples, each with the g_i of its tokens.
enum HeadSum { kSignedSum, kAbsoluteSum, kSquaredSum, kTokenAbsoluteSum, kHeadSums };

struct AttentionBackward {
  AttentionInputs inputs;
  const float* d_context = nullptr;     // [query rows, heads head_dim]
  const float* head_outputs = nullptr;  // [query rows, heads head_dim]: o
  const float* log_sum_exp = nullptr;   // as forward wrote it

  // Gradients of the inputs, all three or none: without them only the heads' gradients are
  // computed. Nothing that is written may overlap what is read: inputs are read more than once.
  float* d_query = nullptr;  // laid out as query, d_query_stride from row to row
  float* d_key = nullptr;
  float* d_value = nullptr;
  int64_t d_query_stride = 0;
  int64_t d_key_stride = 0;  // of keys and of values

  // Of sequence b and head h at [b example_stride + head_index[h]]; heads that are not computed are
  // not written.
  const int32_t* head_index = nullptr;  // [heads], host
  int64_t example_stride = 0;
  float* head_gradients = nullptr;        // g
  float* token_head_gradients = nullptr;  // sum_i |o_i . dcontext_i|; null: not kept

  // Fused gradient accumulation: [head_index[h] kHeadSums + s] grows by sum_b g, |g|, g^2 and
  // sum_i |g_i|, added up in the order of the sequences, the same in every run. Heads that are not
  // computed are not changed. Null: not kept; needs token_head_gradients.
  double* head_sums = nullptr;

  float* d_head_outputs =
      nullptr;  // [query rows, heads head_dim]: dloss/do = m dcontext; null: not kept
  float* d_probabilities =
      nullptr;  // by sequence [heads, n, n]: dloss/d(m p) = dcontext . v; null: not kept
};

void attention_forward(Stream& stream, const AttentionForward& op);
void attention_backward(Stream& stream, const AttentionBackward& op);

}  // namespace bertology
