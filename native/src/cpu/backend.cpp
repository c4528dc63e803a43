#include "cpu/backend.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "base/error.h"
#include "cpu/matrix.h"
#include "cpu/stream.h"

namespace bertology::cpu {
namespace {

class HostMemory final : public DeviceMemory {
 public:
  HostMemory(int64_t bytes, const char* what) : memory_(static_cast<size_t>(bytes), what) {}
  void* data() const override { return memory_.data(); }
  int64_t bytes() const override { return static_cast<int64_t>(memory_.bytes()); }

 private:
  Mapping memory_;
};

}  // namespace

CpuBackend::CpuBackend(int threads) : CpuBackend(threads, choose_isa()) {}

CpuBackend::CpuBackend(int threads, const IsaChoice& choice)
    : isa_(choice.isa), kernels_(cpu::kernels(isa_)) {
  limit_onednn(isa_);
  check_argument(threads >= 0 && threads <= 4096, "threads: ", threads,
                 ", expected 0 (automatic) to 4096");
  std::string why = "as asked";
  if (threads == 0) threads = usable_processors(&why);
  // A pool thread multiplies alone: OpenMP inside oneDNN must not open teams of its own there.
  pool_ = std::make_unique<ThreadPool>(threads, [] { static thread_local SerialOpenMp serial; });
  description_ =
      text("device: cpu\nthreads: ", threads, " (", why, ")\ninstruction set: ", name_of(isa_),
           " (", choice.why, ")\nmatrix products: our own in float32",
           isa_ == Isa::kAmx ? " and bfloat16" : "", ", else ", onednn_description(),
           "\nbfloat16 products: ",
           supports(BERTOLOGY_BFLOAT16) ? "yes" : "no: the processor has no bfloat16 instructions");
}

CpuBackend::~CpuBackend() = default;

bool CpuBackend::supports(DType dtype) const {
  if (dtype == BERTOLOGY_FLOAT32) return true;
  if (dtype != BERTOLOGY_BFLOAT16) return false;
  return isa_ == Isa::kAmx || (isa_ == Isa::kAvx512 && onednn_has_bfloat16());
}

// The more tokens, the less often all weights come from memory, and the less is lost where threads
// wait for the last of them. What a backward pass needs is kept of all its tokens in every layer:
// there memory limits them.
int64_t CpuBackend::tokens_per_pass(bool keeps) const {
  return keeps ? std::max<int64_t>(640, 128 * threads()) : std::max<int64_t>(2048, 256 * threads());
}

std::unique_ptr<DeviceMemory> CpuBackend::allocate(int64_t bytes, const char* what) {
  return std::make_unique<HostMemory>(bytes, what);
}

void CpuBackend::upload(void* device, const void* host, int64_t bytes) {
  constexpr int64_t kTaskBytes = 1 << 20;  // most of the time of a large copy is that of new pages
  parallel((bytes + kTaskBytes - 1) / kTaskBytes, [&](int64_t task, int) {
    const int64_t first = task * kTaskBytes;
    std::memcpy(static_cast<char*>(device) + first, static_cast<const char*>(host) + first,
                static_cast<size_t>(std::min(kTaskBytes, bytes - first)));
  });
}

void CpuBackend::download(void* host, const void* device, int64_t bytes) {
  std::memcpy(host, device, static_cast<size_t>(bytes));
}

void CpuBackend::on_host(int64_t tasks, const std::function<void(int64_t task)>& body) {
  parallel(tasks, [&](int64_t task, int) { body(task); });
}

std::unique_ptr<PackedMatrix> CpuBackend::matrix(int64_t outputs, int64_t inputs, int parts,
                                                 DType dtype) {
  return std::make_unique<Matrix>(*this, outputs, inputs, parts, dtype);
}

std::unique_ptr<PackedMatrix> CpuBackend::borrow(const float* rows, int64_t outputs, int64_t inputs,
                                                 DType dtype) {
  if (dtype != BERTOLOGY_FLOAT32) return pack(rows, outputs, inputs, 1, dtype);
  return Matrix::borrow(*this, rows, outputs, inputs);
}

std::shared_ptr<Stream> CpuBackend::stream() {
  std::unique_ptr<CpuStream> stream;
  {
    std::lock_guard<std::mutex> lock(streams_mutex_);
    if (!free_streams_.empty()) {
      stream = std::move(free_streams_.back());
      free_streams_.pop_back();
    }
  }
  if (stream == nullptr) stream = std::make_unique<CpuStream>(*this);
  return std::shared_ptr<Stream>(stream.release(), [this](Stream* used) {
    std::unique_ptr<CpuStream> free(static_cast<CpuStream*>(used));
    std::lock_guard<std::mutex> lock(streams_mutex_);
    free_streams_.push_back(std::move(free));
  });
}

void CpuBackend::parallel(int64_t tasks, const ThreadPool::Body& body) {
  const SerialOpenMp serial;
  pool_->run(tasks, body);
}

void CpuBackend::parallel_rows(int64_t rows, int64_t row_cost,
                               const std::function<void(int64_t begin, int64_t end)>& body) {
  constexpr int64_t kTaskCost =
      1 << 15;  // elements: some ten microseconds, far above what a task costs to hand out
  const int64_t step = std::max<int64_t>(1, kTaskCost / std::max<int64_t>(1, row_cost));
  parallel((rows + step - 1) / step,
           [&](int64_t task, int) { body(task * step, std::min(rows, (task + 1) * step)); });
}

double CpuStream::seconds_of(const std::function<void()>& queue) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  queue();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double CpuBackend::matrix_peak(DType dtype, double seconds) {
  check_argument(supports(dtype), "dtype: ", name_of(dtype),
                 " products are not supported at hardware speed here");
  // The shapes of BERT-base's feed-forward block, the largest products that it has, in blocks that
  // the caches hold.
  constexpr int64_t kRows = 256;
  constexpr int64_t kDepth = 768;
  constexpr int64_t kColumns = 768;
  constexpr int kRepeats = 4;
  const auto product = products_.find(
      {kRows, kDepth, kColumns, kDepth, 0, kColumns, dtype, Layout2d::kPacked, false, false});
  const Repacking layout(kDepth, kColumns, dtype, 1, kDepth);
  const Mapping packed(static_cast<size_t>(layout.packed_bytes()), "the peak measurement");
  layout.pack(std::vector<float>(kDepth * kColumns, 0.01f).data(), packed.data());
  struct Worker {
    Mapping a, c, scratch;
  };
  std::vector<Worker> workers;
  for (int i = 0; i < threads(); ++i) {
    workers.push_back(
        {Mapping(kRows * kDepth * sizeof(float), "the peak measurement"),
         Mapping(kRows * kColumns * sizeof(float), "the peak measurement"),
         Mapping(static_cast<size_t>(product->scratch_bytes()), "the peak measurement")});
  }
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  double best = 0;
  do {
    const Clock::time_point before = Clock::now();
    parallel(threads(), [&](int64_t task, int) {
      const Worker& worker = workers[static_cast<size_t>(task)];
      for (int i = 0; i < kRepeats; ++i) {
        product->execute(worker.a.data(), packed.data(), nullptr,
                         static_cast<float*>(worker.c.data()), worker.scratch.data());
      }
    });
    const double elapsed = std::chrono::duration<double>(Clock::now() - before).count();
    const double flops = 2.0 * kRows * kDepth * kColumns * kRepeats * threads();
    best = std::max(best, flops / elapsed);
  } while (std::chrono::duration<double>(Clock::now() - start).count() < seconds);
  return best;
}

}  // namespace bertology::cpu
