#include "cuda/backend.h"

#include "base/error.h"
#include "cuda/cublas.h"
#include "cuda/stream.h"

namespace bertology::cuda {
namespace {

class OwnedMemory final : public DeviceMemory {
 public:
  OwnedMemory(Context& context, int64_t bytes, const char* what) : memory_(context, bytes, what) {}
  void* data() const override { return memory_.data(); }
  int64_t bytes() const override { return memory_.bytes(); }

 private:
  DeviceBuffer memory_;
};

class PinnedHost final : public PinnedMemory {
 public:
  PinnedHost(Context& context, void* host, int64_t bytes) : range_(context, host, bytes) {}
  bool pinned() const { return range_.pinned(); }

 private:
  PinnedRange range_;
};

std::string describe(const Context& context) {
  const cudaDeviceProp& device = context.properties();
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) cudaGetLastError();
  return text("device: cuda:", context.ordinal(), " (", device.name, ", compute capability ",
              device.major, ".", device.minor, ", ", device.multiProcessorCount,
              " multiprocessors, ", device.totalGlobalMem >> 20, " MiB)\ndriver: for CUDA ",
              driver / 1000, ".", driver % 1000 / 10, "\n", Cublas::get().description());
}

}  // namespace

CudaBackend::CudaBackend(int32_t ordinal) : context_(ordinal), description_(describe(context_)) {
  // A device that cannot be started says so here rather than in the middle of something.
  const Current current(context_);
  transfers_ = std::make_unique<StreamHandle>(context_);
  context_.on_shortage([this] { return release_free_streams(); });
}

CudaBackend::~CudaBackend() = default;

bool CudaBackend::release_free_streams() {
  std::vector<std::unique_ptr<CudaStream>> released;
  const std::lock_guard<std::mutex> lock(streams_mutex_);
  released.swap(free_streams_);
  return !released.empty();
}

bool CudaBackend::supports(DType dtype) const {
  return dtype == BERTOLOGY_FLOAT32 || dtype == BERTOLOGY_BFLOAT16 || dtype == BERTOLOGY_FLOAT16;
}

// Enough rows that a product of BERT-base's width has several tiles for each multiprocessor; what
// backward keeps of them is some gigabytes at most.
int64_t CudaBackend::tokens_per_pass(bool /*keeps*/) const { return 8192; }

std::unique_ptr<DeviceMemory> CudaBackend::allocate(int64_t bytes, const char* what) {
  context_.check_alive();
  const Current current(context_);
  return std::make_unique<OwnedMemory>(context_, bytes, what);
}

// A plain cudaMemcpy may return before the last of pageable memory has arrived on the device, and
// the streams of runs do not wait for the default stream.
void CudaBackend::upload(void* device, const void* host, int64_t bytes) {
  if (bytes == 0) return;
  context_.check_alive();
  const Current current(context_);
  context_.check(cudaMemcpyAsync(device, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice,
                                 transfers_->get()),
                 "cudaMemcpyAsync to the device");
  context_.check(cudaStreamSynchronize(transfers_->get()), "a copy to the device");
}

void CudaBackend::download(void* host, const void* device, int64_t bytes) {
  if (bytes == 0) return;
  context_.check_alive();
  const Current current(context_);
  context_.check(cudaMemcpyAsync(host, device, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost,
                                 transfers_->get()),
                 "cudaMemcpyAsync to the host");
  context_.check(cudaStreamSynchronize(transfers_->get()), "a copy to the host");
}

std::unique_ptr<PinnedMemory> CudaBackend::pin(void* host, int64_t bytes) {
  context_.check_alive();
  const Current current(context_);
  auto memory = std::make_unique<PinnedHost>(context_, host, bytes);
  if (!memory->pinned()) return nullptr;  // copies take a detour through memory of ours
  return memory;
}

std::shared_ptr<Stream> CudaBackend::stream() {
  context_.check_alive();
  const auto current = std::make_shared<Current>(context_);  // until the run ends
  std::unique_ptr<CudaStream> stream;
  {
    const std::lock_guard<std::mutex> lock(streams_mutex_);
    if (!free_streams_.empty()) {
      stream = std::move(free_streams_.back());
      free_streams_.pop_back();
    }
  }
  if (stream == nullptr) stream = std::make_unique<CudaStream>(*this);
  const auto release = [this, current](CudaStream* used) {
    std::unique_ptr<CudaStream> free(used);
    if (!free->settle() || context_.lost()) return;
    const std::lock_guard<std::mutex> lock(streams_mutex_);
    try {
      free_streams_.push_back(std::move(free));
    } catch (...) {  // no memory to keep it
    }
  };
  return std::shared_ptr<CudaStream>(stream.release(), release);
}

}  // namespace bertology::cuda
