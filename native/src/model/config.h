// The shape of a model, checked.
#pragma once

#include <cstdint>

#include "bertology.h"
#include "ops/activation.h"

namespace bertology {

struct Config : bertology_config {
  explicit Config(const bertology_config& config);

  int32_t head_dim() const { return hidden_size / num_attention_heads; }
  Activation activation() const;

  /// Whether tokens see only themselves and those before them.
  bool causal() const { return model_type != BERTOLOGY_BERT; }
  /// Whether norms stand before the blocks, with one more behind the last; else behind each block.
  bool norm_first() const { return model_type == BERTOLOGY_GPT2; }
  /// Whether the embeddings have segments and are normalised, the classifier sees a pooler's
  /// output, and the language model has layers of its own and biases.
  bool bert() const { return model_type == BERTOLOGY_BERT; }
  /// What scores of this layer are multiplied by.
  float attention_scale(int32_t layer) const;

  /// Throws unless the layer, or the head, exists.
  void check_layer(int32_t layer) const;
  void check_head(int32_t layer, int32_t head) const;

  void set_classifier(int32_t num_labels, int32_t pooling);
};

}  // namespace bertology
