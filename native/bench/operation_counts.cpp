// Runs one operation once, in BERT-base's shape, and prints the least that it could move and
// compute: what counters of the device are held against (see cuda_report.py).
//
//   bertology_operation_counts DEVICE OPERATION DTYPE EXAMPLES LENGTH
//
// prints {"bytes": ..., "flops": ...}: every operand read once, every result written once, the
// arithmetic of products. Without arguments it lists the operations.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "api/devices.h"
#include "base/error.h"
#include "ops/backend.h"

namespace bertology {
namespace {

constexpr int64_t kWidth = 768;
constexpr int64_t kHeads = 12;
constexpr int64_t kHeadDim = kWidth / kHeads;
constexpr int64_t kIntermediate = 3072;
constexpr int64_t kVocabulary = 30522;
constexpr int64_t kFloat = sizeof(float);

/// The least that an operation moves and computes.
struct Least {
  int64_t bytes;
  int64_t flops;
};

/// Where an operation runs, and buffers for it.
class Bench {
 public:
  Bench(const std::string& device, DType product_type, int64_t example_count, int64_t tokens_each)
      : dtype(product_type),
        examples(example_count),
        length(tokens_each),
        tokens(example_count * tokens_each),
        backend_(open_device(device, 0)),
        stream_(backend_->stream()) {
    for (int64_t b = 0; b <= examples; ++b) {
      offsets_.push_back(b * length);
      pairs_.push_back(b * length * length);
    }
    Room room;
    room.rows = tokens;
    room.width = 3 * kWidth + kIntermediate;
    room.heads = kHeads;
    room.dtype = dtype;
    stream_->reserve(room);
  }

  Stream& stream() { return *stream_; }
  Backend& backend() { return *backend_; }

  template <class T>
  T* on_device(const std::vector<T>& values) {
    const int64_t bytes = static_cast<int64_t>(values.size() * sizeof(T));
    memory_.push_back(backend_->allocate(bytes, "a measurement"));
    backend_->upload(memory_.back()->data(), values.data(), bytes);
    return static_cast<T*>(memory_.back()->data());
  }

  float* floats(int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random_);
    return on_device(values);
  }

  template <class T>
  T* ascending(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(i);
    return on_device(values);
  }

  Sequences sequences() {
    return {examples, offsets_.data(), pairs_.data(), on_device(offsets_), on_device(pairs_)};
  }

  std::unique_ptr<PackedMatrix> matrix(int64_t outputs, int64_t inputs, int parts) {
    std::normal_distribution<float> normal(0, 0.05f);
    std::vector<float> values(static_cast<size_t>(outputs * inputs));
    for (float& value : values) value = normal(random_);
    return backend_->pack(values.data(), outputs, inputs, parts, dtype);
  }

  const DType dtype;
  const int64_t examples, length, tokens;

 private:
  std::shared_ptr<Backend> backend_;
  std::shared_ptr<Stream> stream_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
  std::vector<int64_t> offsets_, pairs_;
  std::mt19937 random_{1};
};

Least product(const Bench& bench, const PackedMatrix& weight, int64_t results_per_output,
              int64_t inputs) {
  const int64_t matrix = weight.outputs() * weight.inputs();
  const int64_t floats = bench.tokens * (inputs + weight.outputs() * results_per_output);
  return {matrix * size_of(bench.dtype) + floats * kFloat, 2 * bench.tokens * matrix};
}

Least linear_forward_of(Bench& bench, int64_t outputs, int64_t inputs, Activation activation) {
  const auto weight = bench.matrix(outputs, inputs, 1);
  const bool activated = activation != Activation::kNone;
  LinearForward op;
  op.weight = weight.get();
  op.bias = bench.floats(outputs);
  op.activation = activation;
  op.rows = bench.tokens;
  op.input = bench.floats(bench.tokens * inputs);
  op.output = bench.floats(bench.tokens * outputs);
  if (activated) op.preactivation = bench.floats(bench.tokens * outputs);
  linear_forward(bench.stream(), op);
  bench.stream().synchronize();
  return product(bench, *weight, activated ? 2 : 1, inputs);
}

Least linear_backward_of(Bench& bench, int64_t outputs, int64_t inputs, Activation activation) {
  const auto weight = bench.matrix(outputs, inputs, 1);
  const bool activated = activation != Activation::kNone;
  LinearBackward op;
  op.weight = weight.get();
  op.rows = bench.tokens;
  op.d_output = bench.floats(bench.tokens * outputs);
  op.d_input = bench.floats(bench.tokens * inputs);
  op.activation = activation;
  if (activated) op.preactivation = bench.floats(bench.tokens * inputs);
  linear_backward(bench.stream(), op);
  bench.stream().synchronize();
  return product(bench, *weight, 1, inputs * (activated ? 2 : 1));
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

Least attention_forward_of(Bench& bench, bool captures) {
  Attention attention(bench);
  AttentionForward op;
  op.inputs = attention.inputs;
  op.context = bench.floats(attention.rows);
  op.log_sum_exp = bench.floats(attention.row_heads);
  int64_t floats = 4 * attention.rows + attention.row_heads;
  if (captures) {
    op.probabilities = bench.floats(attention.pairs);
    op.entropies = bench.floats(attention.row_heads);
    floats += attention.pairs + attention.row_heads;
  }
  attention_forward(bench.stream(), op);
  bench.stream().synchronize();
  return {floats * kFloat, 4 * attention.pairs * kHeadDim};
}

Least attention_backward_of(Bench& bench, bool inputs, bool captures) {
  Attention attention(bench);
  AttentionForward forward;
  forward.inputs = attention.inputs;
  float* outputs = bench.floats(attention.rows);
  forward.context = outputs;
  float* log_sum_exp = bench.floats(attention.row_heads);
  forward.log_sum_exp = log_sum_exp;
  attention_forward(bench.stream(), forward);
  std::vector<int32_t> index(kHeads);
  for (size_t h = 0; h < index.size(); ++h) index[h] = static_cast<int32_t>(h);

  AttentionBackward op;
  op.inputs = attention.inputs;
  op.d_context = bench.floats(attention.rows);
  op.head_outputs = outputs;
  op.log_sum_exp = log_sum_exp;
  op.head_index = index.data();
  op.example_stride = kHeads;
  op.head_gradients = bench.floats(bench.examples * kHeads);
  op.token_head_gradients = bench.floats(bench.examples * kHeads);
  op.head_sums = bench.on_device(std::vector<double>(kHeads * kHeadSums));
  int64_t floats = 2 * attention.rows + 2 * bench.examples * kHeads;
  int64_t products = 0;
  if (inputs) {
    float* gradients = bench.floats(3 * attention.rows);
    op.d_query = gradients;
    op.d_key = gradients + kWidth;
    op.d_value = gradients + 2 * kWidth;
    op.d_query_stride = op.d_key_stride = 3 * kWidth;
    floats += 6 * attention.rows + attention.row_heads;
    products = 5;
  }
  if (captures) {
    op.d_probabilities = bench.floats(attention.pairs);
    floats += attention.pairs;
  }
  attention_backward(bench.stream(), op);
  bench.stream().synchronize();
  return {floats * kFloat, 2 * products * attention.pairs * kHeadDim};
}

Least layer_norm_forward_of(Bench& bench) {
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
  layer_norm_forward(bench.stream(), op);
  bench.stream().synchronize();
  return {(4 * elements + 2 * kWidth + 2 * bench.tokens) * kFloat, 0};
}

Least layer_norm_backward_of(Bench& bench) {
  const int64_t elements = bench.tokens * kWidth;
  LayerNormBackward op;
  op.rows = bench.tokens;
  op.width = kWidth;
  op.d_output = bench.floats(elements);
  op.sum = bench.floats(elements);
  op.statistics = bench.on_device(std::vector<float>(static_cast<size_t>(2 * bench.tokens), 1.0f));
  op.gamma = bench.floats(kWidth);
  op.d_input = bench.floats(elements);
  layer_norm_backward(bench.stream(), op);
  bench.stream().synchronize();
  return {(3 * elements + kWidth + 2 * bench.tokens) * kFloat, 0};
}

Least embedding_of(Bench& bench) {
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
  embedding_forward(bench.stream(), op);
  bench.stream().synchronize();
  return {(3 * bench.tokens * kWidth + 3 * kWidth) * kFloat + 3 * bench.tokens * 4, 0};
}

Least activation_backward_of(Bench& bench) {
  const int64_t count = bench.tokens * kIntermediate;
  const float* preactivation = bench.floats(count);
  activation_backward(bench.stream(),
                      {Activation::kGelu, count, preactivation, bench.floats(count)});
  bench.stream().synchronize();
  return {3 * count * kFloat, 0};
}

Least pooling_of(Bench& bench) {
  PoolingForward op;
  op.sequences = bench.sequences();
  op.width = kWidth;
  op.pooled = PooledRows::kMean;
  op.input = bench.floats(bench.tokens * kWidth);
  op.output = bench.floats(bench.examples * kWidth);
  pooling_forward(bench.stream(), op);
  bench.stream().synchronize();
  return {(bench.tokens + bench.examples) * kWidth * kFloat, 0};
}

Least cross_entropy_of(Bench& bench) {
  const int64_t elements = bench.tokens * kVocabulary;
  CrossEntropy op;
  op.rows = bench.tokens;
  op.classes = kVocabulary;
  float* logits = bench.floats(elements);
  op.logits = logits;
  op.labels = bench.ascending<int32_t>(bench.tokens);
  op.losses = bench.floats(bench.tokens);
  op.d_logits = logits;
  cross_entropy(bench.stream(), op);
  bench.stream().synchronize();
  return {(2 * elements + 2 * bench.tokens) * kFloat, 0};
}

Least gather_of(Bench& bench) {
  const int64_t* index = bench.ascending<int64_t>(bench.tokens);
  const float* input = bench.floats(bench.tokens * kWidth);
  gather_rows(bench.stream(),
              {bench.tokens, kWidth, index, input, bench.floats(bench.tokens * kWidth)});
  bench.stream().synchronize();
  return {2 * bench.tokens * kWidth * kFloat + bench.tokens * 8, 0};
}

const std::map<std::string, std::function<Least(Bench&)>>& operations() {
  static const std::map<std::string, std::function<Least(Bench&)>> all = {
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

int run(int argc, char** argv) {
  if (argc != 6) {
    for (const auto& [name, body] : operations()) std::printf("%s\n", name.c_str());
    return argc == 1 ? 0 : 2;
  }
  const auto operation = operations().find(argv[2]);
  check_argument(operation != operations().end(), "operation: \"", argv[2], "\"");
  const char* library = std::getenv("BERTOLOGY_CUDA_LIBRARY");
  if (library != nullptr) set_cuda_library(library);
  Bench bench(argv[1], dtype_of(argv[3]), std::atoll(argv[4]), std::atoll(argv[5]));
  const Least least = operation->second(bench);
  std::printf("{\"bytes\": %lld, \"flops\": %lld}\n", static_cast<long long>(least.bytes),
              static_cast<long long>(least.flops));
  return 0;
}

}  // namespace
}  // namespace bertology

int main(int argc, char** argv) {
  try {
    return bertology::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
