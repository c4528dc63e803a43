#include "model/task_heads.h"

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
    transform_sums_ = layout.floats(rows * width);
    transformed_ = layout.floats(rows * width);
    norm_sums_ = layout.floats(rows * width);
    norm_statistics_ = layout.floats(rows * 2);
    const bool shown = slice_.captures(BERTOLOGY_TOKEN_LOGITS);
    if (!shown) token_logits_ = layout.floats(rows * config_.vocab_size);
    d_token_logits_ = token_logits_;
    if (shown && plan_.backward) d_token_logits_ = layout.floats(rows * config_.vocab_size);
    row_losses_ = layout.floats(rows);
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
  pooling.mean = config_.pooling == BERTOLOGY_MEAN || config_.pooling == BERTOLOGY_MEAN_NORMALIZED;
  pooling.normalize =
      config_.pooling == BERTOLOGY_CLS_NORMALIZED || config_.pooling == BERTOLOGY_MEAN_NORMALIZED;
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

void TaskHeads::predict(Stream& stream, const float* states) {
  const MaskedLmHead& head = weights_.masked_lm;
  const int64_t rows = slice_.rows.rows();
  LinearForward transform;
  transform.weight = head.transform.weight.get();
  transform.bias = head.transform.bias.data();
  transform.activation = config_.activation();
  transform.rows = rows;
  transform.input = states;
  transform.output = transformed_;
  transform.preactivation = transform_sums_;
  linear_forward(stream, transform);

  LayerNormForward norm;
  norm.rows = rows;
  norm.width = config_.hidden_size;
  norm.input = transformed_;
  norm.gamma = head.norm.gamma.data();
  norm.beta = head.norm.beta.data();
  norm.eps = config_.layer_norm_eps;
  norm.output = transformed_;
  norm.sum = norm_sums_;
  norm.statistics = norm_statistics_;
  layer_norm_forward(stream, norm);

  token_logits_ = slice_.target(BERTOLOGY_TOKEN_LOGITS, 0, token_logits_);
  LinearForward decode;
  decode.weight = head.decoder.get();
  decode.bias = head.bias.data();
  decode.rows = rows;
  decode.input = transformed_;
  decode.output = token_logits_;
  linear_forward(stream, decode);
  slice_.publish(stream, BERTOLOGY_TOKEN_LOGITS);
  if (!loss_wanted() || request_.loss != BERTOLOGY_MASKED_LM) return;

  CrossEntropy loss;
  loss.rows = rows;
  loss.classes = config_.vocab_size;
  loss.logits = token_logits_;
  loss.labels = slice_.row_labels;
  loss.weights = slice_.row_weights;
  loss.losses = row_losses_;
  loss.d_logits = plan_.backward ? d_token_logits_ : nullptr;
  cross_entropy(stream, loss);
  if (slice_.captures(BERTOLOGY_LOSS)) {
    row_losses_host_.resize(static_cast<size_t>(rows));
    stream.to_host(row_losses_host_.data(), row_losses_,
                   rows * static_cast<int64_t>(sizeof(float)));
  }
}

void TaskHeads::finish() {
  if (row_losses_host_.empty()) return;
  float* losses = slice_.result(BERTOLOGY_LOSS);
  for (int64_t b = 0; b < slice_.examples(); ++b) {
    double total = 0;
    for (int64_t r = slice_.rows.offsets[b]; r < slice_.rows.offsets[b + 1]; ++r) {
      total += row_losses_host_[static_cast<size_t>(r)];  // 0 without a label
    }
    losses[b] =
        static_cast<float>(total / static_cast<double>(slice_.labelled()[static_cast<size_t>(b)]));
  }
}

float* TaskHeads::backward(Stream& stream) {
  if (request_.loss == BERTOLOGY_MASKED_LM) {
    predictor_backward(stream);
  } else {
    classifier_backward(stream);
  }
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
  pooling.mean = config_.pooling == BERTOLOGY_MEAN || config_.pooling == BERTOLOGY_MEAN_NORMALIZED;
  pooling.normalize =
      config_.pooling == BERTOLOGY_CLS_NORMALIZED || config_.pooling == BERTOLOGY_MEAN_NORMALIZED;
  pooling.d_output = pooler ? d_vectors_ : d_pooled_;
  pooling.output = pooler ? vectors_ : pooled_;
  pooling.lengths = vector_lengths_;
  pooling.d_input = d_states_;
  pooling_backward(stream, pooling);
}

void TaskHeads::predictor_backward(Stream& stream) {
  const MaskedLmHead& head = weights_.masked_lm;
  const int64_t rows = slice_.rows.rows();
  LinearBackward decode;
  decode.weight = head.decoder.get();
  decode.rows = rows;
  decode.d_output = d_token_logits_;
  decode.d_input = transformed_;
  linear_backward(stream, decode);

  LayerNormBackward norm;
  norm.rows = rows;
  norm.width = config_.hidden_size;
  norm.d_output = transformed_;
  norm.sum = norm_sums_;
  norm.statistics = norm_statistics_;
  norm.gamma = head.norm.gamma.data();
  norm.d_input = transformed_;
  layer_norm_backward(stream, norm);

  activation_backward(
      stream, {config_.activation(), rows * config_.hidden_size, transform_sums_, transformed_});

  LinearBackward transform;
  transform.weight = head.transform.weight.get();
  transform.rows = rows;
  transform.d_output = transformed_;
  transform.d_input = d_states_;
  linear_backward(stream, transform);
}

}  // namespace bertology
