#include "ops/linear.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "cuda/gemm_tiles.cuh"
#include "cuda/matrix.h"
#include "cuda/stream.h"

namespace bertology::cuda {
namespace {

// The large tiles have the fewest loads for each product that registers allow; those of float32
// also hold its numbers split in two. The small ones have an eighth or less of the products, so
// that a short batch still has a tile for each multiprocessor.
//
// Shared memory of a block: 72 and 40 KiB for half widths, 48 and 36 KiB for float32. So an A100 or
// H100 holds two large or four small blocks on each multiprocessor, as registers allow; where there
// are 100 KB of it (8.6, 8.9, 12.0), one large block of half width, or two of the others.
template <class T>
struct Tiles {
  using Large = Tile<128, 128, 3, 2>;
  using Small = Tile<32, 64, 5, 4>;
};
template <>
struct Tiles<float> {
  using Large = Tile<128, 64, 4, 2>;
  using Small = Tile<32, 64, 6, 4>;
};

template <class Shape>
int64_t tiles_of(const Product& p) {
  return int64_t{(p.rows + Shape::kRows - 1) / Shape::kRows} *
         ((p.columns + Shape::kColumns - 1) / Shape::kColumns);
}

template <class T, bool kBackward, class Shape>
void launch(CudaStream& stream, const Product& p) {
  constexpr int kShared = kProductShared<T, Shape>;
  constexpr int kWithoutAsking = 48 << 10;
  const auto kernel = product_kernel<T, kBackward, Shape>;
  if (kShared > kWithoutAsking) {
    stream.context().check(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared),
        "cudaFuncSetAttribute");
  }
  kernel<<<static_cast<unsigned int>(tiles_of<Shape>(p)), kTileThreads, kShared, stream.handle()>>>(
      p);
}

template <class T, bool kBackward>
void launch(CudaStream& stream, Product p) {
  const auto aligned = [](const void* data, int64_t stride, size_t element) {
    return reinterpret_cast<uintptr_t>(data) % kChunkBytes == 0 &&
           stride * static_cast<int64_t>(element) % kChunkBytes == 0;
  };
  p.left_aligned = aligned(p.left, p.left_stride, sizeof(float));
  p.right_aligned = aligned(p.right, p.right_stride, sizeof(T));
  using Large = typename Tiles<T>::Large;
  if (tiles_of<Large>(p) >= stream.context().properties().multiProcessorCount) {
    launch<T, kBackward, Large>(stream, p);
  } else {
    launch<T, kBackward, typename Tiles<T>::Small>(stream, p);
  }
}

/// The sums of a row do not depend on which other rows there are: both tiles add in the same order.
template <bool kBackward>
void multiply_by_tiles(CudaStream& stream, DType dtype, const Product& p) {
  switch (dtype) {
    case BERTOLOGY_BFLOAT16:
      return launch<__nv_bfloat16, kBackward>(stream, p);
    case BERTOLOGY_FLOAT16:
      return launch<__half, kBackward>(stream, p);
    default:
      return launch<float, kBackward>(stream, p);
  }
}

constexpr int kFinishThreads = 256;
constexpr int kFinishRows = 4;  // of a thread: its reads do not wait for each other

/// What comes after the sums of another's product, which are in `p.kept` or else in `p.result`.
template <bool kBackward>
__global__ void finish_kernel(const Product p) {
  const int column = static_cast<int>(blockIdx.x) * kFinishThreads + static_cast<int>(threadIdx.x);
  if (column >= p.columns) return;
  const float* sums = p.kept != nullptr ? p.kept : p.result;
  const float bias = !kBackward && p.bias != nullptr ? p.bias[column] : 0.0f;
  const int step = static_cast<int>(gridDim.y) * kFinishRows;
  for (int row = static_cast<int>(blockIdx.y) * kFinishRows; row < p.rows; row += step) {
    const int count = p.rows - row;
    float values[kFinishRows];
#pragma unroll
    for (int i = 0; i < kFinishRows; ++i)
      values[i] = i < count ? sums[(row + i) * p.result_stride + column] : 0.0f;
    finish<kBackward>(p, values, row, 1, count, column, bias);
  }
}

// Rows of float32 activations are rounded some at a time: their copy stays small, and in the cache.
constexpr int64_t kRoundedBytes = int64_t{64} << 20;
constexpr int64_t kRoundedStep = 256;  // whole tiles

int rounded_rows(const Product& p) {
  const int64_t rows = kRoundedBytes / (int64_t{p.depth} * 2) / kRoundedStep * kRoundedStep;
  return static_cast<int>(std::min<int64_t>(p.rows, std::max(rows, kRoundedStep)));
}

template <bool kBackward>
void multiply_by_cublas(CudaStream& stream, CublasHandle& cublas, const char* name, DType dtype,
                        Product p) {
  float* sums = p.kept != nullptr ? p.kept : p.result;
  if (dtype == BERTOLOGY_FLOAT32) {
    cublas.multiply(dtype, kBackward, p, p.left, p.left_stride, sums);
  } else {
    Product piece = p;
    const int most = rounded_rows(p);
    void* rounded = stream.scratch(int64_t{most} * p.depth * size_of(dtype));
    for (int64_t row = 0; row < p.rows; row += most) {
      piece.rows = static_cast<int>(std::min<int64_t>(most, p.rows - row));
      round_rows(stream.handle(), dtype, p.left + row * p.left_stride, p.left_stride, piece.rows,
                 p.depth, rounded);
      stream.launched("round_rows", {piece.rows, p.depth});
      cublas.multiply(dtype, kBackward, piece, rounded, p.depth, sums + row * p.result_stride);
    }
  }
  if (p.activation == Activation::kNone && p.bias == nullptr && p.kept == nullptr) return;
  p.accumulate = false;  // cuBLAS has done it
  const dim3 grid(
      static_cast<unsigned int>((p.columns + kFinishThreads - 1) / kFinishThreads),
      static_cast<unsigned int>(std::min((p.rows + kFinishRows - 1) / kFinishRows, 65535)));
  finish_kernel<kBackward><<<grid, kFinishThreads, 0, stream.handle()>>>(p);
  stream.launched(name, {p.rows, p.columns});
}

template <bool kBackward>
void multiply(CudaStream& stream, const char* name, DType dtype, const Product& p) {
  CublasHandle* cublas = stream.cublas();
  if (cublas != nullptr && p.depth > 0) {
    return multiply_by_cublas<kBackward>(stream, *cublas, name, dtype, p);
  }
  multiply_by_tiles<kBackward>(stream, dtype, p);
  if (kBackward) {
    stream.launched(name, {p.rows, p.depth, p.columns});
  } else {
    stream.launched(name, {p.rows, p.columns, p.depth});
  }
}

void check_size(int64_t size) {
  check_internal(size <= std::numeric_limits<int>::max(), "a matrix product of ", size, " rows");
}

/// Some numbers of both signs: products of zeros need less power, and so run faster.
__global__ void fill_kernel(float* values, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kFinishThreads + threadIdx.x;
  if (i < count)
    values[i] = static_cast<float>(static_cast<uint32_t>(i) * 2654435761u >> 8) / 8388608.0f - 1.0f;
}

}  // namespace

int64_t linear_scratch(const Room& room) {
  if (room.dtype == BERTOLOGY_FLOAT32 || !Cublas::get().found()) return 0;
  const int64_t row = room.width * 2;
  return std::min(room.rows * row, std::max(kRoundedBytes, kRoundedStep * row));
}

void CudaStream::linear_forward(const LinearForward& op) {
  const Matrix& matrix = static_cast<const Matrix&>(*op.weight);
  const int64_t first = op.first_part * matrix.part_outputs();
  check_size(op.rows);
  Product p;
  p.left = op.input;
  p.left_stride = matrix.inputs();
  p.right = matrix.part(op.first_part);
  p.right_stride = matrix.inputs();
  p.result = op.output;
  p.result_stride = op.output_stride;
  p.rows = static_cast<int>(op.rows);
  p.columns = static_cast<int>(op.parts * matrix.part_outputs());
  p.depth = static_cast<int>(matrix.inputs());
  p.activation = op.activation;
  p.bias = op.bias == nullptr ? nullptr : op.bias + first;
  p.kept = op.preactivation;
  multiply<false>(*this, "linear_forward", matrix.dtype(), p);
}

void CudaStream::linear_backward(const LinearBackward& op) {
  const Matrix& matrix = static_cast<const Matrix&>(*op.weight);
  if (matrix.inputs() == 0) return;
  check_size(op.rows);
  Product p;
  p.left = op.d_output;
  p.left_stride = op.d_output_stride;
  p.right = matrix.part(op.first_part);
  p.right_stride = matrix.inputs();
  p.result = op.d_input;
  p.result_stride = matrix.inputs();
  p.rows = static_cast<int>(op.rows);
  p.columns = static_cast<int>(matrix.inputs());
  p.depth = static_cast<int>(op.parts * matrix.part_outputs());
  p.accumulate = op.accumulate;
  p.activation = op.activation;
  p.preactivation = op.preactivation;
  multiply<true>(*this, "linear_backward", matrix.dtype(), p);
}

double CudaBackend::matrix_peak(DType dtype, double seconds) {
  constexpr int kSmallest = 256, kLargest = 4096;
  constexpr double kShare = 0.05;  // of the time, for each measurement
  const std::shared_ptr<Stream> lent = stream();
  CudaStream& stream = static_cast<CudaStream&>(*lent);
  const auto time = [&](int runs, const auto& run) {
    const double seconds = stream.seconds_of([&] {
      for (int i = 0; i < runs; ++i) run();
    });
    return std::max(seconds, 1e-6);
  };
  double best = 0;
  for (int size = kSmallest; size <= kLargest; size *= 2) {
    const int64_t count = int64_t{size} * size;
    const DeviceBuffer left(context_, count * 4, "timing products");
    const DeviceBuffer right(context_, count * size_of(dtype), "timing products");
    const DeviceBuffer result(context_, count * 4, "timing products");
    fill_kernel<<<static_cast<unsigned int>(count / kFinishThreads), kFinishThreads, 0,
                  stream.handle()>>>(static_cast<float*>(left.data()), count);
    stream.launched("fill", {count});
    Product p;
    p.left = static_cast<const float*>(left.data());
    p.right = right.data();
    p.result = static_cast<float*>(result.data());
    p.left_stride = p.right_stride = p.result_stride = size;
    p.rows = p.columns = p.depth = size;
    if (dtype == BERTOLOGY_FLOAT32) {
      stream.copy(static_cast<float*>(right.data()), p.left, count);
    } else {
      round_rows(stream.handle(), dtype, p.left, size, size, size, right.data());
      stream.launched("round_rows", {size, size});
    }
    double longest = 0;
    const auto measure = [&](const auto& run) {
      const double once = time(1, run);
      const int runs = static_cast<int>(std::clamp(kShare * seconds / once, 1.0, 1000.0));
      const double took = time(runs, run) / runs;
      best = std::max(best, 2.0 * size * size * size / took);
      longest = std::max(longest, took);
    };
    measure([&] {
      multiply_by_tiles<false>(stream, dtype, p);
      stream.launched("linear_forward", {size, size, size});
    });
    if (CublasHandle* cublas = stream.cublas()) {
      measure([&] { cublas->multiply(dtype, false, p, right.data(), size, p.result); });
    }
    if (8 * longest > kShare * seconds) break;  // the next size takes 8 times as long
  }
  return best;
}

}  // namespace bertology::cuda
