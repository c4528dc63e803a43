#include "bertology/operations.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace bertology {
namespace {

constexpr int64_t kFloat = sizeof(float);

constexpr std::array<const char*, BERTOLOGY_OPERATION_COUNT> kNames = {"embedding",
                                                                       "query_key_value",
                                                                       "attention_forward",
                                                                       "attention_forward_maps",
                                                                       "attention_output",
                                                                       "layer_norm",
                                                                       "intermediate",
                                                                       "output",
                                                                       "pooling",
                                                                       "gather_rows",
                                                                       "cross_entropy",
                                                                       "activation_backward",
                                                                       "layer_norm_backward",
                                                                       "output_backward",
                                                                       "intermediate_backward",
                                                                       "attention_output_backward",
                                                                       "head_gradients",
                                                                       "attention_backward",
                                                                       "attention_backward_maps",
                                                                       "query_key_value_backward"};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

const char* operation_name(int32_t operation) {
  check_argument(operation >= 0 && operation < BERTOLOGY_OPERATION_COUNT, "operation ", operation,
                 " does not exist: there are 0 to ", BERTOLOGY_OPERATION_COUNT - 1);
  return kNames[static_cast<size_t>(operation)];
}

Operation::Operation(std::shared_ptr<Backend> backend, int32_t operation, const Config& config,
                     int32_t examples, int32_t length)
    : backend_(std::move(backend)),
      stream_(backend_->stream()),
      config_(config),
      examples_(examples),
      length_(length),
      tokens_(examples_ * length_),
      width_(config.hidden_size) {
  operation_name(operation);
  constexpr int64_t kMostTokens = 1 << 20;
  check_argument(examples > 0 && length > 0 && tokens_ <= kMostTokens, "operation: ", examples,
                 " texts of ", length, " tokens, expected one or more of each and ", kMostTokens,
                 " tokens at most");
  const DType dtype = static_cast<DType>(config_.dtype);
  check_argument(backend_->supports(dtype), "dtype: ", name_of(dtype),
                 " products are not supported at hardware speed here");
  for (int64_t b = 0; b <= examples_; ++b) {
    offsets_.push_back(b * length_);
    pairs_.push_back(b * length_ * length_);
  }
  Room room;
  room.rows = tokens_;
  room.width = std::max(3 * config_.hidden_size, config_.intermediate_size);
  room.heads = config_.num_attention_heads;
  room.dtype = dtype;
  stream_->reserve(room);
  prepare(operation);
}

void Operation::prepare(int32_t operation) {
  const int64_t intermediate = config_.intermediate_size;
  const Activation activation = config_.activation();
  constexpr Activation kNone = Activation::kNone;
  switch (operation) {
    case BERTOLOGY_OPERATION_EMBEDDING:
      return embedding();
    case BERTOLOGY_OPERATION_QUERY_KEY_VALUE:
      return linear_forward(3 * width_, width_, 3, kNone);
    case BERTOLOGY_OPERATION_ATTENTION_FORWARD:
      return attention_forward(false);
    case BERTOLOGY_OPERATION_ATTENTION_FORWARD_MAPS:
      return attention_forward(true);
    case BERTOLOGY_OPERATION_ATTENTION_OUTPUT:
      return linear_forward(width_, width_, 1, kNone);
    case BERTOLOGY_OPERATION_LAYER_NORM:
      return layer_norm();
    case BERTOLOGY_OPERATION_INTERMEDIATE:
      return linear_forward(intermediate, width_, 1, activation);
    case BERTOLOGY_OPERATION_OUTPUT:
      return linear_forward(width_, intermediate, 1, kNone);
    case BERTOLOGY_OPERATION_POOLING:
      return pooling();
    case BERTOLOGY_OPERATION_GATHER_ROWS:
      return gather_rows();
    case BERTOLOGY_OPERATION_CROSS_ENTROPY:
      return cross_entropy();
    case BERTOLOGY_OPERATION_ACTIVATION_BACKWARD:
      return activation_backward();
    case BERTOLOGY_OPERATION_LAYER_NORM_BACKWARD:
      return layer_norm_backward();
    case BERTOLOGY_OPERATION_OUTPUT_BACKWARD:
      return linear_backward(width_, intermediate, 1, activation);
    case BERTOLOGY_OPERATION_INTERMEDIATE_BACKWARD:
      return linear_backward(intermediate, width_, 1, kNone);
    case BERTOLOGY_OPERATION_ATTENTION_OUTPUT_BACKWARD:
      return linear_backward(width_, width_, 1, kNone);
    case BERTOLOGY_OPERATION_HEAD_GRADIENTS:
      return attention_backward(false, false);
    case BERTOLOGY_OPERATION_ATTENTION_BACKWARD:
      return attention_backward(true, false);
    case BERTOLOGY_OPERATION_ATTENTION_BACKWARD_MAPS:
      return attention_backward(true, true);
    default:
      return linear_backward(3 * width_, width_, 3, kNone);
  }
}

// ----------------------------------------------------------------------------------------------
// operands

template <class T>
T* Operation::on_device(const std::vector<T>& values) {
  const int64_t bytes = static_cast<int64_t>(values.size() * sizeof(T));
  memory_.push_back(backend_->allocate(bytes, "the operands of a measurement"));
  backend_->upload(memory_.back()->data(), values.data(), bytes);
  return static_cast<T*>(memory_.back()->data());
}

/// Between -1 and 1 from the center on.
float* Operation::floats(int64_t count, float center) {
  constexpr float kHalf = static_cast<float>(std::minstd_rand::max()) / 2;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = center + static_cast<float>(random_()) / kHalf - 1.0f;
  return on_device(values);
}

template <class T>
T* Operation::ascending(int64_t count, int64_t below) {
  std::vector<T> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = static_cast<T>(i % below);
  return on_device(values);
}

Sequences Operation::sequences() {
  return {examples_, offsets_.data(), pairs_.data(), on_device(offsets_), on_device(pairs_)};
}

const PackedMatrix* Operation::matrix(int64_t outputs, int64_t inputs, int parts) {
  std::vector<float> values(static_cast<size_t>(outputs * inputs));
  std::uniform_real_distribution<float> small(-0.05f, 0.05f);
  for (float& value : values) value = small(random_);
  matrix_ =
      backend_->pack(values.data(), outputs, inputs, parts, static_cast<DType>(config_.dtype));
  return matrix_.get();
}

void Operation::least(int64_t floats, int64_t flops) {
  least_bytes_ += floats * kFloat;
  least_flops_ = flops;
}

// ----------------------------------------------------------------------------------------------
// operations

void Operation::linear_forward(int64_t outputs, int64_t inputs, int parts, Activation activation) {
  const bool activated = activation != Activation::kNone;
  LinearForward op;
  op.weight = matrix(outputs, inputs, parts);
  op.parts = parts;
  op.bias = floats(outputs);
  op.activation = activation;
  op.rows = tokens_;
  op.input = floats(tokens_ * inputs);
  op.output = floats(tokens_ * outputs);
  if (activated) op.preactivation = floats(tokens_ * outputs);
  is_product_ = true;
  least_bytes_ = outputs * inputs * size_of(static_cast<DType>(config_.dtype));
  least(tokens_ * (inputs + outputs * (activated ? 2 : 1)) + outputs,
        2 * tokens_ * outputs * inputs);
  queue_ = [this, op] { bertology::linear_forward(*stream_, op); };
}

void Operation::linear_backward(int64_t outputs, int64_t inputs, int parts, Activation activation) {
  const bool activated = activation != Activation::kNone;
  LinearBackward op;
  op.weight = matrix(outputs, inputs, parts);
  op.parts = parts;
  op.rows = tokens_;
  op.d_output = floats(tokens_ * outputs);
  op.d_input = floats(tokens_ * inputs);
  op.activation = activation;
  if (activated) op.preactivation = floats(tokens_ * inputs);
  is_product_ = true;
  least_bytes_ = outputs * inputs * size_of(static_cast<DType>(config_.dtype));
  least(tokens_ * (outputs + inputs * (activated ? 2 : 1)), 2 * tokens_ * outputs * inputs);
  queue_ = [this, op] { bertology::linear_backward(*stream_, op); };
}

AttentionInputs Operation::attention_inputs() {
  const int32_t heads = config_.num_attention_heads;
  mask_.assign(static_cast<size_t>(heads), 1.0f);
  const float* projections = floats(3 * tokens_ * width_);
  AttentionInputs inputs;
  inputs.heads = heads;
  inputs.head_dim = config_.head_dim();
  inputs.queries = inputs.keys = sequences();
  inputs.query = projections;
  inputs.key = projections + width_;
  inputs.value = projections + 2 * width_;
  inputs.query_stride = inputs.key_stride = 3 * width_;
  inputs.scale = config_.attention_scale(0);
  inputs.causal = config_.causal();
  inputs.head_mask = mask_.data();
  inputs.dtype = static_cast<DType>(config_.dtype);
  return inputs;
}

void Operation::attention_forward(bool captures) {
  AttentionForward op;
  op.inputs = attention_inputs();
  const int64_t heads = op.inputs.heads;
  const int64_t pairs = examples_ * length_ * length_ * heads;
  const int64_t seen = op.inputs.causal ? examples_ * length_ * (length_ + 1) / 2 * heads : pairs;
  op.context = floats(tokens_ * width_);
  op.log_sum_exp = floats(tokens_ * heads);
  int64_t moved = 4 * tokens_ * width_ + tokens_ * heads;
  if (captures) {
    op.probabilities = floats(pairs);
    op.entropies = floats(tokens_ * heads);
    moved += pairs + tokens_ * heads;
  }
  least(moved, 4 * seen * op.inputs.head_dim);
  queue_ = [this, op] { bertology::attention_forward(*stream_, op); };
}

void Operation::attention_backward(bool inputs, bool captures) {
  AttentionForward forward;
  forward.inputs = attention_inputs();
  const int64_t heads = forward.inputs.heads;
  const int64_t pairs = examples_ * length_ * length_ * heads;
  const int64_t seen =
      forward.inputs.causal ? examples_ * length_ * (length_ + 1) / 2 * heads : pairs;
  forward.context = floats(tokens_ * width_);
  forward.log_sum_exp = floats(tokens_ * heads);
  bertology::attention_forward(*stream_, forward);
  stream_->synchronize();

  head_index_.resize(static_cast<size_t>(heads));
  for (size_t h = 0; h < head_index_.size(); ++h) head_index_[h] = static_cast<int32_t>(h);
  AttentionBackward op;
  op.inputs = forward.inputs;
  op.d_context = floats(tokens_ * width_);
  op.head_outputs = forward.context;
  op.log_sum_exp = forward.log_sum_exp;
  op.head_index = head_index_.data();
  op.example_stride = heads;
  op.head_gradients = floats(examples_ * heads);
  op.token_head_gradients = floats(examples_ * heads);
  op.head_sums = on_device(std::vector<double>(static_cast<size_t>(heads * kHeadSums)));
  int64_t moved = 2 * tokens_ * width_ + 2 * examples_ * heads;
  int64_t products = 0;
  if (inputs) {
    float* gradients = floats(3 * tokens_ * width_);
    op.d_query = gradients;
    op.d_key = gradients + width_;
    op.d_value = gradients + 2 * width_;
    op.d_query_stride = op.d_key_stride = 3 * width_;
    moved += 6 * tokens_ * width_ + tokens_ * heads;
    products = 5;
  }
  if (captures) {
    op.d_probabilities = floats(pairs);
    moved += pairs;
  }
  least(moved, 2 * products * seen * forward.inputs.head_dim);
  queue_ = [this, op] { bertology::attention_backward(*stream_, op); };
}

void Operation::embedding() {
  EmbeddingForward op;
  op.tokens = tokens_;
  op.width = width_;
  const int64_t words = std::min<int64_t>(tokens_, config_.vocab_size);
  op.input_ids = ascending<int32_t>(tokens_, words);
  op.position_ids = ascending<int32_t>(tokens_, length_);
  op.token_type_ids = ascending<int32_t>(tokens_, 1);
  op.word = floats(words * width_);
  op.position = floats(length_ * width_);
  op.gamma = floats(width_);
  op.beta = floats(width_);
  op.eps = 1e-12f;
  op.output = floats(tokens_ * width_);
  least((words + length_ + tokens_ + 2) * width_ + 2 * tokens_);
  if (config_.bert()) {
    op.token_type = floats(width_);
    least(width_ + tokens_);
  }
  queue_ = [this, op] { embedding_forward(*stream_, op); };
}

void Operation::layer_norm() {
  LayerNormForward op;
  op.rows = tokens_;
  op.width = width_;
  op.input = floats(tokens_ * width_);
  op.residual = floats(tokens_ * width_);
  op.gamma = floats(width_);
  op.beta = floats(width_);
  op.eps = 1e-12f;
  op.output = floats(tokens_ * width_);
  op.sum = floats(tokens_ * width_);
  op.statistics = floats(2 * tokens_);
  least(4 * tokens_ * width_ + 2 * width_ + 2 * tokens_);
  queue_ = [this, op] { layer_norm_forward(*stream_, op); };
}

void Operation::layer_norm_backward() {
  LayerNormBackward op;
  op.rows = tokens_;
  op.width = width_;
  op.d_output = floats(tokens_ * width_);
  op.sum = floats(tokens_ * width_);
  op.statistics = floats(2 * tokens_, 2);
  op.gamma = floats(width_);
  op.d_input = floats(tokens_ * width_);
  least(3 * tokens_ * width_ + width_ + 2 * tokens_);
  queue_ = [this, op] { bertology::layer_norm_backward(*stream_, op); };
}

void Operation::activation_backward() {
  ActivationBackward op;
  op.activation = config_.activation();
  op.count = tokens_ * config_.intermediate_size;
  // Where the slope is 1, so that what is multiplied again and again stays as it is.
  op.preactivation = floats(op.count, 8);
  op.gradient = floats(op.count);
  least(3 * op.count);
  queue_ = [this, op] { bertology::activation_backward(*stream_, op); };
}

void Operation::pooling() {
  PoolingForward op;
  op.sequences = sequences();
  op.width = width_;
  op.pooled = PooledRows::kMean;
  op.input = floats(tokens_ * width_);
  op.output = floats(examples_ * width_);
  least((tokens_ + examples_) * width_);
  queue_ = [this, op] { pooling_forward(*stream_, op); };
}

void Operation::cross_entropy() {
  CrossEntropy op;
  // A language model's logits are there some at a time.
  op.rows = std::min<int64_t>(tokens_, 1024);
  op.classes = config_.vocab_size;
  float* logits = floats(op.rows * op.classes);
  op.logits = logits;
  op.labels = ascending<int32_t>(op.rows, op.classes);
  op.losses = floats(op.rows);
  op.d_logits = logits;
  least(2 * op.rows * op.classes + 2 * op.rows);
  queue_ = [this, op] { bertology::cross_entropy(*stream_, op); };
}

void Operation::gather_rows() {
  GatherRows op;
  op.rows = tokens_;
  op.width = width_;
  op.index = ascending<int64_t>(tokens_, tokens_);
  op.input = floats(tokens_ * width_);
  op.output = floats(tokens_ * width_);
  least(2 * tokens_ * width_ + 2 * tokens_);
  queue_ = [this, op] { bertology::gather_rows(*stream_, op); };
}

// ----------------------------------------------------------------------------------------------
// times

void Operation::measure(double seconds, double* measures) {
  constexpr size_t kSamples = 7;
  struct Way {
    int measure;
    std::function<void()> queue;
    int repeats = 1;
    std::vector<double> samples;
  };
  const int64_t copied = (least_bytes_ / 2 + kFloat - 1) / kFloat;
  float* from = floats(copied);
  float* to = floats(copied);
  std::vector<Way> ways;
  ways.push_back({BERTOLOGY_MEASURE_SECONDS,
                  [this] {
                    stream_->use_library_products(false);
                    queue();
                  },
                  1,
                  {}});
  if (is_product_ && stream_->use_library_products(true)) {
    ways.push_back({BERTOLOGY_MEASURE_LIBRARY_SECONDS,
                    [this] {
                      stream_->use_library_products(true);
                      queue();
                    },
                    1,
                    {}});
  }
  ways.push_back({BERTOLOGY_MEASURE_COPY_SECONDS, [&] { stream_->copy(to, from, copied); }, 1, {}});
  const auto sample = [&](Way& way) {
    return stream_->seconds_of([&] {
      for (int i = 0; i < way.repeats; ++i) way.queue();
    }) / way.repeats;
  };
  for (Way& way : ways) {
    sample(way);  // what a first run does besides
    constexpr double kShortest = 1e-7, kMost = 10000;
    const double share = seconds / static_cast<double>(kSamples * ways.size());
    const double once = std::max(sample(way), kShortest);
    way.repeats = static_cast<int>(std::clamp(share / once, 1.0, kMost));
  }
  // In turn, so that all see the same device.
  for (size_t i = 0; i < kSamples; ++i) {
    for (Way& way : ways) way.samples.push_back(sample(way));
  }
  std::fill_n(measures, static_cast<int>(BERTOLOGY_MEASURE_COUNT), 0.0);
  for (const Way& way : ways) measures[way.measure] = median(way.samples);
  measures[BERTOLOGY_MEASURE_LEAST_BYTES] = static_cast<double>(least_bytes_);
  measures[BERTOLOGY_MEASURE_LEAST_FLOPS] = static_cast<double>(least_flops_);
}

}  // namespace bertology
