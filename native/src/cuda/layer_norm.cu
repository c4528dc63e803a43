// A row is read once and stays in registers: a warp's for widths up to 1024, a block's beyond.
#include "ops/layer_norm.h"

#include "cuda/row.cuh"
#include "cuda/stream.h"

namespace bertology::cuda {
namespace {

// input, residual, sum and output may be one another: a thread touches only its own elements, and
// has read them before it writes.
template <bool kVector>
__global__ void __launch_bounds__(kRowBlockMax) norm_forward(LayerNormForward op) {
  const int64_t r = this_row();
  if (r >= op.rows) return;
  const int width = static_cast<int>(op.width);
  Part<kVector> row;
  row.each(width, [&](float* piece, int column) {
    load_piece<kVector>(op.input + r * width + column, piece);
    if (op.residual != nullptr) {
      float residual[kPiece<kVector>];
      load_piece<kVector>(op.residual + r * width + column, residual);
#pragma unroll
      for (int k = 0; k < kPiece<kVector>; ++k) piece[k] += residual[k];
    }
    if (op.sum != nullptr) store_piece<kVector>(op.sum + r * width + column, piece);
  });
  const RowStatistics s = statistics_of(row, width, op.eps);
  if (op.statistics != nullptr && threadIdx.x == 0) {
    op.statistics[2 * r] = s.mean;
    op.statistics[2 * r + 1] = s.inverse_deviation;
  }
  write_normalized(row, s, op.gamma, op.beta, width, op.output + r * width);
}

// With x the normalised row and d = d_output gamma: dz = inverse (d - mean(d) - x mean(d x)).
template <bool kVector>
__global__ void __launch_bounds__(kRowBlockMax) norm_backward(LayerNormBackward op) {
  const int64_t r = this_row();
  if (r >= op.rows) return;
  const int width = static_cast<int>(op.width);
  const float mean = op.statistics[2 * r];
  const float inverse = op.statistics[2 * r + 1];
  Part<kVector> d, x;
  float sum_d = 0, sum_dx = 0;
#pragma unroll
  for (int i = 0; i < kPartFloats; i += kPiece<kVector>) {
    const int column = static_cast<int>(i * blockDim.x + threadIdx.x * kPiece<kVector>);
    if (column >= width) break;
    float gamma[kPiece<kVector>];
    load_piece<kVector>(op.d_output + r * width + column, d.values + i);
    load_piece<kVector>(op.sum + r * width + column, x.values + i);
    load_piece<kVector>(op.gamma + column, gamma);
#pragma unroll
    for (int k = i; k < i + kPiece<kVector>; ++k) {
      d.values[k] *= gamma[k - i];
      x.values[k] = (x.values[k] - mean) * inverse;
      sum_d += d.values[k];
      sum_dx += d.values[k] * x.values[k];
    }
  }
  const float mean_d = row_sum(sum_d) / width;
  const float mean_dx = row_sum(sum_dx) / width;
#pragma unroll
  for (int i = 0; i < kPartFloats; i += kPiece<kVector>) {
    const int column = static_cast<int>(i * blockDim.x + threadIdx.x * kPiece<kVector>);
    if (column >= width) break;
    float residual[kPiece<kVector>] = {};
    if (op.d_residual != nullptr) load_piece<kVector>(op.d_residual + r * width + column, residual);
#pragma unroll
    for (int k = i; k < i + kPiece<kVector>; ++k) {
      d.values[k] = (d.values[k] - mean_d - x.values[k] * mean_dx) * inverse + residual[k - i];
    }
    store_piece<kVector>(op.d_input + r * width + column, d.values + i);
  }
}

}  // namespace

void CudaStream::layer_norm_forward(const LayerNormForward& op) {
  if (op.rows == 0) return;
  const RowGrid grid = kept_row_grid(op.rows, op.width);
  if (by_four(op.width, op.input, op.residual, op.gamma, op.beta, op.output, op.sum)) {
    norm_forward<true><<<grid.blocks, grid.block, 0, handle()>>>(op);
  } else {
    norm_forward<false><<<grid.blocks, grid.block, 0, handle()>>>(op);
  }
  launched("layer_norm_forward", {op.rows, op.width});
}

void CudaStream::layer_norm_backward(const LayerNormBackward& op) {
  if (op.rows == 0) return;
  const RowGrid grid = kept_row_grid(op.rows, op.width);
  if (by_four(op.width, op.d_output, op.sum, op.gamma, op.d_input, op.d_residual)) {
    norm_backward<true><<<grid.blocks, grid.block, 0, handle()>>>(op);
  } else {
    norm_backward<false><<<grid.blocks, grid.block, 0, handle()>>>(op);
  }
  launched("layer_norm_backward", {op.rows, op.width});
}

}  // namespace bertology::cuda
