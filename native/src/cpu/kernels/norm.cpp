// Embeddings and layer normalisation, by row.
#include "cpu/kernels/table.h"
#include "cpu/kernels/vec.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

struct Statistics {
  float mean;
  float inverse_deviation;
};

Statistics statistics_of(const float* row, int64_t width, float eps) {
  Vec total = Vec{};
  int64_t c = 0;
  for (; c + kWidth <= width; c += kWidth) total += load(row + c);
  if (c < width) total += load_some(row + c, width - c);
  const float mean = sum(total) / (float)width;
  Vec squares = Vec{};
  for (c = 0; c + kWidth <= width; c += kWidth) {
    const Vec d = load(row + c) - mean;
    squares += d * d;
  }
  if (c < width) {
    const Vec d = load_some(row + c, width - c, mean) - mean;
    squares += d * d;
  }
  const float variance = sum(squares) / (float)width;
  return {mean, 1.0f / __builtin_sqrtf(variance + eps)};
}

void normalize(const float* row, Statistics s, const float* gamma, const float* beta, int64_t width,
               float* output) {
  int64_t c = 0;
  for (; c + kWidth <= width; c += kWidth) {
    store(output + c,
          (load(row + c) - s.mean) * s.inverse_deviation * load(gamma + c) + load(beta + c));
  }
  for (; c < width; ++c) output[c] = (row[c] - s.mean) * s.inverse_deviation * gamma[c] + beta[c];
}

}  // namespace

void embedding_forward(const EmbeddingForward& op, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* word = op.word + (int64_t)op.input_ids[t] * op.width;
    const float* position = op.position + (int64_t)op.position_ids[t] * op.width;
    float* output = op.output + t * op.width;
    if (op.token_type != nullptr) {
      const float* token_type = op.token_type + (int64_t)op.token_type_ids[t] * op.width;
      for (int64_t c = 0; c < op.width; ++c) output[c] = word[c] + token_type[c] + position[c];
    } else {
      for (int64_t c = 0; c < op.width; ++c) output[c] = word[c] + position[c];
    }
    if (op.gamma == nullptr) continue;
    normalize(output, statistics_of(output, op.width, op.eps), op.gamma, op.beta, op.width, output);
  }
}

void layer_norm_forward(const LayerNormForward& op, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* row = op.input + r * op.width;
    float* output = op.output + r * op.width;
    if (op.residual != nullptr || op.sum != nullptr) {
      float* sums = op.sum != nullptr ? op.sum + r * op.width : output;
      const float* residual = op.residual != nullptr ? op.residual + r * op.width : nullptr;
      for (int64_t c = 0; c < op.width; ++c)
        sums[c] = residual != nullptr ? row[c] + residual[c] : row[c];
      row = sums;
    }
    const Statistics s = statistics_of(row, op.width, op.eps);
    if (op.statistics != nullptr) {
      op.statistics[2 * r] = s.mean;
      op.statistics[2 * r + 1] = s.inverse_deviation;
    }
    normalize(row, s, op.gamma, op.beta, op.width, output);
  }
}

void layer_norm_backward(const LayerNormBackward& op, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* row = op.sum + r * op.width;
    const float* d_output = op.d_output + r * op.width;
    const float* d_residual = op.d_residual == nullptr ? nullptr : op.d_residual + r * op.width;
    float* d_input = op.d_input + r * op.width;
    const float mean = op.statistics[2 * r];
    const float inverse = op.statistics[2 * r + 1];
    // With x the normalised row and d = d_output gamma: dz = inverse (d - mean(d) - x mean(d x)).
    Vec sum_d = Vec{};
    Vec sum_dx = Vec{};
    int64_t c = 0;
    for (; c + kWidth <= op.width; c += kWidth) {
      const Vec d = load(d_output + c) * load(op.gamma + c);
      sum_d += d;
      sum_dx += d * ((load(row + c) - mean) * inverse);
    }
    float mean_d = sum(sum_d);
    float mean_dx = sum(sum_dx);
    for (; c < op.width; ++c) {
      const float d = d_output[c] * op.gamma[c];
      mean_d += d;
      mean_dx += d * ((row[c] - mean) * inverse);
    }
    mean_d /= (float)op.width;
    mean_dx /= (float)op.width;
    for (c = 0; c + kWidth <= op.width; c += kWidth) {
      const Vec d = load(d_output + c) * load(op.gamma + c);
      const Vec x = (load(row + c) - mean) * inverse;
      const Vec dz = (d - mean_d - x * mean_dx) * inverse;
      store(d_input + c, d_residual == nullptr ? dz : dz + load(d_residual + c));
    }
    for (; c < op.width; ++c) {
      const float d = d_output[c] * op.gamma[c];
      const float x = (row[c] - mean) * inverse;
      const float dz = (d - mean_d - x * mean_dx) * inverse;
      d_input[c] = d_residual == nullptr ? dz : dz + d_residual[c];
    }
  }
}

}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
