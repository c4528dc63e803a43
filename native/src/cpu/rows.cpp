// Operations by row: their kernels, spread over the pool.
#include "ops/rows.h"

#include <cmath>
#include <cstring>

#include "cpu/stream.h"

namespace bertology::cpu {

void CpuStream::reserve_scratch(int64_t bytes) {
  scratch_bytes_ = (bytes + 63) / 64 * 64;
  scratch_base_ = reinterpret_cast<char*>(scratch_memory_.reserve(
      backend_.threads() * scratch_bytes_ / static_cast<int64_t>(sizeof(float)),
      "the scratch of an operation"));
}

void CpuStream::to_device(void* device, const void* host, int64_t bytes) {
  std::memcpy(device, host, static_cast<size_t>(bytes));
}

void CpuStream::to_host(void* host, const void* device, int64_t bytes) {
  std::memcpy(host, device, static_cast<size_t>(bytes));
}

void CpuStream::zero(float* data, int64_t count) {
  backend_.parallel_rows(count, 1, [&](int64_t begin, int64_t end) {
    std::memset(data + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
  });
}

void CpuStream::copy(float* to, const float* from, int64_t count) {
  backend_.parallel_rows(count, 1, [&](int64_t begin, int64_t end) {
    std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin) * sizeof(float));
  });
}

void CpuStream::accumulate(double* to, const double* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

void CpuStream::embedding_forward(const EmbeddingForward& op) {
  backend_.parallel_rows(op.tokens, op.width, [&](int64_t begin, int64_t end) {
    kernels().embedding_forward(op, begin, end);
  });
}

void CpuStream::layer_norm_forward(const LayerNormForward& op) {
  backend_.parallel_rows(op.rows, op.width, [&](int64_t begin, int64_t end) {
    kernels().layer_norm_forward(op, begin, end);
  });
}

void CpuStream::layer_norm_backward(const LayerNormBackward& op) {
  backend_.parallel_rows(op.rows, op.width, [&](int64_t begin, int64_t end) {
    kernels().layer_norm_backward(op, begin, end);
  });
}

void CpuStream::activation_backward(const ActivationBackward& op) {
  backend_.parallel_rows(op.count, 1, [&](int64_t begin, int64_t end) {
    kernels().activation_backward(op.activation, op.preactivation + begin, op.gradient + begin,
                                  end - begin);
  });
}

void CpuStream::pooling_forward(const PoolingForward& op) {
  backend_.parallel_rows(op.sequences.count, op.width, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t rows = op.pooled == PooledRows::kMean ? op.sequences.length(b) : 1;
      const int64_t first = op.pooled == PooledRows::kLast ? op.sequences.offsets[b + 1] - 1
                                                           : op.sequences.offsets[b];
      const float* input = op.input + first * op.width;
      float* output = op.output + b * op.width;
      std::memset(output, 0, static_cast<size_t>(op.width) * sizeof(float));
      for (int64_t r = 0; r < rows; ++r) {
        kernels().add_scaled(input + r * op.width, 1.0f / static_cast<float>(rows), output,
                             op.width);
      }
      if (!op.normalize) continue;
      op.lengths[b] = std::sqrt(kernels().dot(output, output, op.width));
      // A vector of length 0 stays what it is.
      if (op.lengths[b] == 0) op.lengths[b] = 1;
      for (int64_t c = 0; c < op.width; ++c) output[c] /= op.lengths[b];
    }
  });
}

void CpuStream::pooling_backward(const PoolingBackward& op) {
  backend_.parallel_rows(op.sequences.count, op.width, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t rows = op.sequences.length(b);
      const int64_t read = op.pooled == PooledRows::kMean ? rows : 1;
      const float* d_output = op.d_output + b * op.width;
      const float* output = op.normalize ? op.output + b * op.width : nullptr;
      float* d_input = op.d_input + op.sequences.offsets[b] * op.width;
      std::memset(d_input, 0, static_cast<size_t>(rows * op.width) * sizeof(float));
      if (op.pooled == PooledRows::kLast) d_input += (rows - 1) * op.width;
      // y = x / |x|: dx = (dy - y (y . dy)) / |x|
      const float scale = (op.normalize ? 1.0f / op.lengths[b] : 1.0f) / static_cast<float>(read);
      kernels().add_scaled(d_output, scale, d_input, op.width);
      if (op.normalize) {
        kernels().add_scaled(output, -scale * kernels().dot(output, d_output, op.width), d_input,
                             op.width);
      }
      for (int64_t r = 1; r < read; ++r) {
        std::memcpy(d_input + r * op.width, d_input, static_cast<size_t>(op.width) * sizeof(float));
      }
    }
  });
}

void CpuStream::cross_entropy(const CrossEntropy& op) {
  backend_.parallel_rows(op.rows, op.classes, [&](int64_t begin, int64_t end) {
    kernels().cross_entropy(op, begin, end);
  });
}

void CpuStream::squared_error(const SquaredError& op) {
  for (int64_t r = 0; r < op.rows; ++r) {
    const float difference = op.predictions[r] - op.targets[r];
    op.losses[r] = difference * difference;
    if (op.d_predictions != nullptr) op.d_predictions[r] = 2 * difference;
  }
}

void CpuStream::gather_rows(const GatherRows& op) {
  backend_.parallel_rows(op.rows, op.width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(op.output + r * op.width, op.input + op.index[r] * op.width,
                  static_cast<size_t>(op.width) * sizeof(float));
    }
  });
}

void CpuStream::scatter_rows(const ScatterRows& op) {
  backend_.parallel_rows(op.rows, op.width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* output = op.output + op.index[r] * op.width;
      if (!op.accumulate) std::memset(output, 0, static_cast<size_t>(op.width) * sizeof(float));
      kernels().add_scaled(op.input + r * op.width, 1.0f, output, op.width);
    }
  });
}

void CpuStream::broadcast_row(const BroadcastRow& op) {
  backend_.parallel_rows(op.rows, op.width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(op.output + r * op.width, op.row, static_cast<size_t>(op.width) * sizeof(float));
    }
  });
}

void CpuStream::mask_heads(const MaskHeads& op) {
  const int64_t width = op.heads * op.head_dim;
  backend_.parallel_rows(op.rows, width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t h = 0; h < op.heads; ++h) {
        const float factor = op.mask[h];
        const float* input = op.input + r * width + h * op.head_dim;
        float* output = op.output + r * width + h * op.head_dim;
        for (int64_t c = 0; c < op.head_dim; ++c) output[c] = factor == 0 ? 0 : factor * input[c];
      }
    }
  });
}

}  // namespace bertology::cpu
