// Operations one at a time, on random numbers in the shape of a model's layer: what they move and
// compute at least, and how long they take.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "bertology.h"
#include "model/config.h"
#include "ops/backend.h"

namespace bertology {

/// "query_key_value" of BERTOLOGY_OPERATION_QUERY_KEY_VALUE.
const char* operation_name(int32_t operation);

/// One operation with its operands on a device.
class Operation {
 public:
  /// For `examples` texts of `length` tokens each. operation: a bertology_operation.
  Operation(std::shared_ptr<Backend> backend, int32_t operation, const Config& config,
            int32_t examples, int32_t length);
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  /// Queues it once more, with the same operands.
  void queue() { queue_(); }
  Stream& stream() { return *stream_; }

  /// The least that it moves: every operand is read once, every result written once.
  int64_t least_bytes() const { return least_bytes_; }
  /// The arithmetic of its matrix products; 0 if it has none.
  int64_t least_flops() const { return least_flops_; }

  /// Times it for about `seconds`, in turn with what it is held against. measures:
  /// [BERTOLOGY_MEASURE_COUNT]
  void measure(double seconds, double* measures);

 private:
  /// Makes the operands and queue_.
  void prepare(int32_t operation);
  template <class T>
  T* on_device(const std::vector<T>& values);
  float* floats(int64_t count, float center = 0);
  template <class T>
  T* ascending(int64_t count, int64_t below);
  Sequences sequences();
  const PackedMatrix* matrix(int64_t outputs, int64_t inputs, int parts);
  AttentionInputs attention_inputs();

  void linear_forward(int64_t outputs, int64_t inputs, int parts, Activation activation);
  void linear_backward(int64_t outputs, int64_t inputs, int parts, Activation activation);
  void attention_forward(bool captures);
  void attention_backward(bool inputs, bool captures);
  void embedding();
  void layer_norm();
  void layer_norm_backward();
  void activation_backward();
  void pooling();
  void cross_entropy();
  void gather_rows();

  void least(int64_t floats, int64_t flops = 0);

  std::shared_ptr<Backend> backend_;
  std::shared_ptr<Stream> stream_;
  const Config config_;
  const int64_t examples_, length_, tokens_, width_;
  std::vector<int64_t> offsets_, pairs_;
  std::vector<float> mask_;
  std::vector<int32_t> head_index_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
  std::unique_ptr<PackedMatrix> matrix_;
  std::minstd_rand random_;
  std::function<void()> queue_;
  int64_t least_bytes_ = 0;
  int64_t least_flops_ = 0;
  bool is_product_ = false;
};

}  // namespace bertology
