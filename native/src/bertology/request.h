// What a run is asked to do: its batch, labels, head mask and captures, as the caller set them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "bertology.h"
#include "model/config.h"

namespace bertology {

class Accumulator;

/// How a captured tensor divides into examples.
enum class Extent {
  kExample,    // a fixed number of elements an example
  kToken,      // a fixed number a token
  kTokenHead,  // one a head and token
  kPair,       // one a head and pair of tokens
};

struct CaptureKind {
  Extent extent;
  int extra_layers;  // -1: has no layers; else it has num_hidden_layers + extra_layers
  bool gradient;     // needs a backward pass
  const char* name;
};

const CaptureKind& kind_of(int32_t capture);

struct Request {
  std::vector<int64_t> offsets = {0};   // [examples + 1]
  std::vector<int32_t> input_ids;       // [T]
  std::vector<int32_t> token_type_ids;  // [T]
  int32_t loss = BERTOLOGY_NO_LOSS;
  std::vector<int32_t> labels;   // as the loss says
  std::vector<float> targets;    // [examples], REGRESSION
  std::vector<float> head_mask;  // [layers, heads]; empty: all ones
  /// Of a sweep over masks, [masks, layers, heads], instead of head_mask.
  std::vector<float> head_masks;
  int32_t masks = 0;  // 0: no sweep
  bool masked_gradients = false;
  /// What the heads' gradients are added to; null: nothing.
  std::shared_ptr<Accumulator> accumulator;
  /// By capture and layer, whether it is asked for; captures without layers have layer 0 only.
  std::array<std::vector<bool>, BERTOLOGY_CAPTURE_COUNT> captures;
  /// By capture, whether all layers are asked for, however many the model has.
  std::array<bool, BERTOLOGY_CAPTURE_COUNT> all_layers = {};

  int64_t examples() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t tokens() const { return offsets.back(); }

  bool wants(int32_t capture, int32_t layer = 0) const;
  bool wants_any(int32_t capture) const;
  /// Lowest layer for which the capture is asked for; `none` if it is not.
  int32_t lowest(int32_t capture, int32_t none) const;
  /// Highest layer for which the capture is asked for; -1 if it is not.
  int32_t highest(int32_t capture, int32_t layers) const;
  bool wants_gradients() const;
  /// Whether the loss is that of a language model.
  bool predicts_tokens() const {
    return loss == BERTOLOGY_MASKED_LM || loss == BERTOLOGY_CAUSAL_LM;
  }
  /// What the token's logits are to predict, of a language model's loss.
  int32_t token_label(int64_t example, int64_t token) const;

  void set_batch(int32_t examples, const int64_t* new_offsets, const int32_t* ids,
                 const int32_t* types);
  void set_labels(int32_t kind, const int32_t* values, int64_t count);
  void set_targets(const float* values, int64_t count);
  void set_head_mask(const float* values, int64_t count, bool gradients);
  void set_head_masks(const float* values, int32_t new_masks, int64_t count);
  void add_capture(int32_t capture, const int32_t* layers, int32_t count);

  /// Throws what is wrong with this request for a model of this shape; pruned heads are checked by
  /// the model.
  void check(const Config& config) const;

 private:
  void check_sweep(const Config& config) const;
};

}  // namespace bertology
