#include "bertology/accumulator.h"

#include <utility>
#include <vector>

#include "base/error.h"

namespace bertology {
namespace {

static_assert(kSignedSum == static_cast<int>(BERTOLOGY_SIGNED_SUM) &&
                  kAbsoluteSum == static_cast<int>(BERTOLOGY_ABSOLUTE_SUM) &&
                  kSquaredSum == static_cast<int>(BERTOLOGY_SQUARED_SUM) &&
                  kTokenAbsoluteSum == static_cast<int>(BERTOLOGY_TOKEN_ABSOLUTE_SUM) &&
                  kHeadSums == static_cast<int>(BERTOLOGY_HEAD_SUM_COUNT),
              "the public order of the sums is that in which attention_backward writes them");

double* doubles(const std::unique_ptr<DeviceMemory>& memory) {
  return static_cast<double*>(memory->data());
}

}  // namespace

Accumulator::Accumulator(std::shared_ptr<Backend> backend, int32_t layers, int32_t heads)
    : backend_(std::move(backend)), layers_(layers), heads_(heads) {
  check_argument(layers > 0 && layers <= 4096, "accumulator: layers is ", layers,
                 ", expected 1 to 4096");
  check_argument(heads > 0 && heads <= 4096, "accumulator: heads is ", heads,
                 ", expected 1 to 4096");
  sums_ = allocate();
  reset();
}

std::unique_ptr<DeviceMemory> Accumulator::allocate() const {
  return backend_->allocate(bytes(), "sums of the heads' gradients");
}

void Accumulator::reset() {
  const std::vector<double> zeros(static_cast<size_t>(count()), 0.0);
  const std::lock_guard<std::mutex> lock(mutex_);
  backend_->upload(sums_->data(), zeros.data(), bytes());
  examples_ = tokens_ = 0;
}

std::unique_ptr<DeviceMemory> Accumulator::room() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return replaced_ != nullptr ? std::move(replaced_) : allocate();
}

void Accumulator::add(Stream& stream, const double* run_sums, std::unique_ptr<DeviceMemory> room,
                      int64_t examples, int64_t tokens) {
  const std::lock_guard<std::mutex> lock(mutex_);
  // The new sums are made beside the old ones and take their place when the run has ended well. If
  // it does not, the room is not used again: what is still queued may write there.
  stream.copy(static_cast<float*>(room->data()), static_cast<const float*>(sums_->data()),
              bytes() / static_cast<int64_t>(sizeof(float)));
  stream.accumulate(doubles(room), run_sums, count());
  stream.synchronize();
  std::swap(sums_, room);
  examples_ += examples;
  tokens_ += tokens;
  replaced_ = std::move(room);
}

void Accumulator::read(double* sums, int64_t count, int64_t* examples, int64_t* tokens) const {
  check_argument(sums != nullptr && examples != nullptr && tokens != nullptr,
                 "accumulator_read: sums, examples and tokens must be given");
  check_argument(count == this->count(), "accumulator_read: room for ", count,
                 " numbers, expected ", this->count(), ": ", layers_, " layers of ", heads_,
                 " heads with ", static_cast<int>(kHeadSums), " sums");
  const std::lock_guard<std::mutex> lock(mutex_);
  backend_->download(sums, sums_->data(), bytes());
  *examples = examples_;
  *tokens = tokens_;
}

}  // namespace bertology
