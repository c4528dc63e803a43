// A small random model behind the C interface.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "bertology.h"
#include "support.h"

namespace bertology::testing {

/// A failed call of the C interface.
struct ApiError : std::runtime_error {
  explicit ApiError(int code) : std::runtime_error(bertology_last_error()), status(code) {}
  int status;
};

inline void check(int status) {
  if (status != BERTOLOGY_OK) throw ApiError(status);
}

inline bertology_tensor tensor_of(const std::vector<float>& values,
                                  const std::vector<int64_t>& shape) {
  bertology_tensor tensor = {};
  tensor.dtype = BERTOLOGY_FLOAT32;
  tensor.rank = static_cast<int32_t>(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) tensor.shape[i] = shape[i];
  tensor.strides[0] = shape.size() == 2 ? shape[1] : 1;
  tensor.strides[1] = 1;
  tensor.data = values.data();
  return tensor;
}

inline bertology_device* device() {
  static bertology_device* const device = [] {
    bertology_device* opened = nullptr;
    check(bertology_device_open(device_name().c_str(), 3, &opened));
    return opened;
  }();
  return device;
}

inline bertology_config tiny_config(int32_t model_type = BERTOLOGY_BERT) {
  bertology_config config = {};
  config.model_type = model_type;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.hidden_size = 40;
  config.intermediate_size = 56;
  config.vocab_size = 83;
  config.max_position_embeddings = 90;
  config.type_vocab_size = 2;
  config.hidden_act = BERTOLOGY_GELU;
  config.layer_norm_eps = 1e-12f;
  config.num_labels = 3;
  config.pooling = BERTOLOGY_POOLER;
  config.dtype = BERTOLOGY_FLOAT32;
  if (model_type == BERTOLOGY_BERT) return config;
  config.type_vocab_size = 0;
  config.hidden_act = BERTOLOGY_GELU_NEW;
  config.layer_norm_eps = 1e-5f;
  config.pooling = BERTOLOGY_LAST;
  config.scale_attn_weights = 1;
  return config;
}

/// The loss of the model type's language model.
inline int32_t language_model_loss(const bertology_config& config) {
  return config.model_type == BERTOLOGY_BERT ? BERTOLOGY_MASKED_LM : BERTOLOGY_CAUSAL_LM;
}

/// Pairs of layer and head.
using HeadList = std::vector<std::pair<int32_t, int32_t>>;

class TinyModel {
 public:
  struct Parameter {
    std::vector<float> values;
    std::vector<int64_t> shape;
  };

  explicit TinyModel(const bertology_config& with = tiny_config(), bool load = true,
                     bertology_device* on = device())
      : TinyModel(with, on) {
    if (load) load_all();
  }
  /// With numbers for all parameters, but not loaded.
  TinyModel(const bertology_config& with, bertology_device* on) : config(with) {
    check(bertology_model_create(on, &config, &handle));
    Random random(42);
    const int64_t d = config.hidden_size, i = config.intermediate_size;
    const auto add = [&](const std::string& name, std::vector<int64_t> shape, float deviation,
                         float mean = 0) {
      int64_t count = 1;
      for (const int64_t size : shape) count *= size;
      std::vector<float> values = random.normals(count, deviation);
      for (float& value : values) value += mean;
      parameters[name] = {values, shape};
    };
    const auto add_norm = [&](const std::string& name) {
      add(name + ".weight", {d}, 0.2f, 1);
      add(name + ".bias", {d}, 0.2f);
    };
    const auto add_linear = [&](const std::string& name, int64_t outputs, int64_t inputs) {
      add(name + ".weight", {outputs, inputs}, 1.5f / std::sqrt(static_cast<float>(inputs)));
      add(name + ".bias", {outputs}, 0.2f);
    };
    add("embeddings.word", {config.vocab_size, d}, 1);
    add("embeddings.position", {config.max_position_embeddings, d}, 0.5f);
    const bool bert = config.model_type == BERTOLOGY_BERT;
    if (bert) {
      add("embeddings.token_type", {config.type_vocab_size, d}, 0.5f);
      add_norm("embeddings.norm");
    }
    for (int32_t l = 0; l < config.num_hidden_layers; ++l) {
      const std::string prefix = "layers." + std::to_string(l) + ".";
      for (const char* name : {"query", "key", "value", "attention_output"})
        add_linear(prefix + name, d, d);
      add_linear(prefix + "intermediate", i, d);
      add_linear(prefix + "output", d, i);
      add_norm(prefix + "attention_norm");
      add_norm(prefix + "output_norm");
    }
    if (config.model_type == BERTOLOGY_GPT2) add_norm("final_norm");
    if (bert) add_linear("pooler", d, d);
    if (config.num_labels > 0) add_linear("classifier", config.num_labels, d);
    if (bert) {
      add_linear("masked_lm.transform", d, d);
      add_norm("masked_lm.norm");
      add("masked_lm.bias", {config.vocab_size}, 0.2f);
    }
  }
  ~TinyModel() { bertology_model_free(handle); }
  TinyModel(const TinyModel&) = delete;
  TinyModel& operator=(const TinyModel&) = delete;

  void load_all() {
    for (const auto& [name, parameter] : parameters)
      set(name, tensor_of(parameter.values, parameter.shape));
  }
  void set(const std::string& name, const bertology_tensor& tensor) {
    check(bertology_model_set_parameter(handle, name.c_str(), &tensor));
  }

  void prune(const HeadList& heads) {
    std::vector<int32_t> layers, numbers;
    for (const auto& [layer, head] : heads) {
      layers.push_back(layer);
      numbers.push_back(head);
    }
    check(bertology_model_prune_heads(handle, static_cast<int32_t>(heads.size()), layers.data(),
                                      numbers.data()));
  }

  void restore(const HeadList& heads) {
    std::vector<int32_t> layers, numbers, tensor_layers;
    std::vector<bertology_tensor> tensors;
    for (const auto& [layer, head] : heads) {
      layers.push_back(layer);
      numbers.push_back(head);
      if (std::find(tensor_layers.begin(), tensor_layers.end(), layer) != tensor_layers.end())
        continue;
      tensor_layers.push_back(layer);
      const std::string prefix = "layers." + std::to_string(layer) + ".";
      for (const char* name : {"query.weight", "key.weight", "value.weight", "query.bias",
                               "key.bias", "value.bias", "attention_output.weight"}) {
        const Parameter& parameter = parameters.at(prefix + name);
        tensors.push_back(tensor_of(parameter.values, parameter.shape));
      }
    }
    check(bertology_model_restore_heads(handle, static_cast<int32_t>(heads.size()), layers.data(),
                                        numbers.data(), static_cast<int32_t>(tensor_layers.size()),
                                        tensor_layers.data(), tensors.data()));
  }

  std::vector<int32_t> heads(int32_t layer) {
    std::vector<int32_t> present(static_cast<size_t>(config.num_attention_heads));
    int32_t count = 0;
    check(bertology_model_heads(handle, layer, present.data(), &count));
    present.resize(static_cast<size_t>(count));
    return present;
  }

  bertology_config config;
  bertology_model* handle = nullptr;
  std::map<std::string, Parameter> parameters;
};

/// Sequences with labels of every kind.
struct TinyBatch {
  TinyBatch(const bertology_config& config, std::vector<int64_t> with_lengths, uint32_t seed = 7)
      : lengths(std::move(with_lengths)) {
    Random random(seed);
    offsets.push_back(0);
    for (const int64_t length : lengths) {
      offsets.push_back(offsets.back() + length);
      labels.push_back(static_cast<int32_t>(random.below(std::max(1, config.num_labels))));
      targets.push_back(random.normal());
      for (int64_t i = 0; i < length; ++i) {
        ids.push_back(static_cast<int32_t>(random.below(config.vocab_size)));
        types.push_back(static_cast<int32_t>(random.below(std::max(1, config.type_vocab_size))));
        const bool labelled = i == length / 2 || random.below(4) == 0;
        token_labels.push_back(labelled ? static_cast<int32_t>(random.below(config.vocab_size))
                                        : -100);
      }
    }
  }
  int32_t examples() const { return static_cast<int32_t>(lengths.size()); }

  /// Example b alone.
  TinyBatch only(size_t b) const {
    TinyBatch one = *this;
    const auto cut = [&](std::vector<int32_t>& values) {
      values = {values.begin() + offsets[b], values.begin() + offsets[b + 1]};
    };
    cut(one.ids);
    cut(one.types);
    cut(one.token_labels);
    one.lengths = {lengths[b]};
    one.offsets = {0, lengths[b]};
    one.labels = {labels[b]};
    one.targets = {targets[b]};
    return one;
  }

  std::vector<int64_t> lengths, offsets;
  std::vector<int32_t> ids, types, labels, token_labels;
  std::vector<float> targets;
};

class TinyRun {
 public:
  explicit TinyRun(bertology_device* on = device()) {
    check(bertology_activations_create(on, &handle));
  }
  ~TinyRun() { bertology_activations_free(handle); }
  TinyRun(const TinyRun&) = delete;
  TinyRun& operator=(const TinyRun&) = delete;

  TinyRun& batch(const TinyBatch& batch, int32_t loss = BERTOLOGY_CLASSIFICATION) {
    check(bertology_activations_set_batch(handle, batch.examples(), batch.offsets.data(),
                                          batch.ids.data(), batch.types.data()));
    if (loss == BERTOLOGY_CLASSIFICATION) {
      check(bertology_activations_set_labels(handle, loss, batch.labels.data(), batch.examples()));
    } else if (loss == BERTOLOGY_MASKED_LM || loss == BERTOLOGY_CAUSAL_LM) {
      check(bertology_activations_set_labels(handle, loss, batch.token_labels.data(),
                                             batch.offsets.back()));
    } else if (loss == BERTOLOGY_REGRESSION) {
      check(bertology_activations_set_targets(handle, batch.targets.data(), batch.examples()));
    }
    return *this;
  }
  TinyRun& mask(const std::vector<float>& mask, bool gradients = false) {
    check(bertology_activations_set_head_mask(handle, mask.data(),
                                              static_cast<int64_t>(mask.size()), gradients));
    return *this;
  }
  TinyRun& capture(const std::vector<int32_t>& captures) {
    for (const int32_t kind : captures)
      check(bertology_activations_capture(handle, kind, nullptr, 0));
    return *this;
  }
  TinyRun& capture_layer(int32_t kind, int32_t layer) {
    check(bertology_activations_capture(handle, kind, &layer, 1));
    return *this;
  }
  TinyRun& on(TinyModel& model) {
    check(bertology_model_run(model.handle, handle));
    return *this;
  }

  std::vector<float> get(int32_t capture, int32_t layer = 0, int32_t example = -1) const {
    int64_t view[6];
    check(bertology_activations_tensor(handle, capture, layer, example, view));
    int64_t memory[2];
    check(bertology_activations_memory(handle, memory));
    int64_t product = 1;
    for (int64_t i = 0; i < view[2]; ++i) product *= view[3 + i];
    EXPECT_EQ(product, view[1]);
    EXPECT_LE((view[0] + view[1]) * 4, std::max<int64_t>(memory[1], 0));
    const float* data = reinterpret_cast<const float*>(static_cast<intptr_t>(memory[0])) + view[0];
    return {data, data + view[1]};
  }

  bertology_activations* handle = nullptr;
};

/// Every capture of a classifier, or of a language model, with how many layers each has.
inline std::vector<std::pair<int32_t, int32_t>> layered_captures(
    const bertology_config& config, int32_t loss = BERTOLOGY_CLASSIFICATION) {
  const int32_t layers = config.num_hidden_layers;
  const bool classifies = loss == BERTOLOGY_CLASSIFICATION;
  std::vector<std::pair<int32_t, int32_t>> captures = {
      {BERTOLOGY_LOSS, 1},
      {BERTOLOGY_HEAD_GRADIENTS, 1},
      {BERTOLOGY_TOKEN_HEAD_GRADIENTS, 1},
      {BERTOLOGY_HIDDEN_STATES, layers + 1},
      {BERTOLOGY_ATTENTIONS, layers},
      {BERTOLOGY_ATTENTION_ENTROPIES, layers},
      {BERTOLOGY_HEAD_OUTPUTS, layers},
      {BERTOLOGY_HEAD_OUTPUT_GRADIENTS, layers},
      {BERTOLOGY_ATTENTION_GRADIENTS, layers},
      {BERTOLOGY_HIDDEN_STATE_GRADIENTS, layers + 1}};
  const std::vector<int32_t> outputs =
      classifies ? std::vector<int32_t>{BERTOLOGY_LOGITS, BERTOLOGY_POOLER_OUTPUT}
                 : std::vector<int32_t>{BERTOLOGY_TOKEN_LOGITS, BERTOLOGY_TOKEN_LOSSES,
                                        BERTOLOGY_TOKEN_PREDICTIONS};
  for (const int32_t output : outputs) captures.emplace_back(output, 1);
  if (config.model_type == BERTOLOGY_GPT2) captures.emplace_back(BERTOLOGY_LAST_BLOCK_STATE, 1);
  return captures;
}

}  // namespace bertology::testing
