// What a run has to compute, and what it can leave out.
#pragma once

#include <cstdint>

#include "bertology/request.h"
#include "model/config.h"

namespace bertology {

/// Decided once a run, from its captures.
struct Plan {
  Plan(const Config& config, const Request& request);

  /// Layers whose attention runs. Those above are above everything that was asked for.
  int32_t layers;
  /// The last of them stops after its attention: nobody needs its output.
  bool stop_after_attention;

  bool pools;         // sequence vectors, for the pooler's output, the classifier and its losses
  bool classifies;    // logits of sequences
  bool predicts;      // logits of tokens
  bool predicts_all;  // of all tokens, not of the labelled ones only
  bool backward;

  /// In the last layer, only some rows are computed as queries and onwards: first (a GPT: last)
  /// tokens for a classifier, labelled tokens for a masked language model. Not when anything
  /// captured shows the others.
  bool some_rows;

  /// Lowest layer whose heads' gradients are needed, and lowest hidden state whose gradient is
  /// needed; num_hidden_layers + 1 for none.
  int32_t lowest_heads;
  int32_t lowest_state;

  /// Backward goes down to this layer.
  int32_t lowest_layer() const { return lowest_heads < lowest_state ? lowest_heads : lowest_state; }
  /// Backward through layer l goes on to its input.
  bool needs_input_gradient(int32_t l) const { return lowest_heads < l || lowest_state <= l; }
};

}  // namespace bertology
