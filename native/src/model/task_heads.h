// What stands on the encoder: sequence vectors, classifier, masked language model, and their losses
// per example.
#pragma once

#include <vector>

#include "base/arena.h"
#include "model/plan.h"
#include "model/slice.h"
#include "model/weights.h"

namespace bertology {

class TaskHeads {
 public:
  TaskHeads(const Config& config, const Weights& weights, const Plan& plan, const Request& request,
            const Slice& slice);

  /// Buffers in scratch memory.
  void place(Layout& layout);

  /// states: the encoder's output, [rows, D].
  void forward(Stream& stream, const float* states);

  /// The gradient of the sum of the examples' losses with respect to `states`, [rows, D], to be
  /// overwritten.
  float* backward(Stream& stream);

  /// After the stream has been waited for: losses of tokens become losses of examples.
  void finish();

 private:
  void pool(Stream& stream, const float* states);
  void classify(Stream& stream);
  void predict(Stream& stream, const float* states);
  void classifier_backward(Stream& stream);
  void predictor_backward(Stream& stream);
  bool loss_wanted() const { return plan_.backward || slice_.captures(BERTOLOGY_LOSS); }

  const Config& config_;
  const Weights& weights_;
  const Plan& plan_;
  const Request& request_;
  const Slice& slice_;

  float* d_states_ = nullptr;  // [rows, D]

  // Sequences: B examples of the slice, N labels.
  float* vectors_ = nullptr;         // [B, D], after pooling
  float* vector_lengths_ = nullptr;  // [B], before normalisation
  float* pooler_sums_ = nullptr;     // [B, D], before tanh
  float* pooled_ = nullptr;     // [B, D], what the classifier sees: vectors_ if there is no pooler
  float* logits_ = nullptr;     // [B, N]
  float* d_logits_ = nullptr;   // [B, N]
  float* d_pooled_ = nullptr;   // [B, D]
  float* d_vectors_ = nullptr;  // [B, D]
  float* losses_ = nullptr;     // [B]

  // Tokens: the slice's rows.
  float* transform_sums_ = nullptr;  // [rows, D], before the activation
  float* transformed_ = nullptr;     // [rows, D]
  float* norm_sums_ = nullptr;       // [rows, D]
  float* norm_statistics_ = nullptr;
  float* token_logits_ = nullptr;    // [rows, vocab_size]
  float* d_token_logits_ = nullptr;  // the same, in place unless the logits are captured
  float* row_losses_ = nullptr;      // [rows]
  std::vector<float> row_losses_host_;
};

}  // namespace bertology
