// Products by packed bfloat16 matrices on the processor's tiles (Intel AMX): eight registers of 16
// rows of 64 bytes, and C += A B of three of them. As in product.cpp, the next weights are on their
// way while the present ones are multiplied by.
#if defined(__AVX512F__)

#include "cpu/kernels/product.h"
#include "cpu/kernels/table.h"
#include "cpu/kernels/vec.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

#define BERTOLOGY_TILES __attribute__((target("amx-tile,amx-bf16")))

constexpr int64_t kSide = 16;                  // rows of a tile, and columns of its results
constexpr int64_t kBlockColumns = 2 * kSide;   // of B that are behind each other for every depth
constexpr int64_t kBlockRows = 2 * kSide;      // of A that are multiplied at a time
constexpr int64_t kTile = kSide * kTileDepth;  // elements
constexpr int64_t kRowBytes = kTileDepth * (int64_t)sizeof(uint16_t);

// Steps of depth that are worked on at a time: the rows of A, a block of B and the next one share
// the second-level cache. Results are read again for each piece.
constexpr int64_t kMostSteps = 32;

int64_t blocks_of(int64_t columns) { return (columns + kBlockColumns - 1) / kBlockColumns; }
int64_t steps_of(int64_t depth) { return (depth + kTileDepth - 1) / kTileDepth; }

struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t first_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

/// All tiles whole. A constant: compilers take _tile_loadconfig to read its first bytes only, and
/// leave out stores to the others.
constexpr TileConfig kWholeTiles = {
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
static_assert(kWholeTiles.row_bytes[7] == kRowBytes && kWholeTiles.rows[7] == kSide);

/// The place of an element in its tile of B: pairs of depths are beside each other.
constexpr int64_t in_tile(int64_t depth, int64_t column) {
  return depth / 2 * kTileDepth + 2 * column + depth % 2;
}

/// sums [kBlockRows, kBlockColumns] = kTiles times sixteen rows of A times a block of B.
template <int kTiles>
BERTOLOGY_TILES inline void multiply_block(const uint16_t* a, int64_t a_bytes, const uint16_t* b,
                                           int64_t steps, float* sums, Ahead& ahead) {
  constexpr int64_t kStride = kBlockColumns * (int64_t)sizeof(float);
  _tile_zero(0);
  _tile_zero(1);
  if (kTiles > 1) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t step = 0; step < steps; ++step) {
    _tile_loadd(4, a, a_bytes);
    _tile_loadd(6, b, kRowBytes);
    _tile_loadd(7, b + kTile, kRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    if (kTiles > 1) _tile_loadd(5, (const char*)a + kSide * a_bytes, a_bytes);
    _tile_dpbf16ps(1, 4, 7);
    ahead.step();
    if (kTiles > 1) {
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    a += kTileDepth;
    b += 2 * kTile;
  }
  _tile_stored(0, sums, kStride);
  _tile_stored(1, sums + kSide, kStride);
  if (kTiles > 1) {
    _tile_stored(2, sums + kSide * kBlockColumns, kStride);
    _tile_stored(3, sums + kSide * kBlockColumns + kSide, kStride);
  }
}

/// `columns` sums of a row to C, with the rest.
inline void finish(const float* sums, Rest rest, const float* bias, float* c, int64_t columns) {
  for (int64_t j = 0; j < columns; j += kWidth) {
    const int64_t count = columns - j;
    Vec sum = load(sums + j);
    if (count >= kWidth) {
      if (rest == Rest::kResult) sum += load(c + j);
      if (rest == Rest::kBias) sum += load(bias + j);
      store(c + j, sum);
    } else {
      if (rest == Rest::kResult) sum += load_some(c + j, count);
      if (rest == Rest::kBias) sum += load_some(bias + j, count);
      store_some(c + j, sum, count);
    }
  }
}

}  // namespace

int64_t tiled_elements(int64_t depth, int64_t columns) {
  return steps_of(depth) * kTileDepth * blocks_of(columns) * kBlockColumns;
}

// A block of columns is behind the other: for each step of depth two tiles. What is padded is zero.
void pack_tiles(const PlainMatrix& plain, uint16_t* packed) {
  static_assert(kSide == kWidth, "a row of the results is a vector");
  const int64_t steps = steps_of(plain.depth);
  for (int64_t first = 0; first < plain.columns; first += kSide) {
    uint16_t* tile = packed + (first / kBlockColumns * steps * 2 + first / kSide % 2) * kTile;
    const int64_t left = plain.columns - first;
    for (int64_t step = 0; step < steps; ++step, tile += 2 * kTile) {
      const int64_t depth = step * kTileDepth;
      const int64_t count = plain.depth - depth < kTileDepth ? plain.depth - depth : kTileDepth;
      float rows[kSide][kTileDepth] = {};  // by columns of B
      for (int64_t j = 0; j < kSide && j < left; ++j) {
        const float* from =
            plain.data + depth * plain.depth_stride + (first + j) * plain.column_stride;
        for (int64_t k = 0; k < count; ++k) rows[j][k] = from[k * plain.depth_stride];
      }
      uint16_t rounded[kSide][kTileDepth];
      to_bfloat16(rows[0], rounded[0], kTile);
      for (int64_t j = 0; j < kSide; ++j) {
        for (int64_t k = 0; k < kTileDepth; k += 2)
          __builtin_memcpy(tile + in_tile(k, j), &rounded[j][k], 2 * sizeof(uint16_t));
      }
    }
  }
  // The second half of the last block, if no column reaches it.
  if (blocks_of(plain.columns) * 2 != (plain.columns + kSide - 1) / kSide) {
    uint16_t* tile = packed + (blocks_of(plain.columns) - 1) * steps * 2 * kTile + kTile;
    for (int64_t step = 0; step < steps; ++step, tile += 2 * kTile)
      __builtin_memset(tile, 0, kTile * sizeof(uint16_t));
  }
}

void unpack_tiles(const uint16_t* packed, const PlainMatrix& plain) {
  float* to = const_cast<float*>(plain.data);
  const int64_t steps = steps_of(plain.depth);
  for (int64_t j = 0; j < plain.columns; ++j) {
    const uint16_t* tiles = packed + (j / kBlockColumns * steps * 2 + j / kSide % 2) * kTile;
    for (int64_t k = 0; k < plain.depth; ++k) {
      const uint32_t bits =
          (uint32_t)tiles[k / kTileDepth * 2 * kTile + in_tile(k % kTileDepth, j % kSide)] << 16;
      __builtin_memcpy(to + k * plain.depth_stride + j * plain.column_stride, &bits, sizeof bits);
    }
  }
}

BERTOLOGY_TILES void multiply_tiles(const PackedProduct<uint16_t>& op) {
  _tile_loadconfig(&kWholeTiles);
  alignas(64) float sums[kBlockRows * kBlockColumns];
  const int64_t steps = steps_of(op.depth);
  const int64_t pieces = (steps + kMostSteps - 1) / kMostSteps;
  const int64_t row_blocks = (op.rows + kBlockRows - 1) / kBlockRows;
  const int64_t a_bytes = op.a_stride * (int64_t)sizeof(uint16_t);
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t first = piece * steps / pieces;
    const int64_t count = (piece + 1) * steps / pieces - first;
    const Rest rest = op.accumulate || piece > 0 ? Rest::kResult
                      : op.bias != nullptr       ? Rest::kBias
                                                 : Rest::kNone;
    for (int64_t column = 0; column < op.columns; column += kBlockColumns) {
      const int64_t columns = op.columns - column;
      const uint16_t* b = op.b + (column * steps + first * kBlockColumns) * kTileDepth;
      const uint16_t* next = op.next;
      if (columns > kBlockColumns) {
        next = b + steps * 2 * kTile;
      } else if (piece + 1 < pieces) {
        next = op.b + (first + count) * 2 * kTile;
      }
      Ahead ahead(next, next == nullptr ? 0 : count * 2 * kTile * (int64_t)sizeof(uint16_t),
                  row_blocks * count);
      for (int64_t row = 0; row < op.rows; row += kBlockRows) {
        const int64_t rows = op.rows - row < kBlockRows ? op.rows - row : kBlockRows;
        const uint16_t* a = op.a + row * op.a_stride + first * kTileDepth;
        if (rows > kSide) {
          multiply_block<2>(a, a_bytes, b, count, sums, ahead);
        } else {
          multiply_block<1>(a, a_bytes, b, count, sums, ahead);
        }
        const float* bias = op.bias == nullptr ? nullptr : op.bias + column;
        for (int64_t i = 0; i < rows; ++i) {
          finish(sums + i * kBlockColumns, rest, bias, op.c + (row + i) * op.c_stride + column,
                 columns < kBlockColumns ? columns : kBlockColumns);
        }
      }
    }
  }
  _tile_release();
}

}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE

#endif
