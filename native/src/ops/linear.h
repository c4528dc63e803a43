// y = activation(x Wᵀ + b) and its gradient with respect to x. There is no gradient with respect to
// W: nobody asks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/dtype.h"
#include "ops/activation.h"

namespace bertology {

class Stream;

/// A weight matrix [outputs, inputs], resident on its device in the layout that the device's
/// products like best. The outputs divide into `parts` of equal size (query, key and value are
/// three); operations can take some of them.
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;

  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  int parts() const { return parts_; }
  int64_t part_outputs() const { return outputs_ / parts_; }

  /// Device memory that it takes.
  virtual int64_t bytes() const = 0;

  /// Sets a part from plain rows in host memory, [part_outputs, inputs].
  virtual void set(int part, const float* rows) = 0;

  /// The matrix as plain rows in host memory, [outputs, inputs].
  virtual void unpack(float* rows) const = 0;

  /// A smaller matrix, ready to take the place of this one.
  class Cut {
   public:
    virtual ~Cut() = default;
    /// Makes the cut in place. scratch: [outputs, inputs] of the matrix before the cut, host
    /// memory. All that can run out has been taken by prepare_cut; should it fail all the same, the
    /// matrix is lost.
    virtual void commit(float* scratch) = 0;
  };

  /// Prepares keeping only the given outputs and inputs (ascending); `outputs` must keep the parts
  /// equal in size.
  virtual std::unique_ptr<Cut> prepare_cut(std::vector<int64_t> outputs,
                                           std::vector<int64_t> inputs) = 0;

 protected:
  PackedMatrix(int64_t outputs, int64_t inputs, int parts)
      : outputs_(outputs), inputs_(inputs), parts_(parts) {}

  int64_t outputs_;
  int64_t inputs_;
  int parts_;
};

struct LinearForward {
  const PackedMatrix* weight = nullptr;
  int first_part = 0;
  int parts = 1;                // outputs taken: those of parts first_part .. first_part + parts
  const float* bias = nullptr;  // [outputs of the whole matrix], null for none
  Activation activation = Activation::kNone;
  int64_t rows = 0;
  const float* input = nullptr;  // [rows, inputs], dense
  float* output = nullptr;       // [rows, outputs taken]
  int64_t output_stride = 0;     // floats from row to row; 0: dense
  float* preactivation =
      nullptr;  // [rows, outputs taken], as output; x Wᵀ + b kept for backward; null: not kept
};

/// d_input (+)= d_output W
struct LinearBackward {
  const PackedMatrix* weight = nullptr;
  int first_part = 0;
  int parts = 1;
  int64_t rows = 0;
  const float* d_output = nullptr;  // [rows, outputs taken]
  int64_t d_output_stride = 0;      // 0: dense
  float* d_input = nullptr;         // [rows, inputs], dense
  bool accumulate = false;          // add to what is in d_input
  Activation activation = Activation::kNone;
  const float* preactivation =
      nullptr;  // [rows, inputs]: multiply d_input by activation'(preactivation)
};

void linear_forward(Stream& stream, LinearForward op);
void linear_backward(Stream& stream, LinearBackward op);

}  // namespace bertology
