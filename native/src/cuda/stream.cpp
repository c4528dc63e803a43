#include "cuda/stream.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace bertology::cuda {
namespace {

std::string shape_text(const int64_t* begin, const int64_t* end) {
  std::string shape;
  for (const int64_t* size = begin; size != end; ++size) {
    shape += (shape.empty() ? "" : ", ") + std::to_string(*size);
  }
  return "[" + shape + "]";
}

}  // namespace

CudaStream::CudaStream(CudaBackend& backend)
    : backend_(backend), stream_(backend.context()), done_(backend.context(), false) {}

// What a kernel did wrong comes to light in any later call.
void CudaStream::check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  const bool kernel = kernel_ != nullptr && status != cudaErrorMemoryAllocation;
  context().check(status, kernel ? text(call, ", behind ", last_kernel()).c_str() : call);
}

void CudaStream::queued(cudaError_t status, const char* call) {
  idle_ = false;
  check(status, call);
}

float* CudaStream::reserve(int64_t floats) {
  context().check_alive();
  const int64_t bytes = floats * static_cast<int64_t>(sizeof(float));
  if (bytes > memory_.bytes()) {
    memory_ = DeviceBuffer();  // the old block is given back before the new one is taken
    memory_ = DeviceBuffer(context(), bytes, "the activations of a pass");
  }
  return static_cast<float*>(memory_.data());
}

void* CudaStream::scratch(int64_t bytes) {
  if (bytes > scratch_.bytes()) {
    // Operations that are queued may still use the old block.
    check(cudaStreamSynchronize(handle()), "cudaStreamSynchronize");
    scratch_ = DeviceBuffer();
    scratch_ = DeviceBuffer(context(), bytes, "the scratch of an operation");
  }
  return scratch_.data();
}

CublasHandle* CudaStream::cublas() {
  if (cublas_ == nullptr && Cublas::get().found())
    cublas_ = std::make_unique<CublasHandle>(context(), handle());
  return cublas_.get();
}

int32_t* CudaStream::tickets(int64_t count) {
  constexpr int64_t kLeast = 256;
  const int64_t bytes = std::max(count, kLeast) * static_cast<int64_t>(sizeof(int32_t));
  if (bytes > tickets_.bytes()) {
    check(cudaStreamSynchronize(handle()), "cudaStreamSynchronize");
    DeviceBuffer zeroed(context(), bytes, "the counters of an operation");
    queued(cudaMemsetAsync(zeroed.data(), 0, static_cast<size_t>(bytes), handle()),
           "cudaMemsetAsync");
    tickets_ = std::move(zeroed);  // not before they are 0
  }
  return static_cast<int32_t*>(tickets_.data());
}

char* CudaStream::stage(int64_t bytes) {
  constexpr int64_t kLeast = int64_t{1} << 16;
  constexpr int64_t kAlignment = 64;
  if (staging_.empty() || staged_ + bytes > staging_.back().bytes()) {
    const int64_t grown = staging_.empty() ? kLeast : 2 * staging_.back().bytes();
    staging_.emplace_back(context(), std::max(grown, bytes), "staging of a copy");
    staged_ = 0;
  }
  char* place = staging_.back().data() + staged_;
  staged_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return place;
}

void CudaStream::to_device(void* device, const void* host, int64_t bytes) {
  if (bytes == 0) return;
  char* staged = stage(bytes);
  std::memcpy(staged, host, static_cast<size_t>(bytes));
  queued(
      cudaMemcpyAsync(device, staged, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, handle()),
      "cudaMemcpyAsync to the device");
}

void CudaStream::to_host(void* host, const void* device, int64_t bytes) {
  if (bytes == 0) return;
  void* target = host;
  if (!context().is_pinned(host, bytes)) {
    char* staged = stage(bytes);
    fetched_.push_back({host, staged, bytes});
    target = staged;
  }
  queued(
      cudaMemcpyAsync(target, device, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, handle()),
      "cudaMemcpyAsync to the host");
}

void CudaStream::zero(float* data, int64_t count) {
  if (count == 0) return;
  queued(cudaMemsetAsync(data, 0, static_cast<size_t>(count) * sizeof(float), handle()),
         "cudaMemsetAsync");
}

void CudaStream::copy(float* to, const float* from, int64_t count) {
  if (count == 0) return;
  queued(cudaMemcpyAsync(to, from, static_cast<size_t>(count) * sizeof(float),
                         cudaMemcpyDeviceToDevice, handle()),
         "cudaMemcpyAsync on the device");
}

void CudaStream::launched(const char* kernel, std::initializer_list<int64_t> shape) {
  idle_ = false;
  kernel_ = kernel;
  kernel_shape_.assign(shape);
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) context().check(status, last_kernel().c_str());
}

std::string CudaStream::last_kernel() const {
  return text("kernel ", kernel_, " ",
              shape_text(kernel_shape_.data(), kernel_shape_.data() + kernel_shape_.size()));
}

void CudaStream::synchronize() {
  check(cudaEventRecord(done_.get(), handle()), "cudaEventRecord");
  check(cudaEventSynchronize(done_.get()), "cudaEventSynchronize");
  for (const Fetched& result : fetched_) {
    std::memcpy(result.host, result.staged, static_cast<size_t>(result.bytes));
  }
  forget();
}

bool CudaStream::settle() noexcept {
  const cudaError_t status = idle_ ? cudaSuccess : cudaStreamSynchronize(handle());
  context().note(status, "waiting for a run that had failed");
  forget();
  return status == cudaSuccess;
}

void CudaStream::forget() noexcept {
  fetched_.clear();
  if (staging_.size() > 1) staging_.erase(staging_.begin(), staging_.end() - 1);
  staged_ = 0;
  kernel_ = nullptr;
  idle_ = true;
}

}  // namespace bertology::cuda
