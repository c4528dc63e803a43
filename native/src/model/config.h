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

  /// Throws unless the layer, or the head, exists.
  void check_layer(int32_t layer) const;
  void check_head(int32_t layer, int32_t head) const;

  void set_classifier(int32_t num_labels, int32_t pooling);
};

}  // namespace bertology
