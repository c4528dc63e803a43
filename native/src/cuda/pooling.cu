#include "ops/pooling.h"

#include <algorithm>

#include "cuda/row.cuh"
#include "cuda/stream.h"

namespace bertology::cuda {
namespace {

// Warps of a block that share the rows of a mean.
constexpr int kMeanWarps = 8;
// Rows that a block of pool_backward writes.
constexpr int64_t kWrittenRows = 16;

/// A block for each sequence and each tile of columns, a warp's width of pieces: its warps take
/// every kMeanWarps-th row, their sums are added in order.
template <bool kVector>
__global__ void __launch_bounds__(kWarp* kMeanWarps) pool(PoolingForward op, int tiles) {
  constexpr int kTile = kWarp * kPiece<kVector>;
  __shared__ float sums[kMeanWarps][kPiece<kVector>][kWarp];
  const int64_t b = blockIdx.x / tiles;
  const int64_t begin = op.sequences.device_offsets[b];
  const int64_t end = op.sequences.device_offsets[b + 1];
  const int64_t first = op.pooled == PooledRows::kLast ? end - 1 : begin;
  const int64_t rows = op.pooled == PooledRows::kMean ? end - begin : 1;
  const int64_t column = blockIdx.x % tiles * kTile + threadIdx.x * kPiece<kVector>;
  const bool inside = column < op.width;
  float total[kPiece<kVector>] = {};
  for (int64_t r = threadIdx.y; inside && r < rows; r += kMeanWarps) {
    float piece[kPiece<kVector>];
    load_piece<kVector>(op.input + (first + r) * op.width + column, piece);
#pragma unroll
    for (int k = 0; k < kPiece<kVector>; ++k) total[k] += piece[k];
  }
#pragma unroll
  for (int k = 0; k < kPiece<kVector>; ++k) sums[threadIdx.y][k][threadIdx.x] = total[k];
  __syncthreads();
  if (threadIdx.y != 0 || !inside) return;
  const int used = rows < kMeanWarps ? static_cast<int>(rows) : kMeanWarps;
#pragma unroll
  for (int k = 0; k < kPiece<kVector>; ++k) {
    for (int w = 1; w < used; ++w) total[k] += sums[w][k][threadIdx.x];
    total[k] /= static_cast<float>(rows);
  }
  store_piece<kVector>(op.output + b * op.width + column, total);
}

/// Divides each vector by its length.
__global__ void __launch_bounds__(kRowBlock) normalize(PoolingForward op) {
  const int64_t b = this_row();
  if (b >= op.sequences.count) return;
  float* output = op.output + b * op.width;
  float squares = 0;
  for (int64_t c = threadIdx.x; c < op.width; c += blockDim.x) squares += output[c] * output[c];
  float length = sqrtf(row_sum(squares));
  if (length == 0) length = 1;  // a vector of length 0 stays what it is
  if (threadIdx.x == 0) op.lengths[b] = length;
  for (int64_t c = threadIdx.x; c < op.width; c += blockDim.x) output[c] /= length;
}

/// A block for each sequence and each kWrittenRows of its rows.
/// y = x / |x|: dx = (dy - y (y . dy)) / |x|
template <bool kVector>
__global__ void __launch_bounds__(kRowBlock) pool_backward(PoolingBackward op) {
  const int64_t b = blockIdx.x;
  const int64_t begin = op.sequences.device_offsets[b];
  const int64_t rows = op.sequences.device_offsets[b + 1] - begin;
  const int64_t first = blockIdx.y * kWrittenRows;
  if (first >= rows) return;
  const int64_t last = first + kWrittenRows < rows ? first + kWrittenRows : rows;
  const bool mean = op.pooled == PooledRows::kMean;
  const int64_t read = op.pooled == PooledRows::kLast ? rows - 1 : 0;  // unless all were
  const float* d_output = op.d_output + b * op.width;
  const float* output = op.output + b * op.width;
  const bool reads = mean || (read >= first && read < last);
  float scale = 1.0f / (mean ? static_cast<float>(rows) : 1.0f);
  float along = 0;
  if (op.normalize && reads) {
    scale /= op.lengths[b];
    float products = 0;
    for (int64_t c = threadIdx.x; c < op.width; c += blockDim.x)
      products += output[c] * d_output[c];
    along = row_sum(products);
  }
  for (int64_t c = threadIdx.x * kPiece<kVector>; c < op.width; c += blockDim.x * kPiece<kVector>) {
    float gradient[kPiece<kVector>] = {}, unit[kPiece<kVector>] = {};
    const float zeros[kPiece<kVector>] = {};
    if (reads) load_piece<kVector>(d_output + c, gradient);
    if (reads && op.normalize) load_piece<kVector>(output + c, unit);
#pragma unroll
    for (int k = 0; k < kPiece<kVector>; ++k) gradient[k] = (gradient[k] - unit[k] * along) * scale;
    for (int64_t r = first; r < last; ++r) {
      store_piece<kVector>(op.d_input + (begin + r) * op.width + c,
                           mean || r == read ? gradient : zeros);
    }
  }
}

}  // namespace

void CudaStream::pooling_forward(const PoolingForward& op) {
  const int64_t count = op.sequences.count;
  if (count == 0 || op.width == 0) return;
  const bool vector = by_four(op.width, op.input, op.output);
  const int64_t tile = kWarp * (vector ? 4 : 1);
  const int64_t tiles = (op.width + tile - 1) / tile;
  const unsigned blocks = static_cast<unsigned>(count * tiles);
  const dim3 block(kWarp, op.pooled == PooledRows::kMean ? kMeanWarps : 1);
  if (vector) {
    pool<true><<<blocks, block, 0, handle()>>>(op, static_cast<int>(tiles));
  } else {
    pool<false><<<blocks, block, 0, handle()>>>(op, static_cast<int>(tiles));
  }
  launched("pooling_forward", {count, op.width});
  if (!op.normalize) return;
  const RowGrid grid = row_grid(count, op.width, kPartFloats, kRowBlock);
  normalize<<<grid.blocks, grid.block, 0, handle()>>>(op);
  launched("pooling_forward (lengths)", {count, op.width});
}

void CudaStream::pooling_backward(const PoolingBackward& op) {
  const int64_t count = op.sequences.count;
  if (count == 0 || op.width == 0) return;
  int64_t longest = 0;
  for (int64_t b = 0; b < count; ++b) longest = std::max(longest, op.sequences.length(b));
  if (longest == 0) return;
  const dim3 grid(static_cast<unsigned>(count),
                  static_cast<unsigned>((longest + kWrittenRows - 1) / kWrittenRows));
  const bool vector = by_four(op.width, op.d_output, op.output, op.d_input);
  const int64_t pieces = op.width / (vector ? 4 : 1);
  const int64_t threads = std::min<int64_t>((pieces + kWarp - 1) / kWarp * kWarp, kRowBlock);
  if (vector) {
    pool_backward<true><<<grid, static_cast<unsigned>(threads), 0, handle()>>>(op);
  } else {
    pool_backward<false><<<grid, static_cast<unsigned>(threads), 0, handle()>>>(op);
  }
  launched("pooling_backward", {count, op.sequences.rows(), op.width});
}

}  // namespace bertology::cuda
