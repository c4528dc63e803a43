#include "ops/embedding.h"

#include "cuda/row.cuh"
#include "cuda/stream.h"

namespace bertology::cuda {
namespace {

template <bool kVector>
__global__ void __launch_bounds__(kRowBlockMax) sum_and_normalize(EmbeddingForward op) {
  const int64_t t = this_row();
  if (t >= op.tokens) return;
  const int width = static_cast<int>(op.width);
  const float* word = op.word + op.input_ids[t] * op.width;
  const float* position = op.position + op.position_ids[t] * op.width;
  const float* token_type =
      op.token_type == nullptr ? nullptr : op.token_type + op.token_type_ids[t] * op.width;
  float* output = op.output + t * op.width;
  Part<kVector> row;
  row.each(width, [&](float* piece, int column) {
    float added[kPiece<kVector>];
    load_piece<kVector>(word + column, piece);
    if (token_type != nullptr) {
      load_piece<kVector>(token_type + column, added);
#pragma unroll
      for (int k = 0; k < kPiece<kVector>; ++k) piece[k] += added[k];
    }
    load_piece<kVector>(position + column, added);
#pragma unroll
    for (int k = 0; k < kPiece<kVector>; ++k) piece[k] += added[k];
    if (op.gamma == nullptr) store_piece<kVector>(output + column, piece);
  });
  if (op.gamma == nullptr) return;
  write_normalized(row, statistics_of(row, width, op.eps), op.gamma, op.beta, width, output);
}

}  // namespace

void CudaStream::embedding_forward(const EmbeddingForward& op) {
  if (op.tokens == 0) return;
  const RowGrid grid = kept_row_grid(op.tokens, op.width);
  if (by_four(op.width, op.word, op.position, op.token_type, op.gamma, op.beta, op.output)) {
    sum_and_normalize<true><<<grid.blocks, grid.block, 0, handle()>>>(op);
  } else {
    sum_and_normalize<false><<<grid.blocks, grid.block, 0, handle()>>>(op);
  }
  launched("embedding_forward", {op.tokens, op.width});
}

}  // namespace bertology::cuda
