#include "cuda/matrix.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "base/error.h"

namespace bertology::cuda {
namespace {

constexpr int kThreads = 256;

// Rows on their way between the host and the device are converted in pieces of this size.
constexpr int64_t kStagedBytes = int64_t{16} << 20;

/// One store: the compiler makes two of a plain one.
__device__ void store_both(void* to, uint32_t first, uint32_t second) {
  __stcg(static_cast<uint2*>(to), make_uint2(first, second));
}

__device__ void store_four(__nv_bfloat16* to, float4 v) {
  const __nv_bfloat162 first = __floats2bfloat162_rn(v.x, v.y);
  const __nv_bfloat162 second = __floats2bfloat162_rn(v.z, v.w);
  store_both(to, reinterpret_cast<const uint32_t&>(first),
             reinterpret_cast<const uint32_t&>(second));
}

__device__ void store_four(__half* to, float4 v) {
  const __half2 first = __floats2half2_rn(v.x, v.y);
  const __half2 second = __floats2half2_rn(v.z, v.w);
  store_both(to, reinterpret_cast<const uint32_t&>(first),
             reinterpret_cast<const uint32_t&>(second));
}

__device__ void store_one(__nv_bfloat16* to, float v) { *to = __float2bfloat16_rn(v); }
__device__ void store_one(__half* to, float v) { *to = __float2half_rn(v); }
__device__ float widened(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ float widened(__half v) { return __half2float(v); }

/// from [rows, columns], stride; to [rows, columns]. kWidth: elements that a thread takes, which
/// divides columns and stride.
template <int kWidth, class T>
__global__ void round_kernel(const float* from, int64_t stride, int64_t rows, int64_t columns,
                             T* to) {
  const int64_t column = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth;
  if (column >= columns) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const float* source = from + row * stride + column;
    T* target = to + row * columns + column;
    if constexpr (kWidth == 4) {
      store_four(target, *reinterpret_cast<const float4*>(source));
    } else {
      store_one(target, *source);
    }
  }
}

template <class T>
__global__ void widen_kernel(const T* from, int64_t count, float* to) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) to[i] = widened(from[i]);
}

/// to [kept_rows, kept_columns] = from [., from_columns] at rows [kept_rows], columns
/// [kept_columns]
template <class E>
__global__ void gather_kernel(const E* from, int64_t from_columns, const int32_t* rows,
                              int32_t kept_rows, const int32_t* columns, int32_t kept_columns,
                              E* to) {
  const int32_t column = static_cast<int32_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= kept_columns) return;
  const int32_t from_column = columns[column];
  for (int32_t row = blockIdx.y; row < kept_rows; row += gridDim.y)
    to[int64_t{row} * kept_columns + column] = from[rows[row] * from_columns + from_column];
}

/// The same in place, by one block: what is kept moves to the front or stays, and nothing is
/// overwritten that is still to be read.
template <class E>
__global__ void compact_kernel(E* matrix, int64_t from_columns, const int32_t* rows,
                               int32_t kept_rows, const int32_t* columns, int32_t kept_columns) {
  for (int32_t row = 0; row < kept_rows; ++row) {
    for (int32_t first = 0; first < kept_columns; first += kThreads) {
      const int32_t column = first + static_cast<int32_t>(threadIdx.x);
      const bool inside = column < kept_columns;
      E value = {};
      if (inside) value = matrix[rows[row] * from_columns + columns[column]];
      __syncthreads();
      if (inside) matrix[int64_t{row} * kept_columns + column] = value;
    }
  }
}

unsigned int blocks_for(int64_t threads) {
  return static_cast<unsigned int>((threads + kThreads - 1) / kThreads);
}

unsigned int grid_rows(int64_t rows) {
  return static_cast<unsigned int>(std::min<int64_t>(rows, 65535));
}

template <class T>
void round_rows_to(cudaStream_t stream, const float* from, int64_t stride, int64_t rows,
                   int64_t columns, T* to) {
  if (stride == columns) {  // one long row
    columns *= rows;
    stride = columns;
    rows = 1;
  }
  const bool by_four = columns % 4 == 0 && stride % 4 == 0 &&
                       reinterpret_cast<uintptr_t>(from) % 16 == 0 &&
                       reinterpret_cast<uintptr_t>(to) % 8 == 0;
  if (by_four) {
    const dim3 grid(blocks_for(columns / 4), grid_rows(rows));
    round_kernel<4><<<grid, kThreads, 0, stream>>>(from, stride, rows, columns, to);
  } else {
    const dim3 grid(blocks_for(columns), grid_rows(rows));
    round_kernel<1><<<grid, kThreads, 0, stream>>>(from, stride, rows, columns, to);
  }
}

void widen(DType dtype, const void* from, int64_t count, float* to) {
  if (dtype == BERTOLOGY_BFLOAT16) {
    widen_kernel<<<blocks_for(count), kThreads>>>(static_cast<const __nv_bfloat16*>(from), count,
                                                  to);
  } else {
    widen_kernel<<<blocks_for(count), kThreads>>>(static_cast<const __half*>(from), count, to);
  }
}

/// Waits for what was queued on the default stream: others do not wait for it by themselves.
void finish(Context& context, const std::string& queued) {
  context.check(cudaGetLastError(), queued.c_str());
  context.check(cudaStreamSynchronize(nullptr), queued.c_str());
}

/// Calls body(first, count, staging) for pieces of `count` elements, with room for them.
template <class Body>
void in_pieces(Context& context, int64_t count, const Body& body) {
  constexpr int64_t kPiece = kStagedBytes / static_cast<int64_t>(sizeof(float));
  const DeviceBuffer staging(context, std::min(count, kPiece) * static_cast<int64_t>(sizeof(float)),
                             "converting a weight matrix");
  for (int64_t first = 0; first < count; first += kPiece) {
    body(first, std::min(kPiece, count - first), static_cast<float*>(staging.data()));
  }
}

size_t float_bytes(int64_t count) { return static_cast<size_t>(count) * sizeof(float); }

}  // namespace

void round_rows(cudaStream_t stream, DType dtype, const float* from, int64_t stride, int64_t rows,
                int64_t columns, void* to) {
  if (rows == 0 || columns == 0) return;
  if (dtype == BERTOLOGY_BFLOAT16) {
    round_rows_to(stream, from, stride, rows, columns, static_cast<__nv_bfloat16*>(to));
  } else {
    round_rows_to(stream, from, stride, rows, columns, static_cast<__half*>(to));
  }
}

std::unique_ptr<Matrix> Matrix::allocate(CudaBackend& backend, int64_t outputs, int64_t inputs,
                                         int parts, DType dtype) {
  std::unique_ptr<Matrix> matrix(new Matrix(backend, outputs, inputs, parts, dtype));
  matrix->memory_ =
      DeviceBuffer(backend.context(), outputs * inputs * size_of(dtype), "a weight matrix");
  matrix->rows_ = matrix->memory_.data();
  return matrix;
}

void Matrix::set(int part, const float* rows) {
  Context& context = backend_.context();
  const Current current(context);
  const int64_t count = part_outputs() * inputs_;
  char* to = static_cast<char*>(memory_.data()) + part * count * size_of(dtype_);
  if (dtype_ == BERTOLOGY_FLOAT32) return backend_.upload(to, rows, count * size_of(dtype_));
  in_pieces(context, count, [&](int64_t first, int64_t piece, float* staging) {
    context.check(cudaMemcpy(staging, rows + first, float_bytes(piece), cudaMemcpyHostToDevice),
                  "cudaMemcpy to the device");
    round_rows(nullptr, dtype_, staging, piece, 1, piece, to + first * size_of(dtype_));
    finish(context, kernel_text("round_rows", {1, piece}));
  });
}

std::unique_ptr<Matrix> Matrix::borrow(CudaBackend& backend, const float* rows, int64_t outputs,
                                       int64_t inputs, DType dtype) {
  std::unique_ptr<Matrix> matrix(new Matrix(backend, outputs, inputs, 1, dtype));
  matrix->borrowed_ = true;
  matrix->rows_ = rows;
  if (dtype == BERTOLOGY_FLOAT32) return matrix;
  const int64_t count = outputs * inputs;
  matrix->memory_ = DeviceBuffer(backend.context(), count * size_of(dtype), "a weight matrix");
  matrix->rows_ = matrix->memory_.data();
  round_rows(nullptr, dtype, rows, count, 1, count, matrix->memory_.data());
  finish(backend.context(), kernel_text("round_rows", {outputs, inputs}));
  return matrix;
}

void Matrix::unpack(float* rows) const {
  Context& context = backend_.context();
  const Current current(context);
  const int64_t count = outputs_ * inputs_;
  if (dtype_ == BERTOLOGY_FLOAT32) return backend_.download(rows, rows_, count * size_of(dtype_));
  in_pieces(context, count, [&](int64_t first, int64_t piece, float* staging) {
    widen(dtype_, static_cast<const char*>(rows_) + first * size_of(dtype_), piece, staging);
    const std::string kernel = kernel_text("widen_rows", {1, piece});
    context.check(cudaGetLastError(), kernel.c_str());
    context.check(cudaMemcpy(rows + first, staging, float_bytes(piece), cudaMemcpyDeviceToHost),
                  ("cudaMemcpy to the host, behind " + kernel).c_str());
  });
}

/// Keeps some rows and columns. What is kept goes to the shared space, from there to memory of the
/// right size, which the old rows have made free. If that cannot be had after all, the matrix stays
/// in the space; and if an earlier cut has done so, it moves within its old memory. So at most one
/// matrix is there twice, and none is lost.
class Matrix::Gather final : public PackedMatrix::Cut {
 public:
  Gather(Matrix& matrix, const std::vector<int64_t>& outputs, const std::vector<int64_t>& inputs)
      : matrix_(matrix),
        outputs_(static_cast<int64_t>(outputs.size())),
        inputs_(static_cast<int64_t>(inputs.size())),
        bytes_(outputs_ * inputs_ * size_of(matrix.dtype_)) {
    std::vector<int32_t> both(outputs.begin(), outputs.end());
    both.insert(both.end(), inputs.begin(), inputs.end());
    const int64_t index_bytes = static_cast<int64_t>(both.size() * sizeof(int32_t));
    Context& context = matrix.backend_.context();
    indices_ = DeviceBuffer(context, index_bytes, "pruning a layer");
    matrix.backend_.upload(indices_.data(), both.data(), index_bytes);
    space_ = matrix.backend_.cut_space();
    const std::lock_guard<std::mutex> lock(space_->mutex);
    if (space_->memory.bytes() < bytes_)  // the smaller one stays for the others until then
      space_->memory = DeviceBuffer(context, bytes_, "pruning a layer");
  }

  void commit(float*) override {
    Context& context = matrix_.backend_.context();
    const Current current(context);
    const std::lock_guard<std::mutex> lock(space_->mutex);
    if (matrix_.dtype_ == BERTOLOGY_FLOAT32) {
      move<uint32_t>(context);
    } else {
      move<uint16_t>(context);
    }
    matrix_.rows_ = matrix_.memory_.data();
    matrix_.outputs_ = outputs_;
    matrix_.inputs_ = inputs_;
  }

 private:
  template <class E>
  void move(Context& context) {
    const int32_t* rows = static_cast<const int32_t*>(indices_.data());
    const int32_t* columns = rows + outputs_;
    const int32_t kept_rows = static_cast<int32_t>(outputs_);
    const int32_t kept_columns = static_cast<int32_t>(inputs_);
    E* old = static_cast<E*>(matrix_.memory_.data());
    if (space_->memory.bytes() < bytes_) {
      compact_kernel<<<1, kThreads>>>(old, matrix_.inputs_, rows, kept_rows, columns, kept_columns);
      return finish(context, kernel_text("compact_matrix", {outputs_, inputs_}));
    }
    if (bytes_ > 0) {
      const dim3 grid(blocks_for(inputs_), grid_rows(outputs_));
      gather_kernel<<<grid, kThreads>>>(old, matrix_.inputs_, rows, kept_rows, columns,
                                        kept_columns, static_cast<E*>(space_->memory.data()));
      finish(context, kernel_text("gather_matrix", {outputs_, inputs_}));
    }
    matrix_.memory_ = DeviceBuffer();
    try {
      matrix_.memory_ = DeviceBuffer(context, bytes_, "a weight matrix");
    } catch (const Error&) {
      matrix_.memory_ = std::move(space_->memory);
      return;
    }
    if (bytes_ == 0) return;
    context.check(cudaMemcpyAsync(matrix_.memory_.data(), space_->memory.data(),
                                  static_cast<size_t>(bytes_), cudaMemcpyDeviceToDevice, nullptr),
                  "cudaMemcpyAsync on the device");
    finish(context, "the copy of a matrix");
  }

  Matrix& matrix_;
  int64_t outputs_;
  int64_t inputs_;
  int64_t bytes_;         // of the matrix after the cut
  DeviceBuffer indices_;  // [outputs_], [inputs_] of int32_t
  std::shared_ptr<CutSpace> space_;
};

std::unique_ptr<PackedMatrix::Cut> Matrix::prepare_cut(std::vector<int64_t> outputs,
                                                       std::vector<int64_t> inputs) {
  check_internal(!borrowed_ && memory_.bytes() > 0, "prepare_cut: the matrix is borrowed or empty");
  check_internal(static_cast<int64_t>(outputs.size()) % parts_ == 0,
                 "prepare_cut: ", outputs.size(), " outputs do not divide into ", parts_, " parts");
  const Current current(backend_.context());
  return std::make_unique<Gather>(*this, outputs, inputs);
}

std::shared_ptr<CutSpace> CudaBackend::cut_space() {
  const std::lock_guard<std::mutex> lock(cut_space_mutex_);
  std::shared_ptr<CutSpace> space = cut_space_.lock();
  if (space == nullptr) {
    space = std::make_shared<CutSpace>();
    cut_space_ = space;
  }
  return space;
}

std::unique_ptr<PackedMatrix> CudaBackend::matrix(int64_t outputs, int64_t inputs, int parts,
                                                  DType dtype) {
  context_.check_alive();
  const Current current(context_);
  return Matrix::allocate(*this, outputs, inputs, parts, dtype);
}

std::unique_ptr<PackedMatrix> CudaBackend::borrow(const float* rows, int64_t outputs,
                                                  int64_t inputs, DType dtype) {
  context_.check_alive();
  const Current current(context_);
  return Matrix::borrow(*this, rows, outputs, inputs, dtype);
}

}  // namespace bertology::cuda
