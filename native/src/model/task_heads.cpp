#include "model/task_heads.h"

#include <algorithm>

#include "ops/activation.h"

namespace bertology {

TaskHeads::TaskHeads(const Config& config, const Weights& weights, const Plan& plan,
                     const Request& request, const Slice& slice)
    : config_(config), weights_(weights), plan_(plan), request_(request), slice_(slice) {}

void TaskHeads::place(Layout& layout) {
  const int64_t examples = slice_.examples();
  const int64_t rows = slice_.rows.rows();
  const int64_t width = config_.hidden_size;
  if (plan_.pools) {
    vectors_ = layout.floats(examples * width);
    vector_lengths_ = layout.floats(examples);
    pooler_sums_ = layout.floats(examples * width);
    pooled_ = layout.floats(examples * width);
  }
  if (plan_.classifies) {
    logits_ = layout.floats(examples * config_.num_labels);
    losses_ = layout.floats(examples);
  }
  if (plan_.predicts) {
    const int64_t vocabulary = config_.vocab_size;
    chunk_ = std::min(slice_.predicted(), weights_.backend().tokens_per_pass(true));
    if (gathers()) gathered_ = layout.floats(chunk_ * width);
    if (config_.bert()) {
      transform_sums_ = layout.floats(chunk_ * width);
      transformed_ = layout.floats(chunk_ * width);
      norm_sums_ = layout.floats(chunk_ * width);
      norm_statistics_ = layout.floats(chunk_ * 2);
    }
    const bool shown = slice_.captures(BERTOLOGY_TOKEN_LOGITS);
    const bool differentiated = plan_.backward && request_.predicts_tokens();
    if (!shown || differentiated) d_token_logits_ = layout.floats(chunk_ * vocabulary);
    token_logits_ = slice_.target(BERTOLOGY_TOKEN_LOGITS, 0, d_token_logits_);
    token_losses_ = layout.floats(slice_.predicted());
    if (finishes()) token_losses_host_.resize(static_cast<size_t>(slice_.predicted()));
  }
  if (plan_.backward) {
    d_states_ = layout.floats(rows * width);
    if (plan_.classifies) {
      d_logits_ = layout.floats(examples * config_.num_labels);
      d_pooled_ = layout.floats(examples * width);
      d_vectors_ = layout.floats(examples * width);
    }
  }
}

int64_t TaskHeads::staged_bytes(const Stream& stream) const {
  return stream.staged_bytes(token_losses_host_.data(), token_losses_bytes());
}

void TaskHeads::forward(Stream& stream, const float* states) {
  if (plan_.pools) pool(stream, states);
  if (plan_.classifies) classify(stream);
  if (plan_.predicts) predict(stream, states);
}

void TaskHeads::pool(Stream& stream, const float* states) {
  const bool pooler = config_.pooling == BERTOLOGY_POOLER;
  float* shown = slice_.target(BERTOLOGY_POOLER_OUTPUT, 0, pooled_);
  PoolingForward pooling;
  pooling.sequences = slice_.rows;
  pooling.width = config_.hidden_size;
  pooling.pooled = pooled_rows();
  pooling.normalize = normalizes();
  pooling.input = states;
  pooling.output = pooler ? vectors_ : shown;
  pooling.lengths = vector_lengths_;
  pooling_forward(stream, pooling);
  if (pooler) {
    LinearForward dense;
    dense.weight = weights_.pooler.weight.get();
    dense.bias = weights_.pooler.bias.data();
    dense.activation = Activation::kTanh;
    dense.rows = slice_.examples();
    dense.input = vectors_;
    dense.output = shown;
    dense.preactivation = pooler_sums_;
    linear_forward(stream, dense);
  }
  slice_.publish(stream, BERTOLOGY_POOLER_OUTPUT);
  pooled_ = shown;
}

void TaskHeads::classify(Stream& stream) {
  logits_ = slice_.target(BERTOLOGY_LOGITS, 0, logits_);
  LinearForward dense;
  dense.weight = weights_.classifier.weight.get();
  dense.bias = weights_.classifier.bias.data();
  dense.rows = slice_.examples();
  dense.input = pooled_;
  dense.output = logits_;
  linear_forward(stream, dense);
  slice_.publish(stream, BERTOLOGY_LOGITS);
  if (!loss_wanted()) return;

  float* losses = slice_.target(BERTOLOGY_LOSS, 0, losses_);
  if (request_.loss == BERTOLOGY_CLASSIFICATION) {
    CrossEntropy loss;
    loss.rows = slice_.examples();
    loss.classes = config_.num_labels;
    loss.logits = logits_;
    loss.labels = slice_.labels;
    loss.losses = losses;
    loss.d_logits = d_logits_;
    cross_entropy(stream, loss);
  } else if (request_.loss == BERTOLOGY_REGRESSION) {
    squared_error(stream, {slice_.examples(), logits_, slice_.targets, losses, d_logits_});
  } else {
    return;
  }
  slice_.publish(stream, BERTOLOGY_LOSS);
}

PooledRows TaskHeads::pooled_rows() const {
  switch (config_.pooling) {
    case BERTOLOGY_MEAN:
    case BERTOLOGY_MEAN_NORMALIZED:
      return PooledRows::kMean;
    case BERTOLOGY_LAST:
      return PooledRows::kLast;
    default:
      return PooledRows::kFirst;
  }
}

bool TaskHeads::normalizes() const {
  return config_.pooling == BERTOLOGY_CLS_NORMALIZED ||
         config_.pooling == BERTOLOGY_MEAN_NORMALIZED;
}

void TaskHeads::predict(Stream& stream, const float* states) {
  token_losses_ = slice_.target(BERTOLOGY_TOKEN_LOSSES, 0, token_losses_);
  if (plan_.backward && request_.predicts_tokens() && gathers())
    stream.zero(d_states_, slice_.rows.rows() * config_.hidden_size);
  for (int64_t first = 0; first < slice_.predicted(); first += chunk_) {
    predict_some(stream, states, first, std::min(chunk_, slice_.predicted() - first));
  }
  for (const int32_t capture :
       {BERTOLOGY_TOKEN_LOGITS, BERTOLOGY_TOKEN_LOSSES, BERTOLOGY_TOKEN_PREDICTIONS}) {
    slice_.publish(stream, capture);
  }
  if (finishes()) stream.to_host(token_losses_host_.data(), token_losses_, token_losses_bytes());
}

/// Logits of the predicting rows first ... first + count, their losses, and the gradients of these
/// with respect to the states.
void TaskHeads::predict_some(Stream& stream, const float* states, int64_t first, int64_t count) {
  const LanguageModelHead& head = weights_.language_model;
  const int64_t width = config_.hidden_size;
  const bool shown = slice_.captures(BERTOLOGY_TOKEN_LOGITS);
  const int64_t* rows = slice_.predicted_rows + first;
  const float* input = states + first * width;
  if (gathers()) {
    gather_rows(stream, {count, width, rows, states, gathered_});
    input = gathered_;
  }
  if (config_.bert()) {
    LinearForward transform;
    transform.weight = head.transform.weight.get();
    transform.bias = head.transform.bias.data();
    transform.activation = config_.activation();
    transform.rows = count;
    transform.input = input;
    transform.output = transformed_;
    transform.preactivation = transform_sums_;
    linear_forward(stream, transform);

    LayerNormForward norm;
    norm.rows = count;
    norm.width = width;
    norm.input = transformed_;
    norm.gamma = head.norm.gamma.data();
    norm.beta = head.norm.beta.data();
    norm.eps = config_.layer_norm_eps;
    norm.output = transformed_;
    norm.sum = norm_sums_;
    norm.statistics = norm_statistics_;
    layer_norm_forward(stream, norm);
    input = transformed_;
  }

  LinearForward decode;
  decode.weight = head.decoder.get();
  decode.bias = head.bias.data();
  decode.rows = count;
  decode.input = input;
  decode.output = shown ? token_logits_ + first * config_.vocab_size : token_logits_;
  linear_forward(stream, decode);

  const bool differentiates = plan_.backward && request_.predicts_tokens();
  CrossEntropy loss;
  loss.rows = count;
  loss.classes = config_.vocab_size;
  loss.logits = decode.output;
  if (token_loss_wanted()) {
    loss.labels = slice_.token_labels + first;
    loss.weights = slice_.token_weights + first;
    loss.losses = token_losses_ + first;
    loss.d_logits = differentiates ? d_token_logits_ : nullptr;
  }
  if (float* predictions = slice_.target(BERTOLOGY_TOKEN_PREDICTIONS, 0, nullptr))
    loss.predictions = predictions + first;
  if (loss.labels != nullptr || loss.predictions != nullptr) cross_entropy(stream, loss);
  if (!differentiates) return;

  float* d_input = gathers() ? gathered_ : d_states_ + first * width;
  LinearBackward decode_backward;
  decode_backward.weight = head.decoder.get();
  decode_backward.rows = count;
  decode_backward.d_output = d_token_logits_;
  decode_backward.d_input = config_.bert() ? transformed_ : d_input;
  linear_backward(stream, decode_backward);
  if (config_.bert()) transform_backward(stream, count, d_input);
  if (gathers()) scatter_rows(stream, {count, width, rows, gathered_, d_states_, false});
}

/// BERT's layers between the states and the decoder, from the gradient in transformed_.
void TaskHeads::transform_backward(Stream& stream, int64_t count, float* d_states) {
  const LanguageModelHead& head = weights_.language_model;
  LayerNormBackward norm;
  norm.rows = count;
  norm.width = config_.hidden_size;
  norm.d_output = transformed_;
  norm.sum = norm_sums_;
  norm.statistics = norm_statistics_;
  norm.gamma = head.norm.gamma.data();
  norm.d_input = transformed_;
  layer_norm_backward(stream, norm);

  activation_backward(
      stream, {config_.activation(), count * config_.hidden_size, transform_sums_, transformed_});

  LinearBackward transform;
  transform.weight = head.transform.weight.get();
  transform.rows = count;
  transform.d_output = transformed_;
  transform.d_input = d_states;
  linear_backward(stream, transform);
}

void TaskHeads::finish() {
  if (!finishes()) return;
  float* losses = slice_.result(BERTOLOGY_LOSS);
  for (int64_t b = 0; b < slice_.examples(); ++b) {
    const size_t example = static_cast<size_t>(b);
    double total = 0;
    for (int64_t p = slice_.predicted_offsets()[example];
         p < slice_.predicted_offsets()[example + 1]; ++p) {
      total += token_losses_host_[static_cast<size_t>(p)];  // 0 without a label
    }
    losses[b] = static_cast<float>(total / static_cast<double>(slice_.labelled()[example]));
  }
}

float* TaskHeads::backward(Stream& stream) {
  // A language model's gradients are there already: they are made while the logits are hot.
  if (!request_.predicts_tokens()) classifier_backward(stream);
  return d_states_;
}

void TaskHeads::classifier_backward(Stream& stream) {
  const bool pooler = config_.pooling == BERTOLOGY_POOLER;
  LinearBackward dense;
  dense.weight = weights_.classifier.weight.get();
  dense.rows = slice_.examples();
  dense.d_output = d_logits_;
  dense.d_input = d_pooled_;
  if (pooler) {
    dense.activation = Activation::kTanh;
    dense.preactivation = pooler_sums_;
  }
  linear_backward(stream, dense);
  if (pooler) {
    LinearBackward pool;
    pool.weight = weights_.pooler.weight.get();
    pool.rows = slice_.examples();
    pool.d_output = d_pooled_;
    pool.d_input = d_vectors_;
    linear_backward(stream, pool);
  }
  PoolingBackward pooling;
  pooling.sequences = slice_.rows;
  pooling.width = config_.hidden_size;
  pooling.pooled = pooled_rows();
  pooling.normalize = normalizes();
  pooling.d_output = pooler ? d_vectors_ : d_pooled_;
  pooling.output = pooler ? vectors_ : pooled_;
  pooling.lengths = vector_lengths_;
  pooling.d_input = d_states_;
  pooling_backward(stream, pooling);
}

}  // namespace bertology
