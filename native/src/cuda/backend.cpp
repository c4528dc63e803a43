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

CudaBackend::CudaBackend(int32_t ordinal) : context_(ordinal), description_(describe(context_)) {}

CudaBackend::~CudaBackend() = default;

bool CudaBackend::supports(DType dtype) const {
  return dtype == BERTOLOGY_FLOAT32 || dtype == BERTOLOGY_BFLOAT16 || dtype == BERTOLOGY_FLOAT16;
}

// Enough rows that a product of BERT-base's width has several tiles for each multiprocessor; what
// backward keeps of them is some gigabytes at most.
int64_t CudaBackend::tokens_per_pass() const { return 8192; }

std::unique_ptr<DeviceMemory> CudaBackend::allocate(int64_t bytes, const char* what) {
  context_.check_alive();
  const Current current(context_);
  return std::make_unique<OwnedMemory>(context_, bytes, what);
}

void CudaBackend::upload(void* device, const void* host, int64_t bytes) {
  if (bytes == 0) return;
  const Current current(context_);
  context_.check(cudaMemcpy(device, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice),
                 "cudaMemcpy to the device");
  // It returns when the host's memory is free again; our streams do not wait for the default one.
  context_.check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
}

void CudaBackend::download(void* host, const void* device, int64_t bytes) {
  if (bytes == 0) return;
  const Current current(context_);
  context_.check(cudaMemcpy(host, device, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost),
                 "cudaMemcpy to the host");
}

std::unique_ptr<PinnedMemory> CudaBackend::pin(void* host, int64_t bytes) {
  context_.check_alive();
  const Current current(context_);
  return std::make_unique<PinnedHost>(context_, host, bytes);
}

std::shared_ptr<Stream> CudaBackend::stream() {
  context_.check_alive();
  auto current = std::make_unique<Current>(context_);  // until the run ends
  std::unique_ptr<CudaStream> stream;
  {
    const std::lock_guard<std::mutex> lock(streams_mutex_);
    if (!free_streams_.empty()) {
      stream = std::move(free_streams_.back());
      free_streams_.pop_back();
    }
  }
  if (stream == nullptr) stream = std::make_unique<CudaStream>(*this);
  CudaStream* leased = stream.release();
  return std::shared_ptr<Stream>(
      leased, [this, current = std::shared_ptr<Current>(std::move(current))](Stream* used) {
        std::unique_ptr<CudaStream> free(static_cast<CudaStream*>(used));
        free->settle();
        if (context_.lost()) return;
        const std::lock_guard<std::mutex> lock(streams_mutex_);
        free_streams_.push_back(std::move(free));
      });
}

}  // namespace bertology::cuda
