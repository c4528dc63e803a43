// The weights of a model on their device, and how they are set by name.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "model/config.h"
#include "ops/backend.h"

namespace bertology {

/// A tensor of floats in device memory.
class Vector {
 public:
  bool empty() const { return memory_ == nullptr; }
  const float* data() const {
    return memory_ == nullptr ? nullptr : static_cast<const float*>(memory_->data());
  }
  int64_t count() const { return count_; }
  int64_t bytes() const { return memory_ == nullptr ? 0 : memory_->bytes(); }

  /// Memory for `count` values, still to be set.
  void allocate(Backend& backend, int64_t count, const char* what);
  /// Sets `count` of them, from the one of index `first`.
  void set(Backend& backend, int64_t first, const float* values, int64_t count);
  /// A copy of the values in host memory.
  std::vector<float> values(Backend& backend) const;

 private:
  std::unique_ptr<DeviceMemory> memory_;
  int64_t count_ = 0;
};

struct Norm {
  Vector gamma;
  Vector beta;
};

struct Linear {
  std::unique_ptr<PackedMatrix> weight;
  Vector bias;
};

struct Layer {
  std::vector<int32_t> heads;            // that the layer has, original numbers, ascending
  std::vector<int32_t> available_heads;  // that its checkpoint has
  Linear query_key_value;                // three parts
  Linear attention_output;
  Norm attention_norm;  // of the attention block: behind it, or before it
  Linear intermediate;
  Linear output;
  Norm output_norm;  // of the feed-forward block

  /// Which parts of query_key_value have been set.
  using PartsSet = std::array<bool, 3>;
  PartsSet weights_set{};
  PartsSet biases_set{};

  int64_t head_count() const { return static_cast<int64_t>(heads.size()); }
};

/// From states to logits of tokens. A GPT has the decoder alone.
struct LanguageModelHead {
  Linear transform;
  Norm norm;
  std::unique_ptr<PackedMatrix> decoder;  // the word embeddings, unless the model brings its own
  bool own_decoder = false;
  Vector bias;
};

/// Selects heads: the rows, in units of `head_dim`, at which `wanted` stand in `present`.
std::vector<int64_t> head_rows(const std::vector<int32_t>& present,
                               const std::vector<int32_t>& wanted, int64_t head_dim);

class Weights {
 private:
  std::shared_ptr<Backend> backend_;  // before all that lies in its memory, so that it goes last

 public:
  Weights(std::shared_ptr<Backend> backend, const Config& config);

  /// See bertology_model_set_parameter.
  void set(const Config& config, const std::string& name, const bertology_tensor& value);

  /// The name of a parameter that the encoder (`classifier`: and pooling and classifier;
  /// `language_model`: and the language model) needs and that was never set; "" if there is none.
  std::string missing(const Config& config, bool pooler, bool classifier,
                      bool language_model) const;

  void forget_classifier();

  int64_t parameters() const;
  int64_t bytes() const;

  Backend& backend() const { return *backend_; }

  Vector word;
  Vector position;
  Vector token_type;
  Norm embedding_norm;
  std::vector<Layer> layers;
  Norm final_norm;
  Linear pooler;
  Linear classifier;
  LanguageModelHead language_model;

 private:
  void set_layer(const Config& config, int32_t index, const std::string& field,
                 const std::string& name, const bertology_tensor& value);
  void set_decoder(const Config& config, const std::string& name, const bertology_tensor& value);
  void set_vector(Vector& target, const std::string& name, const bertology_tensor& value,
                  const std::vector<int64_t>& shape);
  void set_projection(const Config& config, Layer& layer, size_t part, bool weight,
                      const std::string& name, const bertology_tensor& value);
  void set_norm(Norm& target, const std::string& field, const std::string& name,
                const bertology_tensor& value, int64_t width);
  void set_linear(Linear& target, const std::string& field, const std::string& name,
                  const bertology_tensor& value, int64_t outputs, int64_t inputs, DType dtype);
  template <class Body>
  void for_each(const Body& body) const;
};

}  // namespace bertology
