// The operations of one run on a CUDA device, queued in order on one CUDA stream. Each .cu file of
// this folder that is named after an operation holds its kernels and defines its functions.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "cuda/backend.h"
#include "cuda/cublas.h"

namespace bertology::cuda {

class CudaStream final : public Stream {
 public:
  explicit CudaStream(CudaBackend& backend);

  float* reserve(const Room& room) override;

  bool shares_host_memory() const override { return false; }
  void to_device(void* device, const void* host, int64_t bytes) override;
  void to_host(void* host, const void* device, int64_t bytes) override;
  int64_t staged_bytes(const void* host, int64_t bytes) const override;

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

  void synchronize() override;
  bool use_library_products(bool library) override;
  double seconds_of(const std::function<void()>& queue) override;

  /// Waits for what a failed run left queued, and forgets its results; whether that went well.
  bool settle() noexcept;

  CudaBackend& backend() const { return backend_; }
  Context& context() const { return backend_.context(); }
  cudaStream_t handle() const { return stream_.get(); }

  /// After each kernel launch: throws if it was refused, naming the kernel and its shapes, or if a
  /// kernel before it has failed, naming both. They are remembered in case it fails while it runs.
  void launched(const char* kernel, std::initializer_list<int64_t> shape);

  /// Device memory for the next operation of this stream, which reserve() has taken: what was there
  /// before is lost.
  void* scratch(int64_t bytes);

  /// cuBLAS on this stream, from the first call on, which is reserve()'s; null where it was not
  /// found or is not to be used.
  CublasHandle* cublas();

  /// Counters in device memory, 0 unless a kernel is counting: each kernel leaves them at 0.
  int32_t* tickets(int64_t count);

 private:
  /// Results that wait in pinned memory for synchronize() to bring them where they belong.
  struct Fetched {
    void* host;
    const char* staged;
    int64_t bytes;
  };

  /// Memory for a copy until the next synchronize(): pinned, and taken by reserve().
  char* stage(const void* host, int64_t bytes);
  /// Of what was queued on the stream: from here on there is something to wait for.
  void queued(cudaError_t status, const char* call);
  /// What the operations so far left here; they must have ended.
  void forget() noexcept;
  void check(cudaError_t status, const char* call);

  CudaBackend& backend_;
  StreamHandle stream_;
  EventHandle done_;
  std::unique_ptr<CublasHandle> cublas_;
  bool use_cublas_ = true;
  DeviceBuffer memory_;  // tickets, what the caller lays out, scratch
  char* scratch_ = nullptr;
  int64_t scratch_bytes_ = 0;
  PinnedBuffer staging_;
  int64_t staged_ = 0;  // bytes used of it
  std::vector<Fetched> fetched_;
  bool idle_ = true;              // there is nothing to wait for
  bool tickets_left_ = false;     // a run that failed may have left them counted
  const char* kernel_ = nullptr;  // the last that was launched
  std::vector<int64_t> kernel_shape_;
};

/// Scratch that the operations of a run take at most.
int64_t linear_scratch(const Room& room);
int64_t attention_scratch(const Room& room);

}  // namespace bertology::cuda
