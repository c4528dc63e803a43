// What stands on the encoder: sequence vectors, classifier, language model, and their losses
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
  /// What a run takes of the stream's Room::staged.
  int64_t staged_bytes(const Stream& stream) const;

  /// states: the encoder's output, [rows, D].
  void forward(Stream& stream, const float* states);

  /// The gradient of the sum of the examples' losses with respect to `states`, [rows, D], to be
  /// overwritten.
  float* backward(Stream& stream);

  /// Whether finish() has something to do.
  bool finishes() const { return request_.predicts_tokens() && slice_.captures(BERTOLOGY_LOSS); }
  /// After the stream has been waited for: losses of tokens become losses of examples.
  void finish();

 private:
  void pool(Stream& stream, const float* states);
  void classify(Stream& stream);
  void predict(Stream& stream, const float* states);
  void predict_some(Stream& stream, const float* states, int64_t first, int64_t count);
  void transform_backward(Stream& stream, int64_t count, float* d_states);
  void classifier_backward(Stream& stream);
  PooledRows pooled_rows() const;
  bool normalizes() const;
  bool loss_wanted() const { return plan_.backward || slice_.captures(BERTOLOGY_LOSS); }
  bool token_loss_wanted() const {
    return request_.predicts_tokens() && (loss_wanted() || slice_.captures(BERTOLOGY_TOKEN_LOSSES));
  }
  int64_t token_losses_bytes() const {
    return static_cast<int64_t>(token_losses_host_.size() * sizeof(float));
  }
  /// Whether only some of the rows predict tokens.
  bool gathers() const { return slice_.predicted() != slice_.rows.rows(); }

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

  // Tokens: P rows that predict, of which C at a time go through the language model and, if there
  // is a loss, back: the logits of a whole batch are never there at once unless they are captured.
  int64_t chunk_ = 0;                // C
  float* gathered_ = nullptr;        // [C, D], states, then their gradients
  float* transform_sums_ = nullptr;  // [C, D], before the activation
  float* transformed_ = nullptr;     // [C, D]
  float* norm_sums_ = nullptr;       // [C, D]
  float* norm_statistics_ = nullptr;
  float* token_logits_ = nullptr;    // [C, vocab_size]; all if they are captured
  float* d_token_logits_ = nullptr;  // [C, vocab_size], in place unless the logits are captured
  float* token_losses_ = nullptr;    // [P]
  std::vector<float> token_losses_host_;  // [P]; of a language model's captured loss only
};

}  // namespace bertology
