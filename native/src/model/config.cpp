#include "model/config.h"

#include <cmath>

#include "base/error.h"

namespace bertology {
namespace {

void check_size(const char* name, int32_t value, int32_t least, int32_t most) {
  check_argument(value >= least && value <= most, "config: ", name, " is ", value, ", expected ",
                 least, " to ", most);
}

}  // namespace

Config::Config(const bertology_config& config) : bertology_config(config) {
  constexpr int32_t kMost = 1 << 24;
  check_size("num_hidden_layers", num_hidden_layers, 1, 4096);
  check_size("num_attention_heads", num_attention_heads, 1, 4096);
  check_size("hidden_size", hidden_size, 1, 1 << 20);
  check_argument(hidden_size % num_attention_heads == 0, "config: hidden_size ", hidden_size,
                 " is not a multiple of num_attention_heads ", num_attention_heads);
  check_size("intermediate_size", intermediate_size, 1, kMost);
  check_size("vocab_size", vocab_size, 1, kMost);
  check_size("max_position_embeddings", max_position_embeddings, 1, kMost);
  check_size("model_type", model_type, 0, BERTOLOGY_MODEL_TYPE_COUNT - 1);
  check_size("type_vocab_size", type_vocab_size, bert() ? 1 : 0, bert() ? kMost : 0);
  check_size("hidden_act", hidden_act, 0, BERTOLOGY_HIDDEN_ACT_COUNT - 1);
  check_argument(std::isfinite(layer_norm_eps) && layer_norm_eps >= 0, "config: layer_norm_eps is ",
                 layer_norm_eps, ", expected a small positive number");
  check_argument(
      dtype == BERTOLOGY_FLOAT32 || dtype == BERTOLOGY_BFLOAT16 || dtype == BERTOLOGY_FLOAT16,
      "config: dtype is ", dtype, ", expected float32, bfloat16 or float16");
  set_classifier(num_labels, pooling);
}

Activation Config::activation() const {
  switch (hidden_act) {
    case BERTOLOGY_GELU_NEW:
      return Activation::kGeluNew;
    case BERTOLOGY_RELU:
      return Activation::kRelu;
    case BERTOLOGY_SILU:
      return Activation::kSilu;
    case BERTOLOGY_TANH:
      return Activation::kTanh;
    default:
      return Activation::kGelu;
  }
}

float Config::attention_scale(int32_t layer) const {
  const bool gpt2 = model_type == BERTOLOGY_GPT2;
  float scale = 1.0f;
  if (!gpt2 || scale_attn_weights != 0) scale /= std::sqrt(static_cast<float>(head_dim()));
  if (gpt2 && scale_attn_by_inverse_layer_idx != 0) scale /= static_cast<float>(layer + 1);
  return scale;
}

void Config::check_layer(int32_t layer) const {
  check_argument(layer >= 0 && layer < num_hidden_layers, "layer ", layer,
                 " does not exist: the model has layers 0 to ", num_hidden_layers - 1);
}

void Config::check_head(int32_t layer, int32_t head) const {
  check_layer(layer);
  check_argument(head >= 0 && head < num_attention_heads, "head ", head, " of layer ", layer,
                 " does not exist: the model has heads 0 to ", num_attention_heads - 1);
}

void Config::set_classifier(int32_t labels, int32_t kind) {
  check_size("num_labels", labels, 0, 1 << 20);
  check_size("pooling", kind, 0, BERTOLOGY_POOLING_COUNT - 1);
  check_argument(bert() || labels == 0 || kind != BERTOLOGY_POOLER,
                 "config: pooling is POOLER, which a GPT does not have");
  num_labels = labels;
  pooling = kind;
}

}  // namespace bertology
