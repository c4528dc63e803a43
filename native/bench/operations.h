// Single operations in BERT-base's shape, ready to be counted and timed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "ops/backend.h"

namespace bertology {

/// The least that an operation moves and computes.
struct Least {
  int64_t bytes;
  int64_t flops;
};

/// An operation that is ready to run, any number of times, as long as its bench lives.
struct Operation {
  Least least;
  std::function<void()> run;
};

/// Where an operation runs, and buffers for it.
class Bench {
 public:
  Bench(std::shared_ptr<Backend> backend, DType product_type, int64_t example_count,
        int64_t tokens_each)
      : dtype(product_type),
        examples(example_count),
        length(tokens_each),
        tokens(example_count * tokens_each),
        backend_(std::move(backend)),
        stream_(backend_->stream()) {
    for (int64_t b = 0; b <= examples; ++b) {
      offsets_.push_back(b * length);
      pairs_.push_back(b * length * length);
    }
  }

  Stream& stream() { return *stream_; }
  Backend& backend() { return *backend_; }

  template <class T>
  T* on_device(const std::vector<T>& values) {
    const int64_t bytes = static_cast<int64_t>(values.size() * sizeof(T));
    memory_.push_back(backend_->allocate(bytes, "a measurement"));
    backend_->upload(memory_.back()->data(), values.data(), bytes);
    return static_cast<T*>(memory_.back()->data());
  }

  float* floats(int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random_);
    return on_device(values);
  }

  template <class T>
  T* ascending(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(i);
    return on_device(values);
  }

  Sequences sequences() {
    return {examples, offsets_.data(), pairs_.data(), on_device(offsets_), on_device(pairs_)};
  }

  std::unique_ptr<PackedMatrix> matrix(int64_t outputs, int64_t inputs, int parts) {
    std::normal_distribution<float> normal(0, 0.05f);
    std::vector<float> values(static_cast<size_t>(outputs * inputs));
    for (float& value : values) value = normal(random_);
    return backend_->pack(values.data(), outputs, inputs, parts, dtype);
  }

  const DType dtype;
  const int64_t examples, length, tokens;

 private:
  std::shared_ptr<Backend> backend_;
  std::shared_ptr<Stream> stream_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
  std::vector<int64_t> offsets_, pairs_;
  std::mt19937 random_{1};
};

/// All operations, by name.
const std::map<std::string, std::function<Operation(Bench&)>>& operations();

/// The type of this name.
DType dtype_of(const std::string& name);

}  // namespace bertology
