// What a device must be able to do. One implementation for each kind of device: cpu/, and others
// beside it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/dtype.h"
#include "ops/activation.h"
#include "ops/attention.h"
#include "ops/embedding.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"
#include "ops/loss.h"
#include "ops/mask_heads.h"
#include "ops/pooling.h"
#include "ops/rows.h"

namespace bertology {

/// A block of device memory.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual void* data() const = 0;
  virtual int64_t bytes() const = 0;
};

/// Memory of the host that a device copies to without a detour, while this lives.
class PinnedMemory {
 public:
  virtual ~PinnedMemory() = default;
};

/// What a run takes of its stream.
struct Room {
  int64_t floats = 0;  // laid out by the caller
  int64_t staged = 0;  // sums of Stream::staged_bytes() between two synchronize()
  // Of the largest operations, which may need memory of their own:
  int64_t rows = 0;
  int64_t width = 0;  // inputs or outputs of a matrix product
  int64_t heads = 0;
  DType dtype = BERTOLOGY_FLOAT32;
};

/// Operations of one run, executed in order. Model code calls the functions of ops/*.h, which check
/// and come here. Pointers are device memory unless an operation says host.
class Stream {
 public:
  virtual ~Stream() = default;

  /// Memory for the whole run, taken before anything is computed: what was there before is lost.
  virtual float* reserve(const Room& room) = 0;

  /// Whether the device works on the host's memory: then the two copies below are never needed.
  virtual bool shares_host_memory() const = 0;
  /// Copies, in order with the operations. Host memory must stay as it is until synchronize().
  virtual void to_device(void* device, const void* host, int64_t bytes) = 0;
  virtual void to_host(void* host, const void* device, int64_t bytes) = 0;
  /// What such a copy takes of Room::staged.
  virtual int64_t staged_bytes(const void* host, int64_t bytes) const = 0;

  virtual void zero(float* data, int64_t count) = 0;
  virtual void copy(float* to, const float* from, int64_t count) = 0;
  /// to += from
  virtual void accumulate(double* to, const double* from, int64_t count) = 0;

  virtual void embedding_forward(const EmbeddingForward& op) = 0;
  virtual void linear_forward(const LinearForward& op) = 0;
  virtual void linear_backward(const LinearBackward& op) = 0;
  virtual void attention_forward(const AttentionForward& op) = 0;
  virtual void attention_backward(const AttentionBackward& op) = 0;
  virtual void layer_norm_forward(const LayerNormForward& op) = 0;
  virtual void layer_norm_backward(const LayerNormBackward& op) = 0;
  virtual void activation_backward(const ActivationBackward& op) = 0;
  virtual void pooling_forward(const PoolingForward& op) = 0;
  virtual void pooling_backward(const PoolingBackward& op) = 0;
  virtual void cross_entropy(const CrossEntropy& op) = 0;
  virtual void squared_error(const SquaredError& op) = 0;
  virtual void gather_rows(const GatherRows& op) = 0;
  virtual void scatter_rows(const ScatterRows& op) = 0;
  virtual void broadcast_row(const BroadcastRow& op) = 0;
  virtual void mask_heads(const MaskHeads& op) = 0;

  /// Waits for all operations; throws what went wrong in them.
  virtual void synchronize() = 0;

  /// Whose matrix products come from here on until the stream is given back, where there is a
  /// choice: those of a vendor's library, which are the usual ones, or our own kernels. Returns
  /// whether there is.
  virtual bool use_library_products(bool library) = 0;
  /// How long the device takes for what `queue` queues; waits for it.
  virtual double seconds_of(const std::function<void()>& queue) = 0;
};

/// A device: its memory, its weights, its streams. Used from many threads at once.
class Backend {
 public:
  virtual ~Backend() = default;

  /// What was chosen and why, a line each.
  virtual const std::string& description() const = 0;

  /// Whether matrix products with inputs of this type run at hardware speed.
  virtual bool supports(DType dtype) const = 0;

  /// Tokens that one pass should take at a time: enough to fill the device, few enough for its
  /// caches and memory. `keeps`: much is kept of each token, as for a backward pass.
  virtual int64_t tokens_per_pass(bool keeps) const = 0;

  virtual std::unique_ptr<DeviceMemory> allocate(int64_t bytes, const char* what) = 0;
  virtual void upload(void* device, const void* host, int64_t bytes) = 0;
  virtual void download(void* host, const void* device, int64_t bytes) = 0;
  /// Prepares host memory for copies from this device; null where it has no use for that.
  virtual std::unique_ptr<PinnedMemory> pin(void* host, int64_t bytes) = 0;

  /// Runs `body` for every task on threads of the host, as many as there are for this device's
  /// sake.
  virtual void on_host(int64_t tasks, const std::function<void(int64_t task)>& body) {
    for (int64_t task = 0; task < tasks; ++task) body(task);
  }

  /// Memory for a matrix, whose parts are still to be set; products take inputs of type `dtype`.
  virtual std::unique_ptr<PackedMatrix> matrix(int64_t outputs, int64_t inputs, int parts,
                                               DType dtype) = 0;
  /// The same, set from plain rows in host memory, [outputs, inputs].
  std::unique_ptr<PackedMatrix> pack(const float* rows, int64_t outputs, int64_t inputs, int parts,
                                     DType dtype) {
    std::unique_ptr<PackedMatrix> packed = matrix(outputs, inputs, parts, dtype);
    for (int part = 0; part < parts; ++part)
      packed->set(part, rows + part * packed->part_outputs() * inputs);
    return packed;
  }
  /// The same product out of plain rows in device memory, which must outlive the matrix. Cannot be
  /// cut.
  virtual std::unique_ptr<PackedMatrix> borrow(const float* rows, int64_t outputs, int64_t inputs,
                                               DType dtype) = 0;

  /// A stream for one run, taken from those that are free.
  virtual std::shared_ptr<Stream> stream() = 0;

  /// Floating-point operations per second of large matrix products that fit the caches.
  virtual double matrix_peak(DType dtype, double seconds) = 0;
};

}  // namespace bertology
