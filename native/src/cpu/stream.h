// The operations of one run on the CPU. Each file of this folder that is named after an operation
// defines its functions.
#pragma once

#include "base/arena.h"
#include "cpu/backend.h"

namespace bertology::cpu {

/// Rows of a product's left-hand side, each with one run of elements for each part of the matrix.
struct ProductInputs {
  const void* data;
  int64_t stride;  // in elements, from row to row
  int64_t part_stride;
  int64_t element_bytes;

  const void* at(int64_t row, int64_t part) const {
    return static_cast<const char*>(data) + (row * stride + part * part_stride) * element_bytes;
  }
};

class CpuStream final : public Stream {
 public:
  explicit CpuStream(CpuBackend& backend) : backend_(backend) {}

  float* reserve(const Room& room) override {
    return memory_.reserve(room.floats, "the activations of a pass");
  }

  bool shares_host_memory() const override { return true; }
  void to_device(void* device, const void* host, int64_t bytes) override;
  void to_host(void* host, const void* device, int64_t bytes) override;
  int64_t staged_bytes(const void*, int64_t) const override { return 0; }

  void zero(float* data, int64_t count) override;
  void copy(float* to, const float* from, int64_t count) override;
  void accumulate(double* to, const double* from, int64_t count) override;

  void embedding_forward(const EmbeddingForward& op) override;
  void linear_forward(const LinearForward& op) override;
  void linear_backward(const LinearBackward& op) override;
  void attention_forward(const AttentionForward& op) override;
  void attention_backward(const AttentionBackward& op) override;
  void layer_norm_forward(const LayerNormForward& op) override;
  void layer_norm_backward(const LayerNormBackward& op) override;
  void activation_backward(const ActivationBackward& op) override;
  void pooling_forward(const PoolingForward& op) override;
  void pooling_backward(const PoolingBackward& op) override;
  void cross_entropy(const CrossEntropy& op) override;
  void squared_error(const SquaredError& op) override;
  void gather_rows(const GatherRows& op) override;
  void scatter_rows(const ScatterRows& op) override;
  void broadcast_row(const BroadcastRow& op) override;
  void mask_heads(const MaskHeads& op) override;

  void synchronize() override {}
  bool use_library_products(bool) override { return false; }
  double seconds_of(const std::function<void()>& queue) override;

 private:
  const Kernels& kernels() const { return backend_.kernels(); }

  /// Scratch for each worker of the next operation: `bytes` each.
  void reserve_scratch(int64_t bytes);
  void* scratch(int worker) { return scratch_base_ + worker * scratch_bytes_; }

  ProductInputs product_inputs(DType dtype, Layout2d layout, const float* rows, int64_t row_count,
                               int64_t parts, int64_t columns, int64_t stride);

  CpuBackend& backend_;
  Arena memory_;
  Arena rounded_memory_;
  Arena scratch_memory_;
  char* scratch_base_ = nullptr;
  int64_t scratch_bytes_ = 0;
};

}  // namespace bertology::cpu
