#include "cuda/stream.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace bertology::cuda {
namespace {

// Of what is taken together: so many bytes apart as cudaMalloc aligns.
constexpr int64_t kAlignment = 256;
constexpr int64_t kMostTickets = 4096;  // heads that a layer may have
constexpr int64_t kTicketBytes = kMostTickets * static_cast<int64_t>(sizeof(int32_t));

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

CudaStream::CudaStream(CudaBackend& backend)
    : backend_(backend), stream_(backend.context()), done_(backend.context(), false) {}

// What a kernel did wrong comes to light in any later call.
void CudaStream::check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  const bool kernel = kernel_ != nullptr && status != cudaErrorMemoryAllocation;
  const std::string behind = kernel ? ", behind " + kernel_text(kernel_, kernel_shape_) : "";
  context().check(status, (call + behind).c_str());
}

void CudaStream::queued(cudaError_t status, const char* call) {
  idle_ = false;
  check(status, call);
}

float* CudaStream::reserve(const Room& room) {
  context().check_alive();
  cublas();
  const int64_t laid_out = aligned(room.floats * static_cast<int64_t>(sizeof(float)));
  scratch_bytes_ = std::max(linear_scratch(room), attention_scratch(room));
  const int64_t bytes = kTicketBytes + laid_out + scratch_bytes_;
  if (bytes > memory_.bytes()) {
    memory_ = DeviceBuffer();  // the old block is given back before the new one is taken
    memory_ = DeviceBuffer(context(), bytes, "the activations of a pass");
    tickets_left_ = true;  // nothing is known of them
  }
  if (tickets_left_) {
    queued(cudaMemsetAsync(memory_.data(), 0, static_cast<size_t>(kTicketBytes), handle()),
           "cudaMemsetAsync");
    tickets_left_ = false;
  }
  if (room.staged > staging_.bytes()) {
    staging_ = PinnedBuffer();
    staging_ = PinnedBuffer(context(), room.staged, "copies from and to the device");
  }
  char* place = static_cast<char*>(memory_.data()) + kTicketBytes;
  scratch_ = place + laid_out;
  return reinterpret_cast<float*>(place);
}

void* CudaStream::scratch(int64_t bytes) {
  check_internal(bytes <= scratch_bytes_, "an operation needs ", bytes, " bytes of scratch, but ",
                 scratch_bytes_, " were reserved");
  return scratch_;
}

CublasHandle* CudaStream::cublas() {
  if (cublas_ == nullptr && Cublas::get().found())
    cublas_ = std::make_unique<CublasHandle>(context(), handle());
  return use_cublas_ ? cublas_.get() : nullptr;
}

bool CudaStream::use_library_products(bool library) {
  use_cublas_ = library;
  return Cublas::get().found();
}

int32_t* CudaStream::tickets(int64_t count) {
  check_internal(count <= kMostTickets && memory_.data() != nullptr, count,
                 " tickets, but none or ", kMostTickets, " were reserved");
  return static_cast<int32_t*>(memory_.data());
}

int64_t CudaStream::staged_bytes(const void* host, int64_t bytes) const {
  return context().is_pinned(host, bytes) ? 0 : aligned(bytes);
}

char* CudaStream::stage(const void* host, int64_t bytes) {
  const int64_t taken = staged_bytes(host, bytes);
  check_internal(staged_ + taken <= staging_.bytes(), "a copy of ", bytes, " bytes behind ",
                 staged_, " that are staged, but ", staging_.bytes(), " were reserved");
  char* place = staging_.data() + staged_;
  staged_ += taken;
  return place;
}

void CudaStream::to_device(void* device, const void* host, int64_t bytes) {
  if (bytes == 0) return;
  const void* source = host;
  if (!context().is_pinned(host, bytes)) {
    char* staged = stage(host, bytes);
    std::memcpy(staged, host, static_cast<size_t>(bytes));
    source = staged;
  }
  queued(
      cudaMemcpyAsync(device, source, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, handle()),
      "cudaMemcpyAsync to the device");
}

void CudaStream::to_host(void* host, const void* device, int64_t bytes) {
  if (bytes == 0) return;
  void* target = host;
  if (!context().is_pinned(host, bytes)) {
    char* staged = stage(host, bytes);
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
  const cudaError_t status = cudaGetLastError();
  // What leaves the device unusable was done by a kernel that ran, not by one that was to start.
  if (is_fatal(status)) check(status, ("the launch of " + kernel_text(kernel, shape)).c_str());
  if (status != cudaSuccess) context().check(status, kernel_text(kernel, shape).c_str());
  kernel_ = kernel;
  kernel_shape_.assign(shape);
}

void CudaStream::synchronize() {
  check(cudaEventRecord(done_.get(), handle()), "cudaEventRecord");
  check(cudaEventSynchronize(done_.get()), "cudaEventSynchronize");
  for (const Fetched& result : fetched_) {
    std::memcpy(result.host, result.staged, static_cast<size_t>(result.bytes));
  }
  forget();
}

double CudaStream::seconds_of(const std::function<void()>& queue) {
  const EventHandle begin(context(), true), end(context(), true);
  check(cudaEventRecord(begin.get(), handle()), "cudaEventRecord");
  queue();
  check(cudaEventRecord(end.get(), handle()), "cudaEventRecord");
  synchronize();
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "cudaEventElapsedTime");
  return static_cast<double>(milliseconds) / 1000;
}

bool CudaStream::settle() noexcept {
  use_cublas_ = true;
  // Some blocks of a head may have run, and not the others.
  if (!idle_) tickets_left_ = true;
  const cudaError_t status = idle_ ? cudaSuccess : cudaStreamSynchronize(handle());
  context().note(status, "waiting for a run that had failed");
  forget();
  return status == cudaSuccess;
}

void CudaStream::forget() noexcept {
  fetched_.clear();
  staged_ = 0;
  kernel_ = nullptr;
  idle_ = true;
}

}  // namespace bertology::cuda
