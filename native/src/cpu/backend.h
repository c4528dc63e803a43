// The CPU: a thread pool, vector kernels of one instruction set, products of theirs or of oneDNN.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/isa.h"
#include "base/parallel.h"
#include "cpu/kernels/kernels.h"
#include "cpu/onednn.h"
#include "ops/backend.h"

namespace bertology::cpu {

class CpuStream;

class CpuBackend final : public Backend {
 public:
  /// threads: 0 takes what this process may use.
  explicit CpuBackend(int threads);
  ~CpuBackend() override;

  const std::string& description() const override { return description_; }
  bool supports(DType dtype) const override;
  int64_t tokens_per_pass(bool keeps) const override;

  std::unique_ptr<DeviceMemory> allocate(int64_t bytes, const char* what) override;
  void upload(void* device, const void* host, int64_t bytes) override;
  void download(void* host, const void* device, int64_t bytes) override;
  void on_host(int64_t tasks, const std::function<void(int64_t task)>& body) override;
  std::unique_ptr<PinnedMemory> pin(void*, int64_t) override { return nullptr; }

  std::unique_ptr<PackedMatrix> matrix(int64_t outputs, int64_t inputs, int parts,
                                       DType dtype) override;
  std::unique_ptr<PackedMatrix> borrow(const float* rows, int64_t outputs, int64_t inputs,
                                       DType dtype) override;
  std::shared_ptr<Stream> stream() override;
  double matrix_peak(DType dtype, double seconds) override;

  Isa isa() const { return isa_; }
  const Kernels& kernels() const { return kernels_; }
  Products& products() { return products_; }
  Repackings& repackings() { return repackings_; }
  int threads() const { return pool_->threads(); }

  /// Runs `body` for every task on the pool. The calling thread takes part.
  void parallel(int64_t tasks, const ThreadPool::Body& body);

  /// The same for ranges of rows that are worth a task each: body(begin, end).
  void parallel_rows(int64_t rows, int64_t row_cost,
                     const std::function<void(int64_t begin, int64_t end)>& body);

 private:
  CpuBackend(int threads, const IsaChoice& choice);

  Isa isa_;
  const Kernels& kernels_;
  std::unique_ptr<ThreadPool> pool_;
  Products products_;
  Repackings repackings_;
  std::string description_;

  std::mutex streams_mutex_;
  std::vector<std::unique_ptr<CpuStream>> free_streams_;
};

}  // namespace bertology::cpu
