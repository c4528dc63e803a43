#include "model/encoder.h"

#include <algorithm>

#include "base/error.h"

namespace bertology {

Encoder::Encoder(const Config& config, const Weights& weights, const Plan& plan,
                 const Request& request, const Slice& slice, double* head_sums)
    : config_(config),
      weights_(weights),
      plan_(plan),
      request_(request),
      slice_(slice),
      head_sums_(head_sums) {
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
  const bool some = slice_.some_rows();
  if (some) row_residual_ = layout.floats(rows * width);
  if (config_.norm_first()) {
    normed_ = layout.floats(tokens * width);
    if (some) row_normed_ = layout.floats(rows * width);
  }
  projections_ = layout.floats(3 * tokens * widest);
  context_ = layout.floats(tokens * widest);
  wide_ = layout.floats(tokens * config_.intermediate_size);
  if (!plan_.backward) return;

  if (slice_.some_rows()) gradient_ = layout.floats(tokens * width);
  const int64_t all_heads =
      slice_.examples() * config_.num_hidden_layers * config_.num_attention_heads;
  head_gradients_ = layout.floats(all_heads);
  if (request_.accumulator != nullptr) token_head_gradients_ = layout.floats(all_heads);
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
    const int64_t attention_rows = config_.norm_first() ? tokens : layer_rows;
    // The input of a norm before the block is the layer's own, which may be captured as it is.
    if (!config_.norm_first() || !slice_.captures(BERTOLOGY_HIDDEN_STATES, l))
      keep.attention_norm.input = layout.floats(attention_rows * width);
    keep.attention_norm.statistics = layout.floats(attention_rows * 2);
    keep.preactivation = layout.floats(layer_rows * config_.intermediate_size);
    keep.output_norm.input = layout.floats(layer_rows * width);
    keep.output_norm.statistics = layout.floats(layer_rows * 2);
  }
  if (config_.norm_first()) {
    if (!slice_.captures(BERTOLOGY_LAST_BLOCK_STATE))
      kept_final_norm_.input = layout.floats(rows * width);
    kept_final_norm_.statistics = layout.floats(rows * 2);
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
  inputs.scale = config_.attention_scale(l);
  // Of a causal model, only the last token of each sequence is ever some rows: it sees all keys.
  inputs.causal = config_.causal() && !some_rows(l);
  inputs.head_mask = masks_[static_cast<size_t>(l)].data();
  inputs.dtype = static_cast<DType>(config_.dtype);
  return inputs;
}

// ----------------------------------------------------------------------------------------------
// forward

/// Where the input of layer l goes; with norms before the blocks and l the number of layers, the
/// input of the final norm.
float* Encoder::state_at(int32_t l) const {
  if (!config_.norm_first()) return slice_.target(BERTOLOGY_HIDDEN_STATES, l, state_);
  const bool final = l == config_.num_hidden_layers;
  float* kept = final ? kept_final_norm_.input : kept_[static_cast<size_t>(l)].attention_norm.input;
  float* otherwise = kept != nullptr ? kept : state_;
  return final ? slice_.target(BERTOLOGY_LAST_BLOCK_STATE, 0, otherwise)
               : slice_.target(BERTOLOGY_HIDDEN_STATES, l, otherwise);
}

const float* Encoder::forward(Stream& stream) {
  float* embedded = state_at(0);
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

  if (config_.norm_first() && plan_.layers > 0) {
    norm_forward(stream, layer(0).attention_norm, slice_.tokens.rows(), embedded, nullptr, normed_,
                 nullptr, kept_[0].attention_norm.statistics);
  }
  const float* state = embedded;
  for (int32_t l = 0; l < plan_.layers; ++l) state = layer_forward(stream, l, state);
  return state;
}

/// From a layer's input, [T, D], to its output, [R, D]: of the last layer, behind the final norm if
/// there is one. Null if the plan stops before it.
const float* Encoder::layer_forward(Stream& stream, int32_t l, const float* input) {
  const Layer& weights = layer(l);
  const Kept& keep = kept_[static_cast<size_t>(l)];
  const bool first = config_.norm_first();
  const int64_t rows = row_count(l);
  const int64_t width = config_.hidden_size;
  const float* residual = input;
  const float* seen = first ? normed_ : input;
  const float* seen_rows = seen;
  if (some_rows(l)) {
    gather_rows(stream, {rows, width, slice_.row_index, input, row_residual_});
    residual = seen_rows = row_residual_;
    if (first) {
      gather_rows(stream, {rows, width, slice_.row_index, normed_, row_normed_});
      seen_rows = row_normed_;
    }
  }
  attention_forward(stream, l, seen, seen_rows, product_);
  if (l == plan_.layers - 1 && plan_.stop_after_attention) return nullptr;

  if (!first) {
    norm_forward(stream, weights.attention_norm, rows, product_, residual, attended_,
                 keep.attention_norm.input, keep.attention_norm.statistics);
    feed_forward(stream, l, attended_, product_);
    float* output = state_at(l + 1);
    norm_forward(stream, weights.output_norm, rows, product_, attended_, output,
                 keep.output_norm.input, keep.output_norm.statistics);
    slice_.publish(stream, BERTOLOGY_HIDDEN_STATES, l + 1);
    return output;
  }

  float* attended = keep.output_norm.input != nullptr ? keep.output_norm.input : attended_;
  norm_forward(stream, weights.output_norm, rows, product_, residual, normed_, attended,
               keep.output_norm.statistics);
  feed_forward(stream, l, normed_, product_);
  float* output = state_at(l + 1);
  if (l + 1 < config_.num_hidden_layers) {
    norm_forward(stream, layer(l + 1).attention_norm, rows, product_, attended, normed_, output,
                 kept_[static_cast<size_t>(l) + 1].attention_norm.statistics);
    slice_.publish(stream, BERTOLOGY_HIDDEN_STATES, l + 1);
    return output;
  }
  float* normed = slice_.target(BERTOLOGY_HIDDEN_STATES, l + 1, normed_);
  norm_forward(stream, weights_.final_norm, rows, product_, attended, normed, output,
               kept_final_norm_.statistics);
  slice_.publish(stream, BERTOLOGY_LAST_BLOCK_STATE);
  slice_.publish(stream, BERTOLOGY_HIDDEN_STATES, l + 1);
  return normed;
}

void Encoder::norm_forward(Stream& stream, const Norm& norm, int64_t rows, const float* input,
                           const float* residual, float* output, float* sum, float* statistics) {
  LayerNormForward op;
  op.rows = rows;
  op.width = config_.hidden_size;
  op.input = input;
  op.residual = residual;
  op.gamma = norm.gamma.data();
  op.beta = norm.beta.data();
  op.eps = config_.layer_norm_eps;
  op.output = output;
  op.sum = sum;
  op.statistics = statistics;
  layer_norm_forward(stream, op);
}

/// input and output: [R, D]
void Encoder::feed_forward(Stream& stream, int32_t l, const float* input, float* output) {
  const Layer& weights = layer(l);
  LinearForward widen;
  widen.weight = weights.intermediate.weight.get();
  widen.bias = weights.intermediate.bias.data();
  widen.activation = config_.activation();
  widen.rows = row_count(l);
  widen.input = input;
  widen.output = wide_;
  widen.preactivation = kept_[static_cast<size_t>(l)].preactivation;
  linear_forward(stream, widen);

  LinearForward narrow;
  narrow.weight = weights.output.weight.get();
  narrow.bias = weights.output.bias.data();
  narrow.rows = row_count(l);
  narrow.input = wide_;
  narrow.output = output;
  linear_forward(stream, narrow);
}

/// Multi-head attention and its output product. input: [T, D], row_input: [R, D], its rows that are
/// queries; output: [R, D], without the residual.
void Encoder::attention_forward(Stream& stream, int32_t l, const float* input,
                                const float* row_input, float* output) {
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
    project.input = row_input;
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
