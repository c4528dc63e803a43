#include "ops/attention.h"

#include "cpu/kernels/math.h"
#include "cpu/kernels/small_gemm.h"
#include "cpu/kernels/table.h"
#include "cpu/kernels/transpose.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

// Query rows that are worked on at a time: their scores against all keys stay in the second-level
// cache.
constexpr int64_t kBlockRows = 24;

// Score of a key that a query must not see: its exponential is 0, its product with 0 is 0.
constexpr float kUnseen = -1e30f;

/// Floats from row to row of scores: whole vectors, and an odd number of cache lines, because with
/// a power of two all rows would meet in a few sets of the first-level cache.
int64_t row_stride(int64_t keys) {
  constexpr int64_t kLine = 16;
  const int64_t lines = (keys + kLine - 1) / kLine;
  return (lines + 1 - lines % 2) * kLine;
}

/// One head of one sequence: where its rows are.
struct Head {
  int64_t queries, keys, head_dim, padded_keys, padded_dim;
  const float *query, *key, *value;  // first row, at the head's columns

  Head(const AttentionInputs& in, int64_t sequence, int64_t head)
      : queries(in.queries.offsets[sequence + 1] - in.queries.offsets[sequence]),
        keys(in.keys.offsets[sequence + 1] - in.keys.offsets[sequence]),
        head_dim(in.head_dim),
        padded_keys(row_stride(keys)),
        padded_dim(round_up(in.head_dim)),
        query(in.query + in.queries.offsets[sequence] * in.query_stride + head * in.head_dim),
        key(in.key + in.keys.offsets[sequence] * in.key_stride + head * in.head_dim),
        value(in.value + in.keys.offsets[sequence] * in.key_stride + head * in.head_dim) {}
};

float* take(float** scratch, int64_t count) {
  float* place = *scratch;
  *scratch += (count + 15) / 16 * 16;
  return place;
}

/// to[r][c] = factor from[r][c], rows of `to` padded with zeros to a whole vector
void copy_padded(const float* from, int64_t from_stride, int64_t rows, int64_t columns,
                 float factor, float* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = from + r * from_stride;
    float* out = to + r * to_stride;
    int64_t c = 0;
    for (; c + kWidth <= columns; c += kWidth) store(out + c, load(in + c) * factor);
    if (c < columns) store(out + c, load_some(in + c, columns - c) * factor);
  }
}

/// to[c] = factor from[c]; `from` is padded, `to` may not be
void copy_row(const float* from, int64_t columns, float factor, float* to) {
  int64_t c = 0;
  for (; c + kWidth <= columns; c += kWidth) store(to + c, load(from + c) * factor);
  if (c < columns) store_some(to + c, load(from + c) * factor, columns - c);
}

/// The same for rows.
void copy_unpadded(const float* from, int64_t from_stride, int64_t rows, int64_t columns,
                   float factor, float* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r)
    copy_row(from + r * from_stride, columns, factor, to + r * to_stride);
}

void zero_rows(float* to, int64_t stride, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[r * stride + c] = 0;
  }
}

void divide_row(float* row, int64_t padded, float by) {
  for (int64_t c = 0; c < padded; c += kWidth) store(row + c, load(row + c) / by);
}

/// What the softmax of one row leaves besides the exponentials.
struct RowSum {
  float sum;  // of them: divided by this they are probabilities
  float log_sum_exp;
  float entropy;
};

/// scores[j] -> e_j = exp(scale (scores[j] - the largest)) of the first `keys`, zero behind them up
/// to `padded`. p_j = e_j / sum. Of the entropy only if it is wanted.
template <bool kEntropy>
RowSum exponentials_of_row(float* scores, int64_t keys, int64_t padded, float scale) {
  for (int64_t j = keys; j < padded; ++j) scores[j] = kUnseen;
  Vec most = splat(kUnseen);
  for (int64_t j = 0; j < padded; j += kWidth) most = maximum(most, load(scores + j));
  const float largest = maximum(most);
  Vec total = Vec{};
  Vec weighted = Vec{};
  for (int64_t j = 0; j < padded; j += kWidth) {
    // Subtracted before it is scaled: that of the largest is 0 however large it is.
    const Vec distance = (load(scores + j) - largest) * scale;
    const Vec e = bounded_exponential(distance);
    store(scores + j, e);
    total += e;
    if (kEntropy) weighted += e * distance;
  }
  const float z = sum(total);
  const float log_z = __builtin_logf(z);
  // -sum p ln p with ln p = distance - ln z. Rounding may put a row that sees one key below zero.
  const float entropy = kEntropy ? log_z - sum(weighted) / z : 0.0f;
  return {z, largest * scale + log_z, entropy > 0 ? entropy : 0};
}

}  // namespace

int64_t attention_forward_scratch(int64_t keys, int64_t head_dim) {
  const int64_t padded_keys = row_stride(keys);
  const int64_t padded_dim = round_up(head_dim);
  return head_dim * padded_keys + keys * padded_dim + kBlockRows * (padded_keys + padded_dim) +
         4 * 16;
}

void attention_forward(const AttentionForward& op, int64_t sequence, int64_t head, float* scratch) {
  const AttentionInputs& in = op.inputs;
  const Head at(in, sequence, head);
  const int64_t first_row = in.queries.offsets[sequence];
  const int64_t width = in.heads * in.head_dim;
  const float mask = in.head_mask[head];
  float* context = op.context + first_row * width + head * in.head_dim;
  float* head_outputs = op.head_outputs == nullptr
                            ? nullptr
                            : op.head_outputs + first_row * width + head * in.head_dim;
  // Blocks by sequence: [heads, queries] and [heads, n, n].
  const int64_t row_block = first_row * in.heads + head * at.queries;
  float* probabilities = op.probabilities == nullptr
                             ? nullptr
                             : op.probabilities + in.keys.pair_offsets[sequence] * in.heads +
                                   head * at.queries * at.keys;

  if (mask == 0 && !in.compute_masked_heads) {
    zero_rows(context, width, at.queries, at.head_dim);
    if (head_outputs != nullptr) zero_rows(head_outputs, width, at.queries, at.head_dim);
    if (op.entropies != nullptr) zero_rows(op.entropies + row_block, at.queries, 1, at.queries);
    if (probabilities != nullptr) zero_rows(probabilities, at.keys, at.queries, at.keys);
    return;
  }

  float* keys = take(&scratch, at.head_dim * at.padded_keys);  // transposed
  float* values = take(&scratch, at.keys * at.padded_dim);
  float* scores = take(&scratch, kBlockRows * at.padded_keys);
  float* outputs = take(&scratch, kBlockRows * at.padded_dim);
  transpose(at.key, in.key_stride, at.keys, at.head_dim, keys, at.padded_keys);
  copy_padded(at.value, in.key_stride, at.keys, at.head_dim, 1.0f, values, at.padded_dim);

  for (int64_t i = 0; i < at.queries; i += kBlockRows) {
    const int64_t rows = at.queries - i < kBlockRows ? at.queries - i : kBlockRows;
    const int64_t seen = in.causal ? i + rows : at.keys;  // keys that some row of the block sees
    const int64_t padded = round_up(seen);
    gemm({at.query + i * in.query_stride, in.query_stride, 1}, keys, at.padded_keys, rows, padded,
         at.head_dim, scores, at.padded_keys, false);
    float sums[kBlockRows];
    for (int64_t r = 0; r < rows; ++r) {
      float* row = scores + r * at.padded_keys;
      const int64_t visible = in.causal ? i + r + 1 : at.keys;
      const RowSum row_sum = op.entropies != nullptr
                                 ? exponentials_of_row<true>(row, visible, padded, in.scale)
                                 : exponentials_of_row<false>(row, visible, padded, in.scale);
      sums[r] = row_sum.sum;
      if (op.log_sum_exp != nullptr) op.log_sum_exp[row_block + i + r] = row_sum.log_sum_exp;
      if (op.entropies != nullptr) op.entropies[row_block + i + r] = row_sum.entropy;
    }
    gemm({scores, at.padded_keys, 1}, values, at.padded_dim, rows, at.padded_dim, seen, outputs,
         at.padded_dim, false);
    // Rows are divided by their sums where they leave: there are fewer outputs than scores.
    for (int64_t r = 0; r < rows; ++r) {
      float* output = outputs + r * at.padded_dim;
      divide_row(output, at.padded_dim, sums[r]);  // the mask apart: a sweep applies it later
      copy_row(output, at.head_dim, mask, context + (i + r) * width);
      if (head_outputs != nullptr && head_outputs != context)
        copy_row(output, at.head_dim, 1.0f, head_outputs + (i + r) * width);
      if (probabilities == nullptr) continue;
      float* row = probabilities + (i + r) * at.keys;
      copy_row(scores + r * at.padded_keys, seen, mask / sums[r], row);
      zero_rows(row + seen, at.keys, 1, at.keys - seen);
    }
  }
}

int64_t attention_backward_scratch(int64_t keys, int64_t head_dim) {
  const int64_t padded_keys = row_stride(keys);
  const int64_t padded_dim = round_up(head_dim);
  return 2 * head_dim * padded_keys + 3 * keys * padded_dim +
         kBlockRows * (2 * padded_keys + 3 * padded_dim) + kBlockRows + 11 * 16;
}

void attention_backward(const AttentionBackward& op, int64_t sequence, int64_t head,
                        float* scratch) {
  const AttentionInputs& in = op.inputs;
  const Head at(in, sequence, head);
  const int64_t first_row = in.queries.offsets[sequence];
  const int64_t first_key = in.keys.offsets[sequence];
  const int64_t width = in.heads * in.head_dim;
  const int64_t column = head * in.head_dim;
  const float mask = in.head_mask[head];
  const float* d_context = op.d_context + first_row * width + column;
  const float* head_outputs = op.head_outputs + first_row * width + column;
  float* d_head_outputs =
      op.d_head_outputs == nullptr ? nullptr : op.d_head_outputs + first_row * width + column;
  float* d_probabilities = op.d_probabilities == nullptr
                               ? nullptr
                               : op.d_probabilities + in.keys.pair_offsets[sequence] * in.heads +
                                     head * at.queries * at.keys;
  float* d_query =
      op.d_query == nullptr ? nullptr : op.d_query + first_row * op.d_query_stride + column;
  float* d_key = op.d_key == nullptr ? nullptr : op.d_key + first_key * op.d_key_stride + column;
  float* d_value =
      op.d_value == nullptr ? nullptr : op.d_value + first_key * op.d_key_stride + column;

  if (mask == 0 && !in.compute_masked_heads) {
    if (d_query != nullptr) {
      zero_rows(d_query, op.d_query_stride, at.queries, at.head_dim);
      zero_rows(d_key, op.d_key_stride, at.keys, at.head_dim);
      zero_rows(d_value, op.d_key_stride, at.keys, at.head_dim);
    }
    if (d_head_outputs != nullptr) zero_rows(d_head_outputs, width, at.queries, at.head_dim);
    if (d_probabilities != nullptr) zero_rows(d_probabilities, at.keys, at.queries, at.keys);
    return;
  }

  // The head's gradient: g = sum_i o_i . dcontext_i. The same products are what the softmax's
  // gradient subtracts.
  double signed_sum = 0;
  double absolute_sum = 0;
  for (int64_t i = 0; i < at.queries; ++i) {
    const float* o = head_outputs + i * width;
    const float* d = d_context + i * width;
    Vec products = Vec{};
    int64_t c = 0;
    for (; c + kWidth <= at.head_dim; c += kWidth) products += load(o + c) * load(d + c);
    if (c < at.head_dim)
      products += load_some(o + c, at.head_dim - c) * load_some(d + c, at.head_dim - c);
    const double product = sum(products);
    signed_sum += product;
    absolute_sum += product < 0 ? -product : product;
  }
  const int64_t target = sequence * op.example_stride + op.head_index[head];
  op.head_gradients[target] = (float)signed_sum;
  if (op.token_head_gradients != nullptr) op.token_head_gradients[target] = (float)absolute_sum;
  if (d_head_outputs != nullptr) {
    for (int64_t i = 0; i < at.queries; ++i) {
      for (int64_t c = 0; c < at.head_dim; ++c)
        d_head_outputs[i * width + c] = mask * d_context[i * width + c];
    }
  }
  if (d_query == nullptr && d_probabilities == nullptr) return;

  float* keys_transposed = take(&scratch, at.head_dim * at.padded_keys);
  float* values_transposed = take(&scratch, at.head_dim * at.padded_keys);
  float* keys = take(&scratch, at.keys * at.padded_dim);
  float* d_keys = take(&scratch, at.keys * at.padded_dim);
  float* d_values = take(&scratch, at.keys * at.padded_dim);
  float* scores = take(&scratch, kBlockRows * at.padded_keys);    // p
  float* d_scores = take(&scratch, kBlockRows * at.padded_keys);  // dloss/dp, then dloss/d(q . k)
  float* queries = take(&scratch, kBlockRows * at.padded_dim);
  float* d_outputs = take(&scratch, kBlockRows * at.padded_dim);
  float* d_queries = take(&scratch, kBlockRows * at.padded_dim);
  transpose(at.key, in.key_stride, at.keys, at.head_dim, keys_transposed, at.padded_keys);
  transpose(at.value, in.key_stride, at.keys, at.head_dim, values_transposed, at.padded_keys);
  copy_padded(at.key, in.key_stride, at.keys, at.head_dim, 1.0f, keys, at.padded_dim);
  for (int64_t i = 0; i < at.keys * at.padded_dim; ++i) d_keys[i] = d_values[i] = 0;

  const float* log_sum_exp = op.log_sum_exp + first_row * in.heads + head * at.queries;
  for (int64_t i = 0; i < at.queries; i += kBlockRows) {
    const int64_t rows = at.queries - i < kBlockRows ? at.queries - i : kBlockRows;
    const int64_t seen = in.causal ? i + rows : at.keys;
    const int64_t padded = round_up(seen);
    gemm({d_context + i * width, width, 1}, values_transposed, at.padded_keys, rows, padded,
         at.head_dim, d_scores, at.padded_keys, false);
    if (d_probabilities != nullptr) {
      copy_unpadded(d_scores, at.padded_keys, rows, seen, 1.0f, d_probabilities + i * at.keys,
                    at.keys);
      zero_rows(d_probabilities + i * at.keys + seen, at.keys, rows, at.keys - seen);
      if (in.causal) {
        for (int64_t r = 0; r < rows; ++r) {
          zero_rows(d_probabilities + (i + r) * at.keys + i + r + 1, at.keys, 1,
                    seen - (i + r + 1));
        }
      }
    }
    if (d_query == nullptr) continue;

    copy_padded(at.query + i * in.query_stride, in.query_stride, rows, at.head_dim, 1.0f, queries,
                at.padded_dim);
    copy_padded(d_context + i * width, width, rows, at.head_dim, mask, d_outputs, at.padded_dim);
    gemm({queries, at.padded_dim, 1}, keys_transposed, at.padded_keys, rows, padded, at.head_dim,
         scores, at.padded_keys, false);
    for (int64_t r = 0; r < rows; ++r) {
      float* p = scores + r * at.padded_keys;
      float* d = d_scores + r * at.padded_keys;
      const float log_sum = log_sum_exp[i + r];
      const int64_t visible = in.causal ? i + r + 1 : at.keys;
      // sum_j p_ij dp_ij, the same number as o_i . dcontext_i but rounded as the terms it is
      // subtracted from
      Vec inner = Vec{};
      for (int64_t j = visible; j < padded; ++j) p[j] = kUnseen;
      for (int64_t j = 0; j < padded; j += kWidth) {
        const Vec distance = load(p + j) * in.scale - log_sum;
        // Of large scores the sum's logarithm has been rounded: no probability is above 1.
        const Vec probability = bounded_exponential(distance > 0.0f ? Vec{} : distance);
        store(p + j, probability);
        inner += probability * load(d + j);
      }
      const float row_sum = sum(inner);
      const float factor = mask * in.scale;
      for (int64_t j = 0; j < padded; j += kWidth) {
        store(d + j, load(p + j) * (load(d + j) - row_sum) * factor);
      }
    }
    gemm({scores, 1, at.padded_keys}, d_outputs, at.padded_dim, seen, at.padded_dim, rows, d_values,
         at.padded_dim, true);
    gemm({d_scores, 1, at.padded_keys}, queries, at.padded_dim, seen, at.padded_dim, rows, d_keys,
         at.padded_dim, true);
    gemm({d_scores, at.padded_keys, 1}, keys, at.padded_dim, rows, at.padded_dim, seen, d_queries,
         at.padded_dim, false);
    copy_unpadded(d_queries, at.padded_dim, rows, at.head_dim, 1.0f,
                  d_query + i * op.d_query_stride, op.d_query_stride);
  }
  if (d_query == nullptr) return;
  copy_unpadded(d_keys, at.padded_dim, at.keys, at.head_dim, 1.0f, d_key, op.d_key_stride);
  copy_unpadded(d_values, at.padded_dim, at.keys, at.head_dim, 1.0f, d_value, op.d_key_stride);
}

}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
