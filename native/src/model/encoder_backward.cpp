// The encoder's way back: gradients through activations, and those of the heads.
#include "model/encoder.h"

namespace bertology {

void Encoder::backward(Stream& stream, float* d_rows) {
  const int64_t count = slice_.examples() * config_.num_hidden_layers * config_.num_attention_heads;
  for (const int32_t capture : {BERTOLOGY_HEAD_GRADIENTS, BERTOLOGY_TOKEN_HEAD_GRADIENTS}) {
    // Heads that are pruned or masked are not written.
    if (float* gradients = slice_.target(capture, 0, nullptr)) stream.zero(gradients, count);
  }
  float* gradient = d_rows;
  show_state_gradient(stream, config_.num_hidden_layers, gradient);
  if (config_.norm_first() && plan_.lowest_layer() < config_.num_hidden_layers) {
    norm_backward(stream, weights_.final_norm, slice_.rows.rows(),
                  state_at(config_.num_hidden_layers), kept_final_norm_.statistics, gradient,
                  nullptr, gradient);
  }
  for (int32_t l = config_.num_hidden_layers - 1; l >= plan_.lowest_layer(); --l) {
    gradient = layer_backward(stream, l, gradient);
    show_state_gradient(stream, l, gradient);
  }
  slice_.publish(stream, BERTOLOGY_HEAD_GRADIENTS);
  slice_.publish(stream, BERTOLOGY_TOKEN_HEAD_GRADIENTS);
}

void Encoder::show_state_gradient(Stream& stream, int32_t state, const float* gradient) {
  float* captured = slice_.target(BERTOLOGY_HIDDEN_STATE_GRADIENTS, state, nullptr);
  if (captured == nullptr) return;
  stream.copy(captured, gradient, slice_.tokens.rows() * config_.hidden_size);
  slice_.publish(stream, BERTOLOGY_HIDDEN_STATE_GRADIENTS, state);
}

/// From the gradient of the layer's output before a final norm, [R, D], overwritten, to that of its
/// input, [T, D]; null if nobody needs it.
float* Encoder::layer_backward(Stream& stream, int32_t l, float* d_output) {
  const Layer& weights = layer(l);
  const Kept& keep = kept_[static_cast<size_t>(l)];
  const int64_t rows = row_count(l);
  if (config_.norm_first()) {
    feed_forward_backward(stream, l, d_output, product_, false);
    norm_backward(stream, weights.output_norm, rows, keep.output_norm.input,
                  keep.output_norm.statistics, product_, d_output, d_output);
  } else {
    norm_backward(stream, weights.output_norm, rows, keep.output_norm.input,
                  keep.output_norm.statistics, d_output, nullptr, d_output);
    feed_forward_backward(stream, l, d_output, d_output, true);
    norm_backward(stream, weights.attention_norm, rows, keep.attention_norm.input,
                  keep.attention_norm.statistics, d_output, nullptr, d_output);
  }

  const bool goes_on = plan_.needs_input_gradient(l);
  if (weights.head_count() > 0) {
    const Projections d_projections = split(l, projections_);
    LinearBackward combine;
    combine.weight = weights.attention_output.weight.get();
    combine.rows = rows;
    combine.d_output = d_output;
    combine.d_input = context_;
    linear_backward(stream, combine);
    attention_backward(stream, l, context_, goes_on ? &d_projections : nullptr);
  }
  return goes_on ? projections_backward(stream, l, d_output) : nullptr;
}

/// From the gradients of queries, keys and values and that of the residual, [R, D], overwritten, to
/// that of the layer's input, [T, D].
float* Encoder::projections_backward(Stream& stream, int32_t l, float* d_output) {
  const Layer& weights = layer(l);
  const Kept& keep = kept_[static_cast<size_t>(l)];
  const int64_t rows = row_count(l);
  const int64_t tokens = slice_.tokens.rows();
  const int64_t width = config_.hidden_size;
  const bool some = some_rows(l);
  if (weights.head_count() == 0) {
    if (!some) return d_output;
    stream.zero(gradient_, tokens * width);
    scatter_rows(stream, {rows, width, slice_.row_index, d_output, gradient_, true});
    return gradient_;
  }

  // A norm before the block stands between the two gradients; else they add up at once.
  const bool first = config_.norm_first();
  const Projections d_projections = split(l, projections_);
  LinearBackward project;
  project.weight = weights.query_key_value.weight.get();
  project.parts = 3;
  project.rows = rows;
  project.d_output = d_projections.query;
  project.d_input = first ? product_ : d_output;
  project.accumulate = !first;
  if (some) {
    project.parts = 1;
    if (first) project.d_input = row_normed_;
    linear_backward(stream, project);
    project.first_part = 1;
    project.parts = 2;
    project.rows = tokens;
    project.d_output = d_projections.key;
    project.d_input = first ? product_ : gradient_;
    project.accumulate = false;
  }
  linear_backward(stream, project);
  if (some && first)
    scatter_rows(stream, {rows, width, slice_.row_index, row_normed_, product_, true});

  float* gradient = some ? gradient_ : d_output;
  if (first) {
    norm_backward(stream, weights.attention_norm, tokens, state_at(l),
                  keep.attention_norm.statistics, product_, some ? nullptr : d_output, gradient);
  }
  if (some) scatter_rows(stream, {rows, width, slice_.row_index, d_output, gradient_, true});
  return gradient;
}

/// From d_output [R, D] to d_input [R, D], written or added to.
void Encoder::feed_forward_backward(Stream& stream, int32_t l, const float* d_output,
                                    float* d_input, bool accumulate) {
  const Layer& weights = layer(l);
  LinearBackward narrow;
  narrow.weight = weights.output.weight.get();
  narrow.rows = row_count(l);
  narrow.d_output = d_output;
  narrow.d_input = wide_;
  narrow.activation = config_.activation();
  narrow.preactivation = kept_[static_cast<size_t>(l)].preactivation;
  linear_backward(stream, narrow);

  LinearBackward widen;
  widen.weight = weights.intermediate.weight.get();
  widen.rows = row_count(l);
  widen.d_output = wide_;
  widen.d_input = d_input;
  widen.accumulate = accumulate;
  linear_backward(stream, widen);
}

void Encoder::norm_backward(Stream& stream, const Norm& norm, int64_t rows, const float* input,
                            const float* statistics, const float* d_output, const float* d_residual,
                            float* d_input) {
  LayerNormBackward op;
  op.rows = rows;
  op.width = config_.hidden_size;
  op.d_output = d_output;
  op.sum = input;
  op.statistics = statistics;
  op.gamma = norm.gamma.data();
  op.d_residual = d_residual;
  op.d_input = d_input;
  layer_norm_backward(stream, op);
}

/// From the gradient of the layer's masked head outputs to the heads' gradients, and to those of
/// queries, keys and values where they are asked for.
void Encoder::attention_backward(Stream& stream, int32_t l, const float* d_context,
                                 const Projections* d_projections) {
  const Layer& weights = layer(l);
  const Kept& keep = kept_[static_cast<size_t>(l)];
  const bool maps = slice_.captures(BERTOLOGY_ATTENTION_GRADIENTS, l);
  float* query_key_value = keep.query_key_value != nullptr ? keep.query_key_value : projections_;
  AttentionBackward attend;
  attend.inputs = attention_inputs(l, query_key_value, masks_[static_cast<size_t>(l)].data());
  attend.inputs.compute_masked_heads = request_.masked_gradients;
  attend.d_context = d_context;
  attend.head_outputs = slice_.target(BERTOLOGY_HEAD_OUTPUTS, l, keep.head_outputs);
  attend.log_sum_exp = keep.log_sum_exp;
  if (d_projections != nullptr) {
    attend.d_query = d_projections->query;
    attend.d_key = d_projections->key;
    attend.d_value = d_projections->value;
    attend.d_query_stride = d_projections->query_stride;
    attend.d_key_stride = d_projections->key_stride;
  }
  attend.head_index = weights.heads.data();
  attend.example_stride =
      static_cast<int64_t>(config_.num_hidden_layers) * config_.num_attention_heads;
  const int64_t layer_start = static_cast<int64_t>(l) * config_.num_attention_heads;
  attend.head_gradients = slice_.target(BERTOLOGY_HEAD_GRADIENTS, 0, head_gradients_) + layer_start;
  if (float* token_gradients =
          slice_.target(BERTOLOGY_TOKEN_HEAD_GRADIENTS, 0, token_head_gradients_)) {
    attend.token_head_gradients = token_gradients + layer_start;
  }
  if (head_sums_ != nullptr) attend.head_sums = head_sums_ + layer_start * kHeadSums;
  attend.d_head_outputs = slice_.target(BERTOLOGY_HEAD_OUTPUT_GRADIENTS, l, nullptr);
  attend.d_probabilities =
      maps ? slice_.target(BERTOLOGY_ATTENTION_GRADIENTS, l, nullptr) : nullptr;
  bertology::attention_backward(stream, attend);
  slice_.publish(stream, BERTOLOGY_HEAD_OUTPUT_GRADIENTS, l);
  slice_.publish(stream, BERTOLOGY_ATTENTION_GRADIENTS, l);
}

}  // namespace bertology
