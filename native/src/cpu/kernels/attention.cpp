#include "ops/attention.h"

#include "cpu/kernels/math.h"
#include "cpu/kernels/small_gemm.h"
#include "cpu/kernels/table.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

// Query rows that are worked on at a time: their scores against all keys stay in the second-level
// cache.
constexpr int64_t kBlockRows = 24;

// Score of a key that a query must not see: its exponential is 0, its product with 0 is 0.
constexpr float kUnseen = -1e30f;

/// One head of one sequence: where its rows are.
struct Head {
  int64_t queries, keys, head_dim, padded_keys, padded_dim;
  const float *query, *key, *value;  // first row, at the head's columns

  Head(const AttentionInputs& in, int64_t sequence, int64_t head)
      : queries(in.queries.offsets[sequence + 1] - in.queries.offsets[sequence]),
        keys(in.keys.offsets[sequence + 1] - in.keys.offsets[sequence]),
        head_dim(in.head_dim),
        padded_keys(round_up(keys)),
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

/// to[r][c] = factor from[r][c] for the first `columns` columns; `from` has padded rows, `to` may
/// not
void copy_unpadded(const float* from, int64_t from_stride, int64_t rows, int64_t columns,
                   float factor, float* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = from + r * from_stride;
    float* out = to + r * to_stride;
    int64_t c = 0;
    for (; c + kWidth <= columns; c += kWidth) store(out + c, load(in + c) * factor);
    if (c < columns) store_some(out + c, load(in + c) * factor, columns - c);
  }
}

void zero_rows(float* to, int64_t stride, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[r * stride + c] = 0;
  }
}

/// to[c][r] = from[r][c], in squares of four; rows of `to` are padded with zeros to to_stride
void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns, float* to,
               int64_t to_stride) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    int64_t c = 0;
    for (; c + 4 <= columns; c += 4) {
      Four row[4];
      for (int i = 0; i < 4; ++i)
        __builtin_memcpy(&row[i], from + (r + i) * from_stride + c, sizeof(Four));
      const Four low01 = __builtin_shuffle(row[0], row[1], FourPicks{0, 4, 1, 5});
      const Four high01 = __builtin_shuffle(row[0], row[1], FourPicks{2, 6, 3, 7});
      const Four low23 = __builtin_shuffle(row[2], row[3], FourPicks{0, 4, 1, 5});
      const Four high23 = __builtin_shuffle(row[2], row[3], FourPicks{2, 6, 3, 7});
      const Four column[4] = {__builtin_shuffle(low01, low23, FourPicks{0, 1, 4, 5}),
                              __builtin_shuffle(low01, low23, FourPicks{2, 3, 6, 7}),
                              __builtin_shuffle(high01, high23, FourPicks{0, 1, 4, 5}),
                              __builtin_shuffle(high01, high23, FourPicks{2, 3, 6, 7})};
      for (int i = 0; i < 4; ++i)
        __builtin_memcpy(to + (c + i) * to_stride + r, &column[i], sizeof(Four));
    }
    for (; c < columns; ++c) {
      for (int64_t i = 0; i < 4; ++i) to[c * to_stride + r + i] = from[(r + i) * from_stride + c];
    }
  }
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t i = r; i < to_stride; ++i)
      to[c * to_stride + i] = i < rows ? from[i * from_stride + c] : 0.0f;
  }
}

/// What the softmax of one row leaves besides the probabilities.
struct RowSum {
  float log_sum_exp;
  float entropy;
};

/// scores[j] -> p_j = exp(scale scores[j]) / sum over the first `keys`; zero behind them up to
/// `padded`.
RowSum softmax_row(float* scores, int64_t keys, int64_t padded, float scale) {
  for (int64_t j = keys; j < padded; ++j) scores[j] = kUnseen;
  Vec most = splat(kUnseen);
  for (int64_t j = 0; j < padded; j += kWidth) {
    const Vec scaled = load(scores + j) * scale;
    store(scores + j, scaled);
    most = maximum(most, scaled);
  }
  const float peak = maximum(most);
  Vec total = Vec{};
  Vec weighted = Vec{};
  for (int64_t j = 0; j < padded; j += kWidth) {
    const Vec distance = load(scores + j) - peak;
    const Vec e = bounded_exponential(distance);
    store(scores + j, e);
    total += e;
    weighted += e * distance;
  }
  const float z = sum(total);
  const Vec inverse = splat(1.0f / z);
  for (int64_t j = 0; j < padded; j += kWidth) store(scores + j, load(scores + j) * inverse);
  const float log_z = __builtin_logf(z);
  // -sum p ln p with ln p = distance - ln z. Rounding may put a row that sees one key below zero.
  const float entropy = log_z - sum(weighted) / z;
  return {peak + log_z, entropy > 0 ? entropy : 0};
}

}  // namespace

int64_t attention_forward_scratch(int64_t keys, int64_t head_dim) {
  const int64_t padded_keys = round_up(keys);
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
    for (int64_t r = 0; r < rows; ++r) {
      float* row = scores + r * at.padded_keys;
      const RowSum row_sum = softmax_row(row, in.causal ? i + r + 1 : at.keys, padded, in.scale);
      if (op.log_sum_exp != nullptr) op.log_sum_exp[row_block + i + r] = row_sum.log_sum_exp;
      if (op.entropies != nullptr) op.entropies[row_block + i + r] = row_sum.entropy;
    }
    if (probabilities != nullptr) {
      copy_unpadded(scores, at.padded_keys, rows, seen, mask, probabilities + i * at.keys, at.keys);
      zero_rows(probabilities + i * at.keys + seen, at.keys, rows, at.keys - seen);
    }
    gemm({scores, at.padded_keys, 1}, values, at.padded_dim, rows, at.padded_dim, seen, outputs,
         at.padded_dim, false);
    copy_unpadded(outputs, at.padded_dim, rows, at.head_dim, mask, context + i * width, width);
    if (head_outputs != nullptr && head_outputs != context) {
      copy_unpadded(outputs, at.padded_dim, rows, at.head_dim, 1.0f, head_outputs + i * width,
                    width);
    }
  }
}

int64_t attention_backward_scratch(int64_t keys, int64_t head_dim) {
  const int64_t padded_keys = round_up(keys);
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
        const Vec probability = bounded_exponential(load(p + j) * in.scale - log_sum);
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
