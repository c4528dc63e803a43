// The transformer over one slice: embeddings and layers, forward, and backward through activations
// only.
//
// One code for every device: it places buffers, decides what is kept, and calls the operations of
// ops/.
#pragma once

#include <cstdint>
#include <vector>

#include "base/arena.h"
#include "model/plan.h"
#include "model/slice.h"
#include "model/weights.h"

namespace bertology {

class Encoder {
 public:
  Encoder(const Config& config, const Weights& weights, const Plan& plan, const Request& request,
          const Slice& slice, double* head_sums);

  /// Buffers in scratch memory.
  void place(Layout& layout);

  /// The last layer's output for the slice's rows, [rows, D]; null if the plan stops before it.
  const float* forward(Stream& stream);

  // The steps of forward(), for who runs them in another order. Shapes are those named below.

  /// The input of layer 0, [T, D].
  float* embed(Stream& stream);
  /// What is added to the output of layer l's attention, [R, D]: its input, or the rows of it that
  /// are queries. It stays until the next layer of that kind.
  const float* rows_forward(Stream& stream, int32_t l, const float* input);
  /// The heads' outputs times their mask, [R, A], behind rows_forward for the same input, which is
  /// the last that embed or blocks_forward returned. mask: by the heads that the layer has, host.
  /// They are written to `context` unless there is another place where they are kept. Null if the
  /// layer has no heads.
  const float* heads_forward(Stream& stream, int32_t l, const float* input, const float* mask,
                             float* context);
  /// The rest of the layer, from such head outputs: its output, [R, D], of the last layer behind
  /// the final norm if there is one. It is written to `output`, which may be `residual`; with a
  /// final norm its input goes there, unless `output` is null.
  const float* blocks_forward(Stream& stream, int32_t l, const float* residual,
                              const float* context, float* output);

  /// R of a layer.
  int64_t row_count(int32_t l) const {
    return some_rows(l) ? slice_.rows.rows() : slice_.tokens.rows();
  }
  /// Where embed leaves its output unless it is captured or kept, [T, D].
  float* state() const { return state_; }
  /// Room for head outputs of any layer, [T, A], which heads_forward and blocks_forward only read
  /// or write as they are told to.
  float* context() const { return context_; }
  /// The largest A.
  int64_t widest_heads() const;

  /// From the gradient of the last layer's output, [rows, D], which it may overwrite, down to the
  /// plan's lowest layer.
  void backward(Stream& stream, float* d_rows);

 private:
  // Shapes: T tokens of the slice; R rows of the layer, which are its queries: T of them, or fewer
  // in a last layer that computes some rows only; A the width of the layer's heads; D hidden_size;
  // I intermediate_size.
  //
  // Norms behind the blocks (BERT, GPT): x' = norm(x + attention(x)), y = norm(x' +
  // feed_forward(x')). Norms before them (GPT-2): x' = x + attention(norm(x)), y = x' +
  // feed_forward(norm(x')), and a final norm. A norm takes the sum before it with it, so each layer
  // ends with the norm that the next one starts with.
  struct KeptNorm {
    float* input = nullptr;       // what it normalised
    float* statistics = nullptr;  // of each row
  };
  struct Kept {
    float* query_key_value =
        nullptr;  // [T, 3 A]; with some rows queries [R, A], then keys and values [T, 2 A]
    float* head_outputs = nullptr;   // [R, A]
    float* log_sum_exp = nullptr;    // [R, heads]
    KeptNorm attention_norm;         // [R, D]; of a norm before the block [T, D]
    float* preactivation = nullptr;  // [R, I]
    KeptNorm output_norm;            // [R, D]
  };

  /// Queries, keys and values of a layer, or their gradients: where each is, and from row to row.
  struct Projections {
    float* query;
    float* key;
    float* value;
    int64_t query_stride;
    int64_t key_stride;
  };

  float* state_at(int32_t l) const;
  const float* layer_forward(Stream& stream, int32_t l, const float* input);
  void combine_heads(Stream& stream, int32_t l, const float* context, float* output);
  void feed_forward(Stream& stream, int32_t l, const float* input, float* output);
  void norm_forward(Stream& stream, const Norm& norm, int64_t rows, const float* input,
                    const float* residual, float* output, float* sum, float* statistics);
  void show_state_gradient(Stream& stream, int32_t state, const float* gradient);
  float* layer_backward(Stream& stream, int32_t l, float* d_output);
  float* projections_backward(Stream& stream, int32_t l, float* d_output);
  void attention_backward(Stream& stream, int32_t l, const float* d_context,
                          const Projections* d_projections);
  void feed_forward_backward(Stream& stream, int32_t l, const float* d_output, float* d_input,
                             bool accumulate);
  void norm_backward(Stream& stream, const Norm& norm, int64_t rows, const float* input,
                     const float* statistics, const float* d_output, const float* d_residual,
                     float* d_input);

  const Layer& layer(int32_t l) const { return weights_.layers[static_cast<size_t>(l)]; }
  int64_t heads_width(int32_t l) const { return layer(l).head_count() * config_.head_dim(); }
  bool some_rows(int32_t l) const {
    return l == config_.num_hidden_layers - 1 && slice_.some_rows();
  }
  Projections split(int32_t l, float* buffer) const;
  AttentionInputs attention_inputs(int32_t l, float* query_key_value, const float* mask) const;

  const Config& config_;
  const Weights& weights_;
  const Plan& plan_;
  const Request& request_;
  const Slice& slice_;
  double* head_sums_;  // [L, H, kHeadSums]: those of the run's slices so far; null: not kept
  std::vector<std::vector<float>> masks_;  // by layer, of the heads that it has

  std::vector<Kept> kept_;
  KeptNorm kept_final_norm_;       // [R, D]
  float* state_ = nullptr;         // [T, D]: what goes from layer to layer
  float* attended_ = nullptr;      // [T, D]: x'
  float* normed_ = nullptr;        // [T, D]: what a block sees whose norm stands before it
  float* product_ = nullptr;       // [T, D]: a product before it is added to the residual
  float* row_residual_ = nullptr;  // [R, D]: the last layer's input at its rows
  float* row_normed_ = nullptr;    // [R, D]: and its norm, if that stands before the block
  float* projections_ =
      nullptr;                 // [T, 3 A]: queries, keys, values that are not kept, then gradients
  float* context_ = nullptr;   // [T, A]: head outputs times mask, then gradients
  float* wide_ = nullptr;      // [T, I]: inside feed-forward, then gradients
  float* gradient_ = nullptr;  // [T, D]: from the last layer's rows to all tokens
  float* head_gradients_ = nullptr;        // [examples, L, H], where they are not captured
  float* token_head_gradients_ = nullptr;  // the same, where sums need them
};

}  // namespace bertology
