#include "model/encoder.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace bertology {

Encoder::Encoder(const Config& config, const Weights& weights, const Plan& plan,
                 const Request& request, const Slice& slice)
    : config_(config), weights_(weights), plan_(plan), request_(request), slice_(slice) {
  const size_t layers = weights.layers.size();
  masks_.resize(layers);
  masked_.assign(layers, false);
  kept_.resize(layers);
  for (size_t l = 0; l < layers; ++l) {
    for (const int32_t head : weights.layers[l].heads) {
      const size_t index =
          l * static_cast<size_t>(config.num_attention_heads) + static_cast<size_t>(head);
      const float value = request.head_mask.empty() ? 1.0f : request.head_mask[index];
      masks_[l].push_back(value);
      if (value != 1.0f) masked_[l] = true;
    }
  }
}

void Encoder::place(Layout& layout) {
  const int64_t tokens = slice_.tokens.rows();
  const int64_t rows = slice_.rows.rows();
  const int64_t width = config_.hidden_size;
  int64_t widest = 0;
  for (int32_t l = 0; l < plan_.layers; ++l) widest = std::max(widest, heads_width(l));

  state_ = layout.floats(tokens * width);
  attended_ = layout.floats(tokens * width);
  product_ = layout.floats(tokens * width);
  row_input_ = layout.floats(rows * width);
  projections_ = layout.floats(3 * tokens * widest);
  context_ = layout.floats(tokens * widest);
  wide_ = layout.floats(tokens * config_.intermediate_size);
  if (!plan_.backward) return;

  if (slice_.some_rows()) gradient_ = layout.floats(tokens * width);
  head_gradients_ =
      layout.floats(slice_.examples() * config_.num_hidden_layers * config_.num_attention_heads);
  for (int32_t l = plan_.lowest_layer(); l < config_.num_hidden_layers; ++l) {
    const int64_t layer_rows = row_count(l);
    const bool maps = slice_.captures(BERTOLOGY_ATTENTION_GRADIENTS, l);
    Kept& keep = kept_[static_cast<size_t>(l)];
    if (plan_.needs_input_gradient(l) || maps) {
      keep.query_key_value =
          layout.floats(layer_rows * heads_width(l) + 2 * tokens * heads_width(l));
      keep.log_sum_exp = layout.floats(layer_rows * layer(l).head_count());
    }
    keep.head_outputs = layout.floats(layer_rows * heads_width(l));
    keep.attention_sum = layout.floats(layer_rows * width);
    keep.attention_statistics = layout.floats(layer_rows * 2);
    keep.preactivation = layout.floats(layer_rows * config_.intermediate_size);
    keep.output_sum = layout.floats(layer_rows * width);
    keep.output_statistics = layout.floats(layer_rows * 2);
  }
}

Encoder::Projections Encoder::split(int32_t l, float* buffer) const {
  const int64_t width = heads_width(l);
  if (!some_rows(l)) return {buffer, buffer + width, buffer + 2 * width, 3 * width, 3 * width};
  float* keys = buffer + slice_.rows.rows() * width;
  return {buffer, keys, keys + width, width, 2 * width};
}

AttentionInputs Encoder::attention_inputs(int32_t l, float* query_key_value) const {
  const Projections at = split(l, query_key_value);
  AttentionInputs inputs;
  inputs.heads = layer(l).head_count();
  inputs.head_dim = config_.head_dim();
  inputs.queries = some_rows(l) ? slice_.rows : slice_.tokens;
  inputs.keys = slice_.tokens;
  inputs.query = at.query;
  inputs.key = at.key;
  inputs.value = at.value;
  inputs.query_stride = at.query_stride;
  inputs.key_stride = at.key_stride;
  inputs.scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim()));
  inputs.head_mask = masks_[static_cast<size_t>(l)].data();
  return inputs;
}

// ----------------------------------------------------------------------------------------------
// forward

const float* Encoder::forward(Stream& stream) {
  float* embedded = slice_.target(BERTOLOGY_HIDDEN_STATES, 0, state_);
  EmbeddingForward embedding;
  embedding.tokens = slice_.tokens.rows();
  embedding.width = config_.hidden_size;
  embedding.input_ids = slice_.input_ids;
  embedding.position_ids = slice_.position_ids;
  embedding.token_type_ids = slice_.token_type_ids;
  embedding.word = weights_.word.data();
  embedding.position = weights_.position.data();
  embedding.token_type = weights_.token_type.data();
  embedding.gamma = weights_.embedding_norm.gamma.data();
  embedding.beta = weights_.embedding_norm.beta.data();
  embedding.eps = config_.layer_norm_eps;
  embedding.output = embedded;
  embedding_forward(stream, embedding);
  slice_.publish(stream, BERTOLOGY_HIDDEN_STATES, 0);

  const float* state = embedded;
  for (int32_t l = 0; l < plan_.layers; ++l) state = layer_forward(stream, l, state);
  return state;
}

const float* Encoder::layer_forward(Stream& stream, int32_t l, const float* input) {
  const Layer& weights = layer(l);
  const Kept& keep = kept_[static_cast<size_t>(l)];
  const int64_t rows = row_count(l);
  const float* residual = input;
  if (some_rows(l)) {
    gather_rows(stream, {rows, config_.hidden_size, slice_.row_index, input, row_input_});
    residual = row_input_;
  }
  attention_forward(stream, l, input, product_);
  if (l == plan_.layers - 1 && plan_.stop_after_attention) return nullptr;

  LayerNormForward attention_norm;
  attention_norm.rows = rows;
  attention_norm.width = config_.hidden_size;
  attention_norm.input = product_;
  attention_norm.residual = residual;
  attention_norm.gamma = weights.attention_norm.gamma.data();
  attention_norm.beta = weights.attention_norm.beta.data();
  attention_norm.eps = config_.layer_norm_eps;
  attention_norm.output = attended_;
  attention_norm.sum = keep.attention_sum;
  attention_norm.statistics = keep.attention_statistics;
  layer_norm_forward(stream, attention_norm);

  LinearForward intermediate;
  intermediate.weight = weights.intermediate.weight.get();
  intermediate.bias = weights.intermediate.bias.data();
  intermediate.activation = config_.activation();
  intermediate.rows = rows;
  intermediate.input = attended_;
  intermediate.output = wide_;
  intermediate.preactivation = keep.preactivation;
  linear_forward(stream, intermediate);

  LinearForward output;
  output.weight = weights.output.weight.get();
  output.bias = weights.output.bias.data();
  output.rows = rows;
  output.input = wide_;
  output.output = product_;
  linear_forward(stream, output);

  LayerNormForward output_norm = attention_norm;
  output_norm.input = product_;
  output_norm.residual = attended_;
  output_norm.gamma = weights.output_norm.gamma.data();
  output_norm.beta = weights.output_norm.beta.data();
  output_norm.output = slice_.target(BERTOLOGY_HIDDEN_STATES, l + 1, state_);
  output_norm.sum = keep.output_sum;
  output_norm.statistics = keep.output_statistics;
  layer_norm_forward(stream, output_norm);
  slice_.publish(stream, BERTOLOGY_HIDDEN_STATES, l + 1);
  return output_norm.output;
}

/// Multi-head attention and its output product: output [R, D], without the residual.
void Encoder::attention_forward(Stream& stream, int32_t l, const float* input, float* output) {
  const Layer& weights = layer(l);
  const Kept& keep = kept_[static_cast<size_t>(l)];
  const int64_t rows = row_count(l);
  if (weights.head_count() == 0) {
    // All heads are gone: what is left of attention is the bias of its output product.
    broadcast_row(stream,
                  {rows, config_.hidden_size, weights.attention_output.bias.data(), output});
    return;
  }

  float* query_key_value = keep.query_key_value != nullptr ? keep.query_key_value : projections_;
  const Projections at = split(l, query_key_value);
  LinearForward project;
  project.weight = weights.query_key_value.weight.get();
  project.bias = weights.query_key_value.bias.data();
  project.parts = 3;
  project.rows = slice_.tokens.rows();
  project.input = input;
  project.output = at.query;
  if (some_rows(l)) {
    project.parts = 1;
    project.rows = rows;
    project.input = row_input_;
    linear_forward(stream, project);
    project.first_part = 1;
    project.parts = 2;
    project.rows = slice_.tokens.rows();
    project.input = input;
    project.output = at.key;
  }
  linear_forward(stream, project);

  const bool shows_outputs = slice_.captures(BERTOLOGY_HEAD_OUTPUTS, l);
  float* head_outputs = slice_.target(BERTOLOGY_HEAD_OUTPUTS, l, keep.head_outputs);
  AttentionForward attend;
  attend.inputs = attention_inputs(l, query_key_value);
  attend.inputs.compute_masked_heads = (plan_.backward && request_.masked_gradients) ||
                                       shows_outputs ||
                                       slice_.captures(BERTOLOGY_ATTENTION_ENTROPIES, l);
  if (masked_[static_cast<size_t>(l)]) {
    attend.context = context_;
    attend.head_outputs = head_outputs;
  } else {
    attend.context =
        head_outputs != nullptr ? head_outputs : context_;  // times 1 they are the same
  }
  attend.log_sum_exp = keep.log_sum_exp;
  attend.probabilities = slice_.target(BERTOLOGY_ATTENTIONS, l, nullptr);
  attend.entropies = slice_.target(BERTOLOGY_ATTENTION_ENTROPIES, l, nullptr);
  bertology::attention_forward(stream, attend);
  slice_.publish(stream, BERTOLOGY_ATTENTIONS, l);
  slice_.publish(stream, BERTOLOGY_ATTENTION_ENTROPIES, l);
  slice_.publish(stream, BERTOLOGY_HEAD_OUTPUTS, l);
  if (l == plan_.layers - 1 && plan_.stop_after_attention) return;

  LinearForward combine;
  combine.weight = weights.attention_output.weight.get();
  combine.bias = weights.attention_output.bias.data();
  combine.rows = rows;
  combine.input = attend.context;
  combine.output = output;
  linear_forward(stream, combine);
}

// ----------------------------------------------------------------------------------------------
// backward

void Encoder::backward(Stream& stream, float* d_rows) {
  const int64_t count = slice_.examples() * config_.num_hidden_layers * config_.num_attention_heads;
  for (const int32_t capture : {BERTOLOGY_HEAD_GRADIENTS, BERTOLOGY_TOKEN_HEAD_GRADIENTS}) {
    // Heads that are pruned or masked are not written.
    if (float* gradients = slice_.target(capture, 0, nullptr)) stream.zero(gradients, count);
  }
  float* gradient = d_rows;
  show_state_gradient(stream, config_.num_hidden_layers, gradient);
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

/// From the gradient of the layer's output, [R, D], overwritten, to that of its input, [T, D]; null
/// if nobody needs it.
float* Encoder::layer_backward(Stream& stream, int32_t l, float* d_output) {
  const Layer& weights = layer(l);
  const Kept& keep = kept_[static_cast<size_t>(l)];
  const int64_t rows = row_count(l);
  const int64_t width = config_.hidden_size;
  LayerNormBackward output_norm;
  output_norm.rows = rows;
  output_norm.width = width;
  output_norm.d_output = d_output;
  output_norm.sum = keep.output_sum;
  output_norm.statistics = keep.output_statistics;
  output_norm.gamma = weights.output_norm.gamma.data();
  output_norm.d_input = d_output;
  layer_norm_backward(stream, output_norm);

  LinearBackward output;
  output.weight = weights.output.weight.get();
  output.rows = rows;
  output.d_output = d_output;
  output.d_input = wide_;
  output.activation = config_.activation();
  output.preactivation = keep.preactivation;
  linear_backward(stream, output);

  LinearBackward intermediate;  // onto the residual's gradient
  intermediate.weight = weights.intermediate.weight.get();
  intermediate.rows = rows;
  intermediate.d_output = wide_;
  intermediate.d_input = d_output;
  intermediate.accumulate = true;
  linear_backward(stream, intermediate);

  LayerNormBackward attention_norm = output_norm;
  attention_norm.sum = keep.attention_sum;
  attention_norm.statistics = keep.attention_statistics;
  attention_norm.gamma = weights.attention_norm.gamma.data();
  layer_norm_backward(stream, attention_norm);

  const bool goes_on = plan_.needs_input_gradient(l);
  const Projections d_projections = split(l, projections_);
  if (weights.head_count() > 0) {
    LinearBackward combine;
    combine.weight = weights.attention_output.weight.get();
    combine.rows = rows;
    combine.d_output = d_output;
    combine.d_input = context_;
    linear_backward(stream, combine);
    attention_backward(stream, l, context_, goes_on ? &d_projections : nullptr);
  }
  if (!goes_on) return nullptr;

  LinearBackward project;  // onto the residual's gradient
  project.weight = weights.query_key_value.weight.get();
  project.parts = 3;
  project.rows = rows;
  project.d_output = d_projections.query;
  project.d_input = d_output;
  project.accumulate = true;
  if (!some_rows(l)) {
    if (weights.head_count() > 0) linear_backward(stream, project);
    return d_output;
  }
  if (weights.head_count() == 0) {
    stream.zero(gradient_, slice_.tokens.rows() * width);
  } else {
    project.parts = 1;
    linear_backward(stream, project);
    project.first_part = 1;
    project.parts = 2;
    project.rows = slice_.tokens.rows();
    project.d_output = d_projections.key;
    project.d_input = gradient_;
    project.accumulate = false;
    linear_backward(stream, project);
  }
  scatter_rows(stream, {rows, width, slice_.row_index, d_output, gradient_, true});
  return gradient_;
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
  attend.inputs = attention_inputs(l, query_key_value);
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
  if (float* token_gradients = slice_.target(BERTOLOGY_TOKEN_HEAD_GRADIENTS, 0, nullptr)) {
    attend.token_head_gradients = token_gradients + layer_start;
  }
  attend.d_head_outputs = slice_.target(BERTOLOGY_HEAD_OUTPUT_GRADIENTS, l, nullptr);
  attend.d_probabilities =
      maps ? slice_.target(BERTOLOGY_ATTENTION_GRADIENTS, l, nullptr) : nullptr;
  bertology::attention_backward(stream, attend);
  slice_.publish(stream, BERTOLOGY_HEAD_OUTPUT_GRADIENTS, l);
  slice_.publish(stream, BERTOLOGY_ATTENTION_GRADIENTS, l);
}

}  // namespace bertology
