// A CUDA device: its memory, its weights, its streams.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "ops/backend.h"

namespace bertology::cuda {

class CudaStream;
struct CutSpace;

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int32_t ordinal);
  ~CudaBackend() override;

  const std::string& description() const override { return description_; }
  bool supports(DType dtype) const override;
  int64_t tokens_per_pass(bool keeps) const override;

  std::unique_ptr<DeviceMemory> allocate(int64_t bytes, const char* what) override;
  void upload(void* device, const void* host, int64_t bytes) override;
  void download(void* host, const void* device, int64_t bytes) override;
  std::unique_ptr<PinnedMemory> pin(void* host, int64_t bytes) override;

  std::unique_ptr<PackedMatrix> matrix(int64_t outputs, int64_t inputs, int parts,
                                       DType dtype) override;
  std::unique_ptr<PackedMatrix> borrow(const float* rows, int64_t outputs, int64_t inputs,
                                       DType dtype) override;
  std::shared_ptr<Stream> stream() override;
  double matrix_peak(DType dtype, double seconds) override;

  Context& context() { return context_; }

  /// Room that the cuts share that are prepared now; it goes with the last of them.
  std::shared_ptr<CutSpace> cut_space();

 private:
  /// Streams that no run uses, with the memory they keep; whether there were any.
  bool release_free_streams();

  Context context_;
  std::string description_;
  std::unique_ptr<StreamHandle> transfers_;  // uploads and downloads outside of runs
  std::mutex cut_space_mutex_;
  std::weak_ptr<CutSpace> cut_space_;
  std::mutex streams_mutex_;
  std::vector<std::unique_ptr<CudaStream>> free_streams_;
};

}  // namespace bertology::cuda
