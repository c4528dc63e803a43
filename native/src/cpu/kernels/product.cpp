// Products by packed float32 matrices.
//
// Weights come from memory, not from a cache, whenever a batch is small against the model. Then
// what counts is that the next of them are on their way while the present ones are multiplied by;
// oneDNN, as fast from the caches, loses 10 to 40 % there.
#include "cpu/kernels/product.h"
#include "cpu/kernels/small_gemm.h"
#include "cpu/kernels/table.h"
#include "cpu/kernels/transpose.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

constexpr int64_t kBlockColumns = kTileVecs * kWidth;

// Depth that is worked on at a time: a block of B of that depth, the rows of A and the next block
// share the second-level cache.
constexpr int64_t kMostDepth = 1024;

/// c [kRows, kBlockColumns] (+)= a [kRows, depth] b [depth, kBlockColumns]
template <int kRows>
inline void tile(const float* a, int64_t a_stride, const float* b, int64_t depth, Rest rest,
                 const float* bias, float* c, int64_t c_stride, Ahead& ahead) {
  Vec sums[kRows][kTileVecs] = {};
  add_products({a, a_stride, 1}, b, kBlockColumns, depth, sums, [&] { ahead.step(); });
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kTileVecs; ++j) {
      float* place = c + i * c_stride + j * kWidth;
      if (rest == Rest::kResult) {
        sums[i][j] += load(place);
      } else if (rest == Rest::kBias) {
        sums[i][j] += load(bias + j * kWidth);
      }
      store(place, sums[i][j]);
    }
  }
}

/// All rows by one block.
struct Block {
  const float* a;
  int64_t a_stride;
  const float* b;
  int64_t depth;
  Rest rest;
  const float* bias;

  /// Rows from `row` on: kRows at a time, the rest in one smaller tile.
  template <int kRows>
  void multiply(int64_t row, int64_t rows, float* c, int64_t c_stride, Ahead& ahead) const {
    for (; row + kRows <= rows; row += kRows) {
      tile<kRows>(a + row * a_stride, a_stride, b, depth, rest, bias, c + row * c_stride, c_stride,
                  ahead);
    }
    if constexpr (kRows > 1) {
      if (row < rows) multiply<kRows - 1>(row, rows, c, c_stride, ahead);
    }
  }

  /// The same for fewer columns than a block has: a tile goes to memory aside.
  void multiply_some(int64_t rows, int64_t columns, float* c, int64_t c_stride,
                     Ahead& ahead) const {
    float padded[kTileRows * kBlockColumns] = {};
    float padded_bias[kBlockColumns] = {};
    Block some = *this;
    if (rest == Rest::kBias) {
      for (int64_t j = 0; j < columns; ++j) padded_bias[j] = bias[j];
      some.bias = padded_bias;
    }
    for (int64_t first = 0; first < rows; first += kTileRows) {
      const int64_t count = rows - first < kTileRows ? rows - first : kTileRows;
      float* place = c + first * c_stride;
      const size_t bytes = (size_t)columns * sizeof(float);
      for (int64_t r = 0; rest == Rest::kResult && r < count; ++r)
        __builtin_memcpy(padded + r * kBlockColumns, place + r * c_stride, bytes);
      some.a = a + first * a_stride;
      some.multiply<kTileRows>(0, count, padded, kBlockColumns, ahead);
      for (int64_t r = 0; r < count; ++r)
        __builtin_memcpy(place + r * c_stride, padded + r * kBlockColumns, bytes);
    }
  }
};

int64_t blocks_of(int64_t columns) { return (columns + kBlockColumns - 1) / kBlockColumns; }

}  // namespace

int64_t packed_floats(int64_t depth, int64_t columns) {
  return depth * blocks_of(columns) * kBlockColumns;
}

// A block of columns is behind the other, each [depth, kBlockColumns], the last one padded with
// zeros.
void pack(const PlainMatrix& plain, float* packed) {
  for (int64_t first = 0; first < plain.columns; first += kBlockColumns) {
    const int64_t left = plain.columns - first;
    const int64_t columns = left < kBlockColumns ? left : kBlockColumns;
    const float* from = plain.data + first * plain.column_stride;
    if (plain.depth_stride == 1) {
      transpose(from, plain.column_stride, columns, plain.depth, packed, kBlockColumns);
      packed += plain.depth * kBlockColumns;
      continue;
    }
    for (int64_t k = 0; k < plain.depth; ++k, packed += kBlockColumns) {
      for (int64_t j = 0; j < columns; ++j)
        packed[j] = from[k * plain.depth_stride + j * plain.column_stride];
      for (int64_t j = columns; j < kBlockColumns; ++j) packed[j] = 0.0f;
    }
  }
}

void unpack(const float* packed, const PlainMatrix& plain) {
  float* to = const_cast<float*>(plain.data);
  for (int64_t first = 0; first < plain.columns; first += kBlockColumns) {
    const int64_t left = plain.columns - first;
    const int64_t columns = left < kBlockColumns ? left : kBlockColumns;
    for (int64_t j = 0; j < columns; ++j) {
      for (int64_t k = 0; k < plain.depth; ++k) {
        to[k * plain.depth_stride + (first + j) * plain.column_stride] =
            packed[k * kBlockColumns + j];
      }
    }
    packed += plain.depth * kBlockColumns;
  }
}

void multiply(const PackedProduct<float>& op) {
  const int64_t blocks = blocks_of(op.columns);
  const int64_t pieces = (op.depth + kMostDepth - 1) / kMostDepth;
  const int64_t most = (op.depth + pieces - 1) / pieces;
  const int64_t piece = (most + kStep - 1) / kStep * kStep;
  const int64_t tiles = (op.rows + kTileRows - 1) / kTileRows;
  for (int64_t first = 0; first < op.depth; first += piece) {
    const int64_t depth = op.depth - first < piece ? op.depth - first : piece;
    const Rest rest = op.accumulate || first > 0 ? Rest::kResult
                      : op.bias != nullptr       ? Rest::kBias
                                                 : Rest::kNone;
    for (int64_t n = 0; n < blocks; ++n) {
      const int64_t column = n * kBlockColumns;
      const float* b = op.b + (column * op.depth + first * kBlockColumns);
      const Block block = {
          op.a + first, op.a_stride, b,
          depth,        rest,        op.bias == nullptr ? nullptr : op.bias + column};
      const void* next = op.next;
      if (n + 1 < blocks) {
        next = b + op.depth * kBlockColumns;
      } else if (first + depth < op.depth) {
        next = op.b + (first + depth) * kBlockColumns;
      }
      const int64_t bytes = depth * kBlockColumns * (int64_t)sizeof(float);
      Ahead ahead(next, next == nullptr ? 0 : bytes,
                  tiles * (depth / kStep > 0 ? depth / kStep : 1));
      if (op.columns - column < kBlockColumns) {
        block.multiply_some(op.rows, op.columns - column, op.c + column, op.c_stride, ahead);
      } else {
        block.multiply<kTileRows>(0, op.rows, op.c + column, op.c_stride, ahead);
      }
    }
  }
}

}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
