#include "model/weights.h"

#include <algorithm>

#include "base/error.h"
#include "model/host_rows.h"

namespace bertology {
namespace {

/// "a.b.c" -> "a" and "b.c"
std::pair<std::string, std::string> split(const std::string& name) {
  const size_t dot = name.find('.');
  if (dot == std::string::npos) return {name, ""};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

[[noreturn]] void unknown(const std::string& name) {
  fail(BERTOLOGY_INVALID_ARGUMENT, "parameter ", name, ": the model has none of this name");
}

constexpr int64_t kFloat = sizeof(float);
constexpr std::array<const char*, 3> kProjections = {"query", "key", "value"};

}  // namespace

void Vector::allocate(Backend& backend, int64_t count, const char* what) {
  memory_ = backend.allocate(std::max<int64_t>(count, 1) * kFloat, what);
  count_ = count;
}

void Vector::set(Backend& backend, int64_t first, const float* values, int64_t count) {
  backend.upload(static_cast<float*>(memory_->data()) + first, values, count * kFloat);
}

std::vector<float> Vector::values(Backend& backend) const {
  std::vector<float> values(static_cast<size_t>(count_));
  if (count_ > 0) backend.download(values.data(), memory_->data(), count_ * kFloat);
  return values;
}

std::vector<int64_t> head_rows(const std::vector<int32_t>& present,
                               const std::vector<int32_t>& wanted, int64_t head_dim) {
  std::vector<int64_t> rows;
  rows.reserve(wanted.size() * static_cast<size_t>(head_dim));
  for (const int32_t head : wanted) {
    const auto found = std::find(present.begin(), present.end(), head);
    check_internal(found != present.end(), "head_rows: head ", head, " is not there");
    const int64_t first = (found - present.begin()) * head_dim;
    for (int64_t i = 0; i < head_dim; ++i) rows.push_back(first + i);
  }
  return rows;
}

Weights::Weights(std::shared_ptr<Backend> backend, const Config& config)
    : backend_(std::move(backend)) {
  layers.resize(static_cast<size_t>(config.num_hidden_layers));
  for (Layer& layer : layers) {
    for (int32_t head = 0; head < config.num_attention_heads; ++head) layer.heads.push_back(head);
    layer.available_heads = layer.heads;
  }
}

void Weights::set_vector(Vector& target, const std::string& name, const bertology_tensor& value,
                         const std::vector<int64_t>& shape) {
  const HostRows rows(*backend_, name, value, shape);
  Vector made;
  made.allocate(*backend_, rows.count(), name.c_str());
  made.set(*backend_, 0, rows.data(), rows.count());
  target = std::move(made);
}

void Weights::set_norm(Norm& target, const std::string& field, const std::string& name,
                       const bertology_tensor& value, int64_t width) {
  if (field == "weight") return set_vector(target.gamma, name, value, {width});
  if (field == "bias") return set_vector(target.beta, name, value, {width});
  unknown(name);
}

void Weights::set_linear(Linear& target, const std::string& field, const std::string& name,
                         const bertology_tensor& value, int64_t outputs, int64_t inputs,
                         DType dtype) {
  if (field == "bias") return set_vector(target.bias, name, value, {outputs});
  if (field != "weight") unknown(name);
  const HostRows rows(*backend_, name, value, {outputs, inputs});
  target.weight = backend_->pack(rows.data(), outputs, inputs, 1, dtype);
}

void Weights::set(const Config& config, const std::string& name, const bertology_tensor& value) {
  const int64_t width = config.hidden_size;
  const DType dtype = static_cast<DType>(config.dtype);
  const auto [group, rest] = split(name);
  const auto [part, field] = split(rest);
  if (group == "layers") {
    char* end = nullptr;
    const long index = std::strtol(part.c_str(), &end, 10);
    if (part.empty() || *end != '\0') unknown(name);
    config.check_layer(static_cast<int32_t>(index));
    return set_layer(config, static_cast<int32_t>(index), field, name, value);
  }
  if (group == "embeddings") {
    const auto set_table = [&](Vector& table, int64_t rows) {
      set_vector(table, name, value, {rows, width});
    };
    if (rest == "word") {
      Vector table;
      set_table(table, config.vocab_size);
      // Both or neither: the decoder must not outlive the table that it borrows.
      if (!language_model.own_decoder)
        language_model.decoder = backend_->borrow(table.data(), config.vocab_size, width, dtype);
      word = std::move(table);
      return;
    }
    if (rest == "position") return set_table(position, config.max_position_embeddings);
    if (rest == "token_type" && config.bert()) return set_table(token_type, config.type_vocab_size);
    if (part == "norm" && config.bert()) return set_norm(embedding_norm, field, name, value, width);
    unknown(name);
  }
  if (group == "final_norm" && config.norm_first())
    return set_norm(final_norm, rest, name, value, width);
  if (group == "pooler" && config.bert())
    return set_linear(pooler, rest, name, value, width, width, BERTOLOGY_FLOAT32);
  if (group == "classifier") {
    check_argument(config.num_labels > 0, "parameter ", name, ": the model has no labels");
    return set_linear(classifier, rest, name, value, config.num_labels, width, BERTOLOGY_FLOAT32);
  }
  if (group == "masked_lm" && config.bert()) {
    if (part == "transform")
      return set_linear(language_model.transform, field, name, value, width, width, dtype);
    if (part == "norm") return set_norm(language_model.norm, field, name, value, width);
    if (rest == "bias") return set_vector(language_model.bias, name, value, {config.vocab_size});
    if (rest == "decoder.weight") return set_decoder(config, name, value);
  }
  if (name == "lm_head.weight" && !config.bert()) return set_decoder(config, name, value);
  unknown(name);
}

void Weights::set_decoder(const Config& config, const std::string& name,
                          const bertology_tensor& value) {
  const HostRows rows(*backend_, name, value, {config.vocab_size, config.hidden_size});
  language_model.decoder = backend_->pack(rows.data(), config.vocab_size, config.hidden_size, 1,
                                          static_cast<DType>(config.dtype));
  language_model.own_decoder = true;
}

/// Sets the query, key or value projection of a layer: a part of a matrix or of its biases.
void Weights::set_projection(const Config& config, Layer& layer, size_t part, bool weight,
                             const std::string& name, const bertology_tensor& value) {
  const int64_t width = config.hidden_size;
  const int64_t attention_width = layer.head_count() * config.head_dim();
  const HostRows rows(*backend_, name, value,
                      weight ? std::vector<int64_t>{attention_width, width}
                             : std::vector<int64_t>{attention_width});
  if (attention_width == 0) return;  // nothing to keep
  Linear& target = layer.query_key_value;
  if (weight) {
    if (target.weight == nullptr) {
      target.weight =
          backend_->matrix(3 * attention_width, width, 3, static_cast<DType>(config.dtype));
    }
    layer.weights_set[part] = false;  // should this fail, it is missing rather than mixed
    target.weight->set(static_cast<int>(part), rows.data());
    layer.weights_set[part] = true;
  } else {
    if (target.bias.empty()) target.bias.allocate(*backend_, 3 * attention_width, name.c_str());
    layer.biases_set[part] = false;
    target.bias.set(*backend_, static_cast<int64_t>(part) * attention_width, rows.data(),
                    attention_width);
    layer.biases_set[part] = true;
  }
}

void Weights::set_layer(const Config& config, int32_t index, const std::string& field_path,
                        const std::string& name, const bertology_tensor& value) {
  Layer& layer = layers[static_cast<size_t>(index)];
  const int64_t width = config.hidden_size;
  const int64_t attention_width = layer.head_count() * config.head_dim();
  const DType dtype = static_cast<DType>(config.dtype);
  const auto [part, field] = split(field_path);
  const auto projection = std::find(kProjections.begin(), kProjections.end(), part);
  if (projection != kProjections.end()) {
    const bool weight = field == "weight";
    if (!weight && field != "bias") unknown(name);
    return set_projection(config, layer, static_cast<size_t>(projection - kProjections.begin()),
                          weight, name, value);
  }
  if (part == "attention_output") {
    if (field == "weight" && attention_width == 0) {
      HostRows(*backend_, name, value, {width, 0});
      return;
    }
    return set_linear(layer.attention_output, field, name, value, width,
                      field == "bias" ? 0 : attention_width, dtype);
  }
  if (part == "attention_norm") return set_norm(layer.attention_norm, field, name, value, width);
  if (part == "intermediate") {
    return set_linear(layer.intermediate, field, name, value, config.intermediate_size, width,
                      dtype);
  }
  if (part == "output")
    return set_linear(layer.output, field, name, value, width, config.intermediate_size, dtype);
  if (part == "output_norm") return set_norm(layer.output_norm, field, name, value, width);
  unknown(name);
}

void Weights::forget_classifier() { classifier = Linear(); }

std::string Weights::missing(const Config& config, bool needs_pooler, bool needs_classifier,
                             bool needs_language_model) const {
  std::string name;
  const auto need = [&](bool present, const std::string& parameter) {
    if (!present && name.empty()) name = parameter;
  };
  const auto need_linear = [&](const Linear& linear, const std::string& prefix) {
    need(linear.weight != nullptr, prefix + ".weight");
    need(!linear.bias.empty(), prefix + ".bias");
  };
  const auto need_norm = [&](const Norm& norm, const std::string& prefix) {
    need(!norm.gamma.empty(), prefix + ".weight");
    need(!norm.beta.empty(), prefix + ".bias");
  };
  need(!word.empty(), "embeddings.word");
  need(!position.empty(), "embeddings.position");
  if (config.bert()) {
    need(!token_type.empty(), "embeddings.token_type");
    need_norm(embedding_norm, "embeddings.norm");
  }
  for (size_t l = 0; l < layers.size(); ++l) {
    const Layer& layer = layers[l];
    const std::string prefix = text("layers.", l, ".");
    if (layer.head_count() > 0) {
      for (size_t p = 0; p < 3; ++p) {
        const std::string projection = prefix + kProjections[p];
        need(layer.weights_set[p], projection + ".weight");
        need(layer.biases_set[p], projection + ".bias");
      }
      need(layer.attention_output.weight != nullptr, prefix + "attention_output.weight");
    }
    need(!layer.attention_output.bias.empty(), prefix + "attention_output.bias");
    need_norm(layer.attention_norm, prefix + "attention_norm");
    need_linear(layer.intermediate, prefix + "intermediate");
    need_linear(layer.output, prefix + "output");
    need_norm(layer.output_norm, prefix + "output_norm");
  }
  if (config.norm_first()) need_norm(final_norm, "final_norm");
  if (needs_pooler && config.pooling == BERTOLOGY_POOLER) need_linear(pooler, "pooler");
  if (needs_classifier) {
    need(classifier.weight != nullptr, "classifier.weight");
    need(!classifier.bias.empty() || !config.bert(), "classifier.bias");
  }
  if (needs_language_model && config.bert()) {
    need_linear(language_model.transform, "masked_lm.transform");
    need_norm(language_model.norm, "masked_lm.norm");
    need(!language_model.bias.empty(), "masked_lm.bias");
  }
  return name;
}

template <class Body>
void Weights::for_each(const Body& body) const {
  const auto vector = [&](const Vector& v) { body(v.count(), v.bytes()); };
  const auto matrix = [&](const std::unique_ptr<PackedMatrix>& m) {
    if (m != nullptr) body(m->outputs() * m->inputs(), m->bytes());
  };
  const auto norm = [&](const Norm& n) {
    vector(n.gamma);
    vector(n.beta);
  };
  const auto linear = [&](const Linear& l) {
    matrix(l.weight);
    vector(l.bias);
  };
  vector(word);
  vector(position);
  vector(token_type);
  norm(embedding_norm);
  for (const Layer& layer : layers) {
    const Linear& projections = layer.query_key_value;
    const auto of_set = [](int64_t count, const Layer::PartsSet& set) {
      return count / 3 * std::count(set.begin(), set.end(), true);
    };
    if (projections.weight != nullptr) {
      const PackedMatrix& weight = *projections.weight;
      body(of_set(weight.outputs() * weight.inputs(), layer.weights_set), weight.bytes());
    }
    body(of_set(projections.bias.count(), layer.biases_set), projections.bias.bytes());
    linear(layer.attention_output);
    norm(layer.attention_norm);
    linear(layer.intermediate);
    linear(layer.output);
    norm(layer.output_norm);
  }
  norm(final_norm);
  linear(pooler);
  linear(classifier);
  linear(language_model.transform);
  norm(language_model.norm);
  vector(language_model.bias);
  if (language_model.own_decoder) {
    matrix(language_model.decoder);
  } else if (language_model.decoder != nullptr) {
    body(0, language_model.decoder->bytes());  // the same numbers as the word embeddings
  }
}

int64_t Weights::parameters() const {
  int64_t total = 0;
  for_each([&](int64_t count, int64_t) { total += count; });
  return total;
}

int64_t Weights::bytes() const {
  int64_t total = 0;
  for_each([&](int64_t, int64_t bytes) { total += bytes; });
  return total;
}

}  // namespace bertology
