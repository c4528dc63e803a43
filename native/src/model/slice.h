// Consecutive examples of a batch that go through the model together.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/arena.h"
#include "bertology/activations.h"
#include "model/plan.h"
#include "ops/backend.h"

namespace bertology {

/// Divides a batch into ranges of examples, [first, last), of up to `tokens` tokens and at least
/// one example.
std::vector<std::pair<int64_t, int64_t>> slice_ranges(const Request& request, int64_t tokens);

/// The integers of a slice, on the host and where the kernels read them, and the places of its
/// captures.
class Slice {
 public:
  Slice(const Config& config, const Plan& plan, Activations& activations, int64_t first,
        int64_t last);

  Slice(const Slice&) = delete;  // it keeps pointers to its own members
  Slice& operator=(const Slice&) = delete;

  /// Room in scratch memory for what the device needs of its own; nothing where it shares the
  /// host's memory.
  void place(Layout& layout, bool shares_host_memory);
  /// Copies the integers to the device.
  void upload(Stream& stream);
  /// What that and publish() take of the stream's Room::staged.
  int64_t staged_bytes(const Stream& stream) const;
  /// And what publish() alone takes of it, for the results of one mask.
  int64_t staged_result_bytes(const Stream& stream) const;

  int64_t examples() const { return last_ - first_; }
  int64_t first() const { return first_; }

  Sequences tokens;  // all tokens of the slice
  Sequences
      rows;  // those that the last layer computes as queries: all of them unless plan.some_rows
  bool some_rows() const { return rows.rows() != tokens.rows(); }

  // On the device:
  const int32_t* input_ids = nullptr;       // [tokens]
  const int32_t* token_type_ids = nullptr;  // [tokens]
  const int32_t* position_ids = nullptr;    // [tokens]
  const int64_t* row_index = nullptr;       // [rows]: which token each is
  const int32_t* labels = nullptr;          // [examples], classification
  const float* targets = nullptr;           // [examples], regression

  // Of the rows whose logits of tokens are computed, P: all, or those with a label.
  const int64_t* predicted_rows = nullptr;  // [P]: which row each is
  const int32_t* token_labels = nullptr;    // [P], loss of a language model
  const float* token_weights = nullptr;     // [P]: 1 / labelled tokens of the example

  /// How many rows predict tokens.
  int64_t predicted() const { return static_cast<int64_t>(predicted_.size()); }
  /// Those of example b are predicted_offsets()[b] ... [b + 1].
  const std::vector<int64_t>& predicted_offsets() const { return predicted_offsets_; }
  /// For each example the number of its labelled tokens.
  const std::vector<int64_t>& labelled() const { return labelled_; }

  /// Which mask of a sweep the results are of, from here on; 0 at first.
  void set_mask(int32_t mask) { mask_ = mask; }

  bool captures(int32_t capture, int32_t layer = 0) const {
    return activations_.request.wants(capture, layer);
  }
  /// Where an operation writes this slice's part of a capture; `otherwise` if it is not captured.
  float* target(int32_t capture, int32_t layer, float* otherwise) const;
  /// Brings what was written there to the host; nothing if it is not captured or already there.
  void publish(Stream& stream, int32_t capture, int32_t layer = 0) const;
  /// This slice's part of a capture in the results, in host memory; null if it is not captured.
  float* result(int32_t capture, int32_t layer = 0) const {
    return activations_.data(capture, layer, first_, mask_);
  }

 private:
  /// An array of the host, and its copy on a device that does not share the host's memory.
  struct Mirrored {
    const void* host;
    int64_t bytes;
    const void** device;
    void* copy = nullptr;
  };
  int64_t bytes_of(int32_t capture, int32_t layer) const {
    return activations_.count(capture, layer, first_, last_) * static_cast<int64_t>(sizeof(float));
  }
  template <class Use>
  void each_capture(const Use& use) const;
  template <class T>
  void mirror(const T* host, int64_t count, const T** device);

  Activations& activations_;
  int64_t first_;
  int64_t last_;
  int32_t mask_ = 0;
  bool shares_host_memory_ = true;

  std::vector<int64_t> offsets_, pair_offsets_, row_offsets_, row_index_, labelled_;
  std::vector<int64_t> predicted_, predicted_offsets_;
  std::vector<int32_t> position_ids_, token_labels_;
  std::vector<float> token_weights_;
  std::vector<Mirrored> mirrored_;
  std::vector<std::vector<float*>> capture_copies_;  // by capture and layer
};

}  // namespace bertology
