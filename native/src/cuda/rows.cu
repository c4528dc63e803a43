#include "ops/rows.h"

#include "cuda/row.cuh"
#include "cuda/stream.h"

namespace bertology::cuda {
namespace {

/// to row to_index[r] (+)= from row from_index[r]; without an index row r. from_stride 0: always
/// the same row.
struct MovedRows {
  int64_t rows;
  int64_t width;
  const float* from;
  const int64_t* from_index;
  int64_t from_stride;
  float* to;
  const int64_t* to_index;
  bool accumulate;
};

template <bool kVector>
__global__ void __launch_bounds__(kRowBlock) move_rows(MovedRows op) {
  const int64_t r = this_row();
  if (r >= op.rows) return;
  const float* from = op.from + (op.from_index == nullptr ? r : op.from_index[r]) * op.from_stride;
  float* to = op.to + (op.to_index == nullptr ? r : op.to_index[r]) * op.width;
  for (int64_t c = threadIdx.x * kPiece<kVector>; c < op.width; c += blockDim.x * kPiece<kVector>) {
    float piece[kPiece<kVector>], old[kPiece<kVector>] = {};
    load_piece<kVector>(from + c, piece);
    if (op.accumulate) load_piece<kVector>(to + c, old);
#pragma unroll
    for (int k = 0; k < kPiece<kVector>; ++k) piece[k] += old[k];
    store_piece<kVector>(to + c, piece);
  }
}

void launch(cudaStream_t stream, const MovedRows& op) {
  const RowGrid grid = row_grid(op.rows, op.width, kPartFloats, kRowBlock);
  if (by_four(op.width, op.from, op.to)) {
    move_rows<true><<<grid.blocks, grid.block, 0, stream>>>(op);
  } else {
    move_rows<false><<<grid.blocks, grid.block, 0, stream>>>(op);
  }
}

}  // namespace

void CudaStream::gather_rows(const GatherRows& op) {
  if (op.rows == 0 || op.width == 0) return;
  launch(handle(), {op.rows, op.width, op.input, op.index, op.width, op.output, nullptr, false});
  launched("gather_rows", {op.rows, op.width});
}

void CudaStream::scatter_rows(const ScatterRows& op) {
  if (op.rows == 0 || op.width == 0) return;
  launch(handle(),
         {op.rows, op.width, op.input, nullptr, op.width, op.output, op.index, op.accumulate});
  launched("scatter_rows", {op.rows, op.width});
}

void CudaStream::broadcast_row(const BroadcastRow& op) {
  if (op.rows == 0 || op.width == 0) return;
  launch(handle(), {op.rows, op.width, op.row, nullptr, 0, op.output, nullptr, false});
  launched("broadcast_row", {op.rows, op.width});
}

}  // namespace bertology::cuda
