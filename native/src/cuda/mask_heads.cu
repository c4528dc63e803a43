#include "ops/mask_heads.h"

#include "cuda/row.cuh"
#include "cuda/stream.h"

namespace bertology::cuda {
namespace {

template <bool kVector>
__global__ void __launch_bounds__(kRowBlock) mask_heads(MaskHeads op) {
  const int64_t r = this_row();
  if (r >= op.rows) return;
  const int64_t width = op.heads * op.head_dim;
  for (int64_t c = threadIdx.x * kPiece<kVector>; c < width; c += blockDim.x * kPiece<kVector>) {
    // A piece is of one head: vectors are read only where they divide its width.
    const float factor = op.mask[c / op.head_dim];
    float piece[kPiece<kVector>] = {};
    if (factor != 0) load_piece<kVector>(op.input + r * width + c, piece);
#pragma unroll
    for (int k = 0; k < kPiece<kVector>; ++k) piece[k] *= factor;
    store_piece<kVector>(op.output + r * width + c, piece);
  }
}

}  // namespace

void CudaStream::mask_heads(const MaskHeads& op) {
  if (op.rows == 0) return;
  const int64_t width = op.heads * op.head_dim;
  const RowGrid grid = row_grid(op.rows, width, kPartFloats, kRowBlock);
  if (by_four(op.head_dim, op.input, op.output)) {
    cuda::mask_heads<true><<<grid.blocks, grid.block, 0, handle()>>>(op);
  } else {
    cuda::mask_heads<false><<<grid.blocks, grid.block, 0, handle()>>>(op);
  }
  launched("mask_heads", {op.rows, op.heads, op.head_dim});
}

}  // namespace bertology::cuda
