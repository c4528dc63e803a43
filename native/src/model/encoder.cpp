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
  kept_.resize(layers);
  for (size_t l = 0; l < layers; ++l) {
    for (const int32_t head : weights.layers[l].heads) {
      const size_t index =
          l * static_cast<size_t>(config.num_attention_heads) + static_cast<size_t>(head);
      masks_[l].push_back(request.head_mask.empty() ? 1.0f : request.head_mask[index]);
    }
  }
}

int64_t Encoder::widest_heads() const {
  int64_t widest = 0;
  for (int32_t l = 0; l < plan_.layers; ++l) widest = std::max(widest, heads_width(l));
  return widest;
}

void Encoder::place(Layout& layout) {
  const int64_t tokens = slice_.tokens.rows();
  const int64_t rows = slice_.rows.rows();
  const int64_t width = config_.hidden_size;
  const int64_t widest = widest_heads();

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

AttentionInputs Encoder::attention_inputs(int32_t l, float* query_key_value,
                                          const float* mask) const {
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
  inputs.head_mask = mask;
  inputs.dtype = static_cast<DType>(config_.dtype);
  return inputs;
}

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
  const float* state = embed(stream);
  for (int32_t l = 0; l < plan_.layers; ++l) state = layer_forward(stream, l, state);
  return state;
}

float* Encoder::embed(Stream& stream) {
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
  return embedded;
}

/// From a layer's input, [T, D], to its output, [R, D]: of the last layer, behind the final norm if
/// there is one. Null if the plan stops before it.
const float* Encoder::layer_forward(Stream& stream, int32_t l, const float* input) {
  const float* residual = rows_forward(stream, l, input);
  const float* context =
      heads_forward(stream, l, input, masks_[static_cast<size_t>(l)].data(), context_);
  if (l == plan_.layers - 1 && plan_.stop_after_attention) return nullptr;
  return blocks_forward(stream, l, residual, context, state_at(l + 1));
}

/// Takes the rows of the layer's input that are queries, where only some are; they are what is
/// added to the attention's output.
const float* Encoder::rows_forward(Stream& stream, int32_t l, const float* input) {
  if (!some_rows(l)) return input;
  const int64_t rows = row_count(l);
  const int64_t width = config_.hidden_size;
  gather_rows(stream, {rows, width, slice_.row_index, input, row_residual_});
  if (config_.norm_first())
    gather_rows(stream, {rows, width, slice_.row_index, normed_, row_normed_});
  return row_residual_;
}

const float* Encoder::blocks_forward(Stream& stream, int32_t l, const float* residual,
                                     const float* context, float* output) {
  const Layer& weights = layer(l);
  const Kept& keep = kept_[static_cast<size_t>(l)];
  const int64_t rows = row_count(l);
  combine_heads(stream, l, context, product_);
  if (!config_.norm_first()) {
    norm_forward(stream, weights.attention_norm, rows, product_, residual, attended_,
                 keep.attention_norm.input, keep.attention_norm.statistics);
    feed_forward(stream, l, attended_, product_);
    norm_forward(stream, weights.output_norm, rows, product_, attended_, output,
                 keep.output_norm.input, keep.output_norm.statistics);
    slice_.publish(stream, BERTOLOGY_HIDDEN_STATES, l + 1);
    return output;
  }

  float* attended = keep.output_norm.input != nullptr ? keep.output_norm.input : attended_;
  norm_forward(stream, weights.output_norm, rows, product_, residual, normed_, attended,
               keep.output_norm.statistics);
  feed_forward(stream, l, normed_, product_);
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

const float* Encoder::heads_forward(Stream& stream, int32_t l, const float* input,
                                    const float* mask, float* context) {
  const Layer& weights = layer(l);
  const Kept& keep = kept_[static_cast<size_t>(l)];
  if (weights.head_count() == 0) return nullptr;

  const float* seen = config_.norm_first() ? normed_ : input;
  float* query_key_value = keep.query_key_value != nullptr ? keep.query_key_value : projections_;
  const Projections at = split(l, query_key_value);
  LinearForward project;
  project.weight = weights.query_key_value.weight.get();
  project.bias = weights.query_key_value.bias.data();
  project.parts = 3;
  project.rows = slice_.tokens.rows();
  project.input = seen;
  project.output = at.query;
  if (some_rows(l)) {
    project.parts = 1;
    project.rows = row_count(l);
    project.input = config_.norm_first() ? row_normed_ : row_residual_;
    linear_forward(stream, project);
    project.first_part = 1;
    project.parts = 2;
    project.rows = slice_.tokens.rows();
    project.input = seen;
    project.output = at.key;
  }
  linear_forward(stream, project);

  const bool shows_outputs = slice_.captures(BERTOLOGY_HEAD_OUTPUTS, l);
  float* head_outputs = slice_.target(BERTOLOGY_HEAD_OUTPUTS, l, keep.head_outputs);
  AttentionForward attend;
  attend.inputs = attention_inputs(l, query_key_value, mask);
  attend.inputs.compute_masked_heads = (plan_.backward && request_.masked_gradients) ||
                                       shows_outputs ||
                                       slice_.captures(BERTOLOGY_ATTENTION_ENTROPIES, l);
  const bool masks =
      std::any_of(mask, mask + weights.head_count(), [](float value) { return value != 1.0f; });
  attend.context = context;
  if (masks) {
    attend.head_outputs = head_outputs;
  } else if (head_outputs != nullptr) {
    attend.context = head_outputs;  // times 1 they are the same
  }
  attend.log_sum_exp = keep.log_sum_exp;
  attend.probabilities = slice_.target(BERTOLOGY_ATTENTIONS, l, nullptr);
  attend.entropies = slice_.target(BERTOLOGY_ATTENTION_ENTROPIES, l, nullptr);
  attention_forward(stream, attend);
  slice_.publish(stream, BERTOLOGY_ATTENTIONS, l);
  slice_.publish(stream, BERTOLOGY_ATTENTION_ENTROPIES, l);
  slice_.publish(stream, BERTOLOGY_HEAD_OUTPUTS, l);
  return attend.context;
}

/// The attention's output product, without the residual. context: [R, A]; output: [R, D].
void Encoder::combine_heads(Stream& stream, int32_t l, const float* context, float* output) {
  const Layer& weights = layer(l);
  if (weights.head_count() == 0) {
    // All heads are gone: what is left of attention is the bias of its output product.
    broadcast_row(
        stream, {row_count(l), config_.hidden_size, weights.attention_output.bias.data(), output});
    return;
  }
  LinearForward combine;
  combine.weight = weights.attention_output.weight.get();
  combine.bias = weights.attention_output.bias.data();
  combine.rows = row_count(l);
  combine.input = context;
  combine.output = output;
  linear_forward(stream, combine);
}

}  // namespace bertology
