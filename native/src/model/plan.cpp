#include "model/plan.h"

#include <algorithm>

namespace bertology {

Plan::Plan(const Config& config, const Request& request) {
  const int32_t count = config.num_hidden_layers;
  const bool sequence_loss =
      request.loss == BERTOLOGY_CLASSIFICATION || request.loss == BERTOLOGY_REGRESSION;
  backward = request.wants_gradients();
  const bool loss = backward || request.wants_any(BERTOLOGY_LOSS);
  classifies = request.wants_any(BERTOLOGY_LOGITS) || (loss && sequence_loss);
  pools = classifies || request.wants_any(BERTOLOGY_POOLER_OUTPUT);
  predicts_all = request.wants_any(BERTOLOGY_TOKEN_LOGITS) ||
                 request.wants_any(BERTOLOGY_TOKEN_LOSSES) ||
                 request.wants_any(BERTOLOGY_TOKEN_PREDICTIONS);
  predicts = predicts_all || (loss && request.predicts_tokens());

  const auto inside_attention = [&](int32_t layer) {
    return request.wants(BERTOLOGY_ATTENTIONS, layer) ||
           request.wants(BERTOLOGY_ATTENTION_ENTROPIES, layer) ||
           request.wants(BERTOLOGY_HEAD_OUTPUTS, layer);
  };
  int32_t attention_layers = 0;
  for (int32_t l = 0; l < count; ++l) {
    if (inside_attention(l)) attention_layers = l + 1;
  }
  const bool whole = pools || predicts || request.wants_any(BERTOLOGY_LAST_BLOCK_STATE);
  const int32_t state_layers =
      whole ? count : std::max(0, request.highest(BERTOLOGY_HIDDEN_STATES, count + 1));
  layers = std::max(attention_layers, state_layers);
  stop_after_attention = attention_layers > state_layers;

  const int32_t last = count - 1;
  const bool mean = config.pooling == BERTOLOGY_MEAN || config.pooling == BERTOLOGY_MEAN_NORMALIZED;
  const bool shows_all = request.wants(BERTOLOGY_HIDDEN_STATES, count) || inside_attention(last) ||
                         request.wants(BERTOLOGY_HIDDEN_STATE_GRADIENTS, count) ||
                         request.wants(BERTOLOGY_HEAD_OUTPUT_GRADIENTS, last) ||
                         request.wants(BERTOLOGY_ATTENTION_GRADIENTS, last) ||
                         request.wants_any(BERTOLOGY_LAST_BLOCK_STATE) || predicts_all;
  // A causal language model predicts almost all tokens.
  some_rows = pools != predicts && !shows_all && !(pools && mean) && !(predicts && config.causal());

  const int32_t none = count + 1;
  lowest_heads = std::min(request.lowest(BERTOLOGY_HEAD_OUTPUT_GRADIENTS, none),
                          request.lowest(BERTOLOGY_ATTENTION_GRADIENTS, none));
  if (request.wants_any(BERTOLOGY_HEAD_GRADIENTS) ||
      request.wants_any(BERTOLOGY_TOKEN_HEAD_GRADIENTS) || request.accumulator != nullptr) {
    lowest_heads = 0;
  }
  lowest_state = request.lowest(BERTOLOGY_HIDDEN_STATE_GRADIENTS, none);
}

}  // namespace bertology
