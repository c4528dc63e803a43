// A weight matrix on a CUDA device: plain rows of the product's type.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <vector>

#include "cuda/backend.h"

namespace bertology::cuda {

/// Room for one matrix, which all cuts that were prepared share.
struct CutSpace {
  std::mutex mutex;
  DeviceBuffer memory;
};

class Matrix final : public PackedMatrix {
 public:
  static std::unique_ptr<Matrix> allocate(CudaBackend& backend, int64_t outputs, int64_t inputs,
                                          int parts, DType dtype);
  /// Multiplies by rows in device memory where they are, or by a rounded copy of them.
  static std::unique_ptr<Matrix> borrow(CudaBackend& backend, const float* rows, int64_t outputs,
                                        int64_t inputs, DType dtype);

  DType dtype() const { return dtype_; }
  /// The rows of a part, [part_outputs, inputs].
  const void* part(int index) const {
    return static_cast<const char*>(rows_) + index * part_outputs() * inputs_ * size_of(dtype_);
  }

  int64_t bytes() const override { return memory_.bytes(); }
  void set(int part, const float* rows) override;
  void unpack(float* rows) const override;
  std::unique_ptr<Cut> prepare_cut(std::vector<int64_t> outputs,
                                   std::vector<int64_t> inputs) override;

 private:
  class Gather;

  Matrix(CudaBackend& backend, int64_t outputs, int64_t inputs, int parts, DType dtype)
      : PackedMatrix(outputs, inputs, parts), backend_(backend), dtype_(dtype) {}

  CudaBackend& backend_;
  DType dtype_;
  DeviceBuffer memory_;         // none if rows_ are somebody else's
  const void* rows_ = nullptr;  // [outputs, inputs]
  bool borrowed_ = false;
};

/// Queues the rounding of rows to a type of half the width. to: dense.
void round_rows(cudaStream_t stream, DType dtype, const float* from, int64_t stride, int64_t rows,
                int64_t columns, void* to);

}  // namespace bertology::cuda
