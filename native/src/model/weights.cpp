#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/error.h"

namespace bertology {
namespace {

std::string shape_text(const int64_t* shape, size_t rank) {
  std::ostringstream out;
  out << '[';
  for (size_t i = 0; i < rank; ++i) out << (i > 0 ? ", " : "") << shape[i];
  out << ']';
  return out.str();
}

/// Dense float32 rows of a strided tensor; whether all are finite. Some columns at a time, so that
/// a transposed tensor is read from the cache.
template <class Stored, class Convert>
bool read_rows(const bertology_tensor& tensor, int64_t rows, int64_t columns,
               const Convert& convert, float* out) {
  constexpr int64_t kColumns = 64;
  const Stored* data = static_cast<const Stored*>(tensor.data);
  const int64_t column_stride = tensor.rank == 2 ? tensor.strides[1] : 0;
  const int64_t step = column_stride > 1 ? kColumns : columns;
  uint32_t not_finite = 0;
  for (int64_t first = 0; first < columns; first += step) {
    const int64_t last = std::min(columns, first + step);
    for (int64_t r = 0; r < rows; ++r) {
      const Stored* row = data + r * tensor.strides[0];
      for (int64_t c = first; c < last; ++c) {
        const float value = convert(row[c * column_stride]);
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        not_finite |= (bits & 0x7f800000u) == 0x7f800000u;
        out[r * columns + c] = value;
      }
    }
  }
  return not_finite == 0;
}

/// "a.b.c" -> "a" and "b.c"
std::pair<std::string, std::string> split(const std::string& name) {
  const size_t dot = name.find('.');
  if (dot == std::string::npos) return {name, ""};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

[[noreturn]] void unknown(const std::string& name) {
  fail(BERTOLOGY_INVALID_ARGUMENT, "parameter ", name, ": the model has none of this name");
}

constexpr std::array<const char*, 3> kProjections = {"query", "key", "value"};

std::vector<float> concatenate(const std::array<std::vector<float>, 3>& parts) {
  std::vector<float> all;
  all.reserve(parts[0].size() * 3);
  for (const std::vector<float>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace

void Vector::set(Backend& backend, const std::vector<float>& values, const char* what) {
  const int64_t bytes = static_cast<int64_t>(values.size() * sizeof(float));
  std::unique_ptr<DeviceMemory> memory = backend.allocate(std::max<int64_t>(bytes, 1), what);
  backend.upload(memory->data(), values.data(), bytes);
  memory_ = std::move(memory);
  count_ = static_cast<int64_t>(values.size());
}

std::vector<float> Vector::values(Backend& backend) const {
  std::vector<float> values(static_cast<size_t>(count_));
  if (count_ > 0)
    backend.download(values.data(), memory_->data(), count_ * static_cast<int64_t>(sizeof(float)));
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

std::vector<float> read_tensor(const std::string& name, const bertology_tensor& tensor,
                               const std::vector<int64_t>& shape) {
  check_argument(tensor.dtype == BERTOLOGY_FLOAT32 || tensor.dtype == BERTOLOGY_FLOAT16 ||
                     tensor.dtype == BERTOLOGY_BFLOAT16,
                 "parameter ", name, ": dtype ", tensor.dtype,
                 ", expected float32, float16 or bfloat16");
  check_argument(tensor.rank == 1 || tensor.rank == 2, "parameter ", name, ": rank ", tensor.rank,
                 ", expected 1 or 2");
  const size_t rank = static_cast<size_t>(tensor.rank);
  check_argument(rank == shape.size() && std::equal(shape.begin(), shape.end(), tensor.shape),
                 "parameter ", name, ": shape ", shape_text(tensor.shape, rank), ", expected ",
                 shape_text(shape.data(), shape.size()));
  const int64_t rows = shape[0];
  const int64_t columns = rank == 2 ? shape[1] : 1;
  check_argument(rows * columns == 0 || tensor.data != nullptr, "parameter ", name, ": no data");
  std::vector<float> values(static_cast<size_t>(rows * columns));
  bool finite = true;
  switch (tensor.dtype) {
    case BERTOLOGY_FLOAT32:
      finite = read_rows<float>(
          tensor, rows, columns, [](float value) { return value; }, values.data());
      break;
    case BERTOLOGY_FLOAT16:
      finite = read_rows<uint16_t>(tensor, rows, columns, float16_to_float, values.data());
      break;
    default:
      finite = read_rows<uint16_t>(tensor, rows, columns, bfloat16_to_float, values.data());
      break;
  }
  if (!finite) {
    const auto bad = std::find_if(values.begin(), values.end(),
                                  [](float value) { return !std::isfinite(value); });
    const int64_t index = bad - values.begin();
    const int64_t place[2] = {index / columns, index % columns};
    fail(BERTOLOGY_INVALID_ARGUMENT, "parameter ", name, ": element ", shape_text(place, rank),
         " is ", *bad, ", expected a finite number");
  }
  return values;
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
                         int64_t count) {
  target.set(*backend_, read_tensor(name, value, {count}), name.c_str());
}

void Weights::set_norm(Norm& target, const std::string& field, const std::string& name,
                       const bertology_tensor& value, int64_t width) {
  if (field == "weight") return set_vector(target.gamma, name, value, width);
  if (field == "bias") return set_vector(target.beta, name, value, width);
  unknown(name);
}

void Weights::set_linear(Linear& target, const std::string& field, const std::string& name,
                         const bertology_tensor& value, int64_t outputs, int64_t inputs,
                         DType dtype) {
  if (field == "bias") return set_vector(target.bias, name, value, outputs);
  if (field != "weight") unknown(name);
  target.weight =
      backend_->pack(read_tensor(name, value, {outputs, inputs}).data(), outputs, inputs, 1, dtype);
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
      table.set(*backend_, read_tensor(name, value, {rows, width}), name.c_str());
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
    if (rest == "bias") return set_vector(language_model.bias, name, value, config.vocab_size);
    if (rest == "decoder.weight") return set_decoder(config, name, value);
  }
  if (name == "lm_head.weight" && !config.bert()) return set_decoder(config, name, value);
  unknown(name);
}

void Weights::set_decoder(const Config& config, const std::string& name,
                          const bertology_tensor& value) {
  language_model.decoder =
      backend_->pack(read_tensor(name, value, {config.vocab_size, config.hidden_size}).data(),
                     config.vocab_size, config.hidden_size, 1, static_cast<DType>(config.dtype));
  language_model.own_decoder = true;
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
    const size_t p = static_cast<size_t>(projection - kProjections.begin());
    const bool weight = field == "weight";
    if (!weight && field != "bias") unknown(name);
    const std::vector<int64_t> shape = weight ? std::vector<int64_t>{attention_width, width}
                                              : std::vector<int64_t>{attention_width};
    std::vector<float> values = read_tensor(name, value, shape);
    if (attention_width == 0) return;  // nothing to keep
    auto& staged = weight ? layer.staged_weights : layer.staged_biases;
    Linear& target = layer.query_key_value;
    if (weight ? target.weight != nullptr : !target.bias.empty()) {
      // One of the three is replaced: the others come back from the device.
      std::vector<float> all(static_cast<size_t>(3 * attention_width * (weight ? width : 1)));
      if (weight) {
        target.weight->unpack(all.data());
      } else {
        all = target.bias.values(*backend_);
      }
      const ptrdiff_t size = static_cast<ptrdiff_t>(all.size() / 3);
      for (ptrdiff_t i = 0; i < 3; ++i) {
        staged[static_cast<size_t>(i)].assign(all.begin() + i * size, all.begin() + (i + 1) * size);
      }
    }
    staged[p] = std::move(values);
    if (std::any_of(staged.begin(), staged.end(),
                    [](const auto& part_values) { return part_values.empty(); }))
      return;
    try {
      if (weight) {
        target.weight =
            backend_->pack(concatenate(staged).data(), 3 * attention_width, width, 3, dtype);
      } else {
        target.bias.set(*backend_, concatenate(staged), name.c_str());
      }
    } catch (...) {
      staged[p].clear();  // it was not set
      throw;
    }
    staged = {};
    return;
  }
  if (part == "attention_output") {
    if (field == "weight" && attention_width == 0) {
      read_tensor(name, value, {width, 0});
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
        need(layer.query_key_value.weight != nullptr || !layer.staged_weights[p].empty(),
             projection + ".weight");
        need(!layer.query_key_value.bias.empty() || !layer.staged_biases[p].empty(),
             projection + ".bias");
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
    linear(layer.query_key_value);
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
