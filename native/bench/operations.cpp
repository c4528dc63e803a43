#include "operations.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"

namespace bertology {
namespace {

constexpr int64_t kWidth = 768;
constexpr int64_t kHeads = 12;
constexpr int64_t kHeadDim = kWidth / kHeads;
constexpr int64_t kIntermediate = 3072;
constexpr int64_t kVocabulary = 30522;
constexpr int64_t kFloat = sizeof(float);

Least product(const Bench& bench, const PackedMatrix& weight, int64_t results_per_output,
              int64_t inputs) {
  const int64_t matrix = weight.outputs() * weight.inputs();
  const int64_t floats = bench.tokens * (inputs + weight.outputs() * results_per_output);
  return {matrix * size_of(bench.dtype) + floats * kFloat, 2 * bench.tokens * matrix};
}

Operation linear_forward_of(Bench& bench, int64_t outputs, int64_t inputs, Activation activation) {
  const std::shared_ptr<const PackedMatrix> weight = bench.matrix(outputs, inputs, 1);
  const bool activated = activation != Activation::kNone;
  LinearForward op;
  op.weight = weight.get();
  op.bias = bench.floats(outputs);
  op.activation = activation;
  op.rows = bench.tokens;
  op.input = bench.floats(bench.tokens * inputs);
  op.output = bench.floats(bench.tokens * outputs);
  if (activated) op.preactivation = bench.floats(bench.tokens * outputs);
  const Least least = product(bench, *weight, activated ? 2 : 1, inputs);
  return {least, [&bench, weight, op] { linear_forward(bench.stream(), op); }};
}

Operation linear_backward_of(Bench& bench, int64_t outputs, int64_t inputs, Activation activation) {
  const std::shared_ptr<const PackedMatrix> weight = bench.matrix(outputs, inputs, 1);
  const bool activated = activation != Activation::kNone;
  LinearBackward op;
  op.weight = weight.get();
  op.rows = bench.tokens;
  op.d_output = bench.floats(bench.tokens * outputs);
  op.d_input = bench.floats(bench.tokens * inputs);
  op.activation = activation;
  if (activated) op.preactivation = bench.floats(bench.tokens * inputs);
  const Least least = product(bench, *weight, 1, inputs * (activated ? 2 : 1));
  return {least, [&bench, weight, op] { linear_backward(bench.stream(), op); }};
}

struct Attention {
  explicit Attention(Bench& bench)
      : pairs(bench.examples * bench.length * bench.length * kHeads),
        rows(bench.tokens * kWidth),
        row_heads(bench.tokens * kHeads) {
    float* projections = bench.floats(3 * rows);
    inputs.heads = kHeads;
    inputs.head_dim = kHeadDim;
    inputs.queries = inputs.keys = bench.sequences();
    inputs.query = projections;
    inputs.key = projections + kWidth;
    inputs.value = projections + 2 * kWidth;
    inputs.query_stride = inputs.key_stride = 3 * kWidth;
    inputs.scale = 0.125f;
    inputs.head_mask = mask.data();
    inputs.dtype = bench.dtype;
  }

  AttentionInputs inputs;
  const int64_t pairs, rows, row_heads;
  const std::vector<float> mask = std::vector<float>(kHeads, 1.0f);
};

Operation attention_forward_of(Bench& bench, bool captures) {
  const auto attention = std::make_shared<const Attention>(bench);
  AttentionForward op;
  op.inputs = attention->inputs;
  op.context = bench.floats(attention->rows);
  op.log_sum_exp = bench.floats(attention->row_heads);
  int64_t floats = 4 * attention->rows + attention->row_heads;
  if (captures) {
    op.probabilities = bench.floats(attention->pairs);
    op.entropies = bench.floats(attention->row_heads);
    floats += attention->pairs + attention->row_heads;
  }
  const Least least = {floats * kFloat, 4 * attention->pairs * kHeadDim};
  return {least, [&bench, attention, op] { attention_forward(bench.stream(), op); }};
}

Operation attention_backward_of(Bench& bench, bool inputs, bool captures) {
  const auto attention = std::make_shared<const Attention>(bench);
  AttentionForward forward;
  forward.inputs = attention->inputs;
  float* outputs = bench.floats(attention->rows);
  forward.context = outputs;
  float* log_sum_exp = bench.floats(attention->row_heads);
  forward.log_sum_exp = log_sum_exp;
  attention_forward(bench.stream(), forward);
  const auto index = std::make_shared<std::vector<int32_t>>(kHeads);
  for (size_t h = 0; h < index->size(); ++h) (*index)[h] = static_cast<int32_t>(h);

  AttentionBackward op;
  op.inputs = attention->inputs;
  op.d_context = bench.floats(attention->rows);
  op.head_outputs = outputs;
  op.log_sum_exp = log_sum_exp;
  op.head_index = index->data();
  op.example_stride = kHeads;
  op.head_gradients = bench.floats(bench.examples * kHeads);
  op.token_head_gradients = bench.floats(bench.examples * kHeads);
  op.head_sums = bench.on_device(std::vector<double>(kHeads * kHeadSums));
  int64_t floats = 2 * attention->rows + 2 * bench.examples * kHeads;
  int64_t products = 0;
  if (inputs) {
    float* gradients = bench.floats(3 * attention->rows);
    op.d_query = gradients;
    op.d_key = gradients + kWidth;
    op.d_value = gradients + 2 * kWidth;
    op.d_query_stride = op.d_key_stride = 3 * kWidth;
    floats += 6 * attention->rows + attention->row_heads;
    products = 5;
  }
  if (captures) {
    op.d_probabilities = bench.floats(attention->pairs);
    floats += attention->pairs;
  }
  const Least least = {floats * kFloat, 2 * products * attention->pairs * kHeadDim};
  return {least, [&bench, attention, index, op] { attention_backward(bench.stream(), op); }};
}

Operation layer_norm_forward_of(Bench& bench) {
  const int64_t elements = bench.tokens * kWidth;
  LayerNormForward op;
  op.rows = bench.tokens;
  op.width = kWidth;
  op.input = bench.floats(elements);
  op.residual = bench.floats(elements);
  op.gamma = bench.floats(kWidth);
  op.beta = bench.floats(kWidth);
  op.eps = 1e-12f;
  op.output = bench.floats(elements);
  op.sum = bench.floats(elements);
  op.statistics = bench.floats(2 * bench.tokens);
  const Least least = {(4 * elements + 2 * kWidth + 2 * bench.tokens) * kFloat, 0};
  return {least, [&bench, op] { layer_norm_forward(bench.stream(), op); }};
}

Operation layer_norm_backward_of(Bench& bench) {
  const int64_t elements = bench.tokens * kWidth;
  LayerNormBackward op;
  op.rows = bench.tokens;
  op.width = kWidth;
  op.d_output = bench.floats(elements);
  op.sum = bench.floats(elements);
  op.statistics = bench.on_device(std::vector<float>(static_cast<size_t>(2 * bench.tokens), 1.0f));
  op.gamma = bench.floats(kWidth);
  op.d_input = bench.floats(elements);
  const Least least = {(3 * elements + kWidth + 2 * bench.tokens) * kFloat, 0};
  return {least, [&bench, op] { layer_norm_backward(bench.stream(), op); }};
}

Operation embedding_of(Bench& bench) {
  EmbeddingForward op;
  op.tokens = bench.tokens;
  op.width = kWidth;
  op.input_ids = bench.ascending<int32_t>(bench.tokens);
  op.position_ids = bench.ascending<int32_t>(bench.tokens);
  op.token_type_ids = bench.on_device(std::vector<int32_t>(static_cast<size_t>(bench.tokens)));
  op.word = bench.floats(bench.tokens * kWidth);
  op.position = bench.floats(bench.tokens * kWidth);
  op.token_type = bench.floats(2 * kWidth);
  op.gamma = bench.floats(kWidth);
  op.beta = bench.floats(kWidth);
  op.eps = 1e-12f;
  op.output = bench.floats(bench.tokens * kWidth);
  const Least least = {(3 * bench.tokens * kWidth + 3 * kWidth) * kFloat + 3 * bench.tokens * 4, 0};
  return {least, [&bench, op] { embedding_forward(bench.stream(), op); }};
}

Operation activation_backward_of(Bench& bench) {
  const int64_t count = bench.tokens * kIntermediate;
  const ActivationBackward op{Activation::kGelu, count, bench.floats(count), bench.floats(count)};
  return {{3 * count * kFloat, 0}, [&bench, op] { activation_backward(bench.stream(), op); }};
}

Operation pooling_of(Bench& bench) {
  PoolingForward op;
  op.sequences = bench.sequences();
  op.width = kWidth;
  op.pooled = PooledRows::kMean;
  op.input = bench.floats(bench.tokens * kWidth);
  op.output = bench.floats(bench.examples * kWidth);
  const Least least = {(bench.tokens + bench.examples) * kWidth * kFloat, 0};
  return {least, [&bench, op] { pooling_forward(bench.stream(), op); }};
}

Operation cross_entropy_of(Bench& bench) {
  const int64_t elements = bench.tokens * kVocabulary;
  CrossEntropy op;
  op.rows = bench.tokens;
  op.classes = kVocabulary;
  float* logits = bench.floats(elements);
  op.logits = logits;
  op.labels = bench.ascending<int32_t>(bench.tokens);
  op.losses = bench.floats(bench.tokens);
  op.d_logits = logits;
  const Least least = {(2 * elements + 2 * bench.tokens) * kFloat, 0};
  return {least, [&bench, op] { cross_entropy(bench.stream(), op); }};
}

Operation gather_of(Bench& bench) {
  const int64_t* index = bench.ascending<int64_t>(bench.tokens);
  const float* input = bench.floats(bench.tokens * kWidth);
  const GatherRows op{bench.tokens, kWidth, index, input, bench.floats(bench.tokens * kWidth)};
  return {{2 * bench.tokens * kWidth * kFloat + bench.tokens * 8, 0},
          [&bench, op] { gather_rows(bench.stream(), op); }};
}

}  // namespace

const std::map<std::string, std::function<Operation(Bench&)>>& operations() {
  static const std::map<std::string, std::function<Operation(Bench&)>> all = {
      {"embedding", embedding_of},
      {"query_key_value",
       [](Bench& b) { return linear_forward_of(b, 3 * kWidth, kWidth, Activation::kNone); }},
      {"attention_output",
       [](Bench& b) { return linear_forward_of(b, kWidth, kWidth, Activation::kNone); }},
      {"intermediate",
       [](Bench& b) { return linear_forward_of(b, kIntermediate, kWidth, Activation::kGelu); }},
      {"output",
       [](Bench& b) { return linear_forward_of(b, kWidth, kIntermediate, Activation::kNone); }},
      {"intermediate_backward",
       [](Bench& b) { return linear_backward_of(b, kIntermediate, kWidth, Activation::kNone); }},
      {"output_backward",
       [](Bench& b) { return linear_backward_of(b, kWidth, kIntermediate, Activation::kGelu); }},
      {"attention_forward", [](Bench& b) { return attention_forward_of(b, false); }},
      {"attention_forward_maps", [](Bench& b) { return attention_forward_of(b, true); }},
      {"attention_backward", [](Bench& b) { return attention_backward_of(b, true, false); }},
      {"attention_backward_maps", [](Bench& b) { return attention_backward_of(b, true, true); }},
      {"head_gradients", [](Bench& b) { return attention_backward_of(b, false, false); }},
      {"layer_norm", layer_norm_forward_of},
      {"layer_norm_backward", layer_norm_backward_of},
      {"activation_backward", activation_backward_of},
      {"pooling", pooling_of},
      {"cross_entropy", cross_entropy_of},
      {"gather_rows", gather_of}};
  return all;
}

DType dtype_of(const std::string& name) {
  for (const DType dtype : {BERTOLOGY_FLOAT32, BERTOLOGY_FLOAT16, BERTOLOGY_BFLOAT16}) {
    if (name == name_of(dtype)) return dtype;
  }
  fail(BERTOLOGY_INVALID_ARGUMENT, "dtype: \"", name, "\"");
}

}  // namespace bertology
