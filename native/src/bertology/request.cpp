#include "bertology/request.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "bertology/accumulator.h"

namespace bertology {

const CaptureKind& kind_of(int32_t capture) {
  static constexpr CaptureKind kKinds[BERTOLOGY_CAPTURE_COUNT] = {
      {Extent::kExample, -1, false, "LOGITS"},
      {Extent::kToken, -1, false, "TOKEN_LOGITS"},
      {Extent::kExample, -1, false, "POOLER_OUTPUT"},
      {Extent::kToken, 1, false, "HIDDEN_STATES"},
      {Extent::kPair, 0, false, "ATTENTIONS"},
      {Extent::kTokenHead, 0, false, "ATTENTION_ENTROPIES"},
      {Extent::kToken, 0, false, "HEAD_OUTPUTS"},
      {Extent::kExample, -1, false, "LOSS"},
      {Extent::kExample, -1, true, "HEAD_GRADIENTS"},
      {Extent::kExample, -1, true, "TOKEN_HEAD_GRADIENTS"},
      {Extent::kToken, 0, true, "HEAD_OUTPUT_GRADIENTS"},
      {Extent::kPair, 0, true, "ATTENTION_GRADIENTS"},
      {Extent::kToken, 1, true, "HIDDEN_STATE_GRADIENTS"},
      {Extent::kToken, -1, false, "LAST_BLOCK_STATE"},
      {Extent::kToken, -1, false, "TOKEN_LOSSES"},
      {Extent::kToken, -1, false, "TOKEN_PREDICTIONS"},
  };
  check_argument(capture >= 0 && capture < BERTOLOGY_CAPTURE_COUNT, "capture: ", capture,
                 ", expected 0 to ", BERTOLOGY_CAPTURE_COUNT - 1);
  return kKinds[capture];
}

bool Request::wants(int32_t capture, int32_t layer) const {
  const size_t c = static_cast<size_t>(capture);
  const size_t l = static_cast<size_t>(layer);
  return all_layers[c] || (l < captures[c].size() && captures[c][l]);
}

bool Request::wants_any(int32_t capture) const {
  const size_t c = static_cast<size_t>(capture);
  return all_layers[c] || !captures[c].empty();
}

int32_t Request::lowest(int32_t capture, int32_t none) const {
  if (!wants_any(capture)) return none;
  int32_t layer = 0;
  while (!wants(capture, layer)) ++layer;
  return layer;
}

int32_t Request::highest(int32_t capture, int32_t layers) const {
  int32_t layer = layers - 1;
  while (layer >= 0 && !wants(capture, layer)) --layer;
  return layer;
}

bool Request::wants_gradients() const {
  if (accumulator != nullptr) return true;
  for (int32_t capture = 0; capture < BERTOLOGY_CAPTURE_COUNT; ++capture) {
    if (kind_of(capture).gradient && wants_any(capture)) return true;
  }
  return false;
}

void Request::set_batch(int32_t count, const int64_t* new_offsets, const int32_t* ids,
                        const int32_t* types) {
  check_argument(count > 0, "examples: ", count, ", expected at least 1");
  check_argument(new_offsets != nullptr && ids != nullptr,
                 "set_batch: offsets and input_ids must be given");
  check_argument(new_offsets[0] == 0, "offsets[0]: ", new_offsets[0], ", expected 0");
  for (int32_t b = 0; b < count; ++b) {
    check_argument(new_offsets[b + 1] > new_offsets[b], "example ", b, " has ",
                   new_offsets[b + 1] - new_offsets[b], " tokens, expected at least 1");
  }
  const int64_t total = new_offsets[count];
  *this = Request();
  offsets.assign(new_offsets, new_offsets + count + 1);
  input_ids.assign(ids, ids + total);
  if (types != nullptr) {
    token_type_ids.assign(types, types + total);
  } else {
    token_type_ids.assign(static_cast<size_t>(total), 0);
  }
}

void Request::set_labels(int32_t kind, const int32_t* values, int64_t count) {
  const bool by_token = kind == BERTOLOGY_MASKED_LM || kind == BERTOLOGY_CAUSAL_LM;
  check_argument(by_token || kind == BERTOLOGY_CLASSIFICATION, "loss: ", kind,
                 ", expected CLASSIFICATION, MASKED_LM or CAUSAL_LM for labels");
  if (kind == BERTOLOGY_CAUSAL_LM && values == nullptr && count == 0) {
    values = input_ids.data();
    count = tokens();
  }
  const int64_t expected = by_token ? tokens() : examples();
  check_argument(count == expected && values != nullptr, "labels: ", count, ", expected ", expected,
                 by_token ? ", one a token" : ", one an example");
  loss = kind;
  labels.assign(values, values + count);
  targets.clear();
}

int32_t Request::token_label(int64_t example, int64_t token) const {
  if (loss == BERTOLOGY_MASKED_LM) return labels[static_cast<size_t>(token)];
  const bool last = token + 1 == offsets[static_cast<size_t>(example) + 1];
  return last ? static_cast<int32_t>(BERTOLOGY_IGNORED_LABEL)
              : labels[static_cast<size_t>(token) + 1];
}

void Request::set_targets(const float* values, int64_t count) {
  check_argument(count == examples() && values != nullptr, "targets: ", count, ", expected ",
                 examples(), ", one an example");
  for (int64_t b = 0; b < count; ++b) {
    check_argument(std::isfinite(values[b]), "target of example ", b, " is ", values[b],
                   ", expected a finite number");
  }
  loss = BERTOLOGY_REGRESSION;
  targets.assign(values, values + count);
  labels.clear();
}

namespace {

void check_mask_values(const char* name, const float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    check_argument(values[i] >= 0 && values[i] <= 1, name, "[", i, "] is ", values[i],
                   ", expected 0 to 1");
  }
}

}  // namespace

void Request::set_head_mask(const float* values, int64_t count, bool gradients) {
  masked_gradients = gradients;
  head_mask.clear();
  head_masks.clear();
  masks = 0;
  if (values == nullptr) return;
  check_mask_values("head_mask", values, count);
  head_mask.assign(values, values + count);
}

void Request::set_head_masks(const float* values, int32_t new_masks, int64_t count) {
  check_argument(values != nullptr && new_masks > 0, "head_masks: ", new_masks,
                 " masks, expected at least 1");
  check_argument(count > 0 && count % new_masks == 0, "head_masks: ", count, " values for ",
                 new_masks, " masks, expected as many for each");
  check_mask_values("head_masks", values, count);
  head_mask.clear();
  masked_gradients = false;
  head_masks.assign(values, values + count);
  masks = new_masks;
}

void Request::add_capture(int32_t capture, const int32_t* layers, int32_t count) {
  const CaptureKind& kind = kind_of(capture);
  const size_t c = static_cast<size_t>(capture);
  if (count == 0 || kind.extra_layers < 0) {
    all_layers[c] = true;
    return;
  }
  check_argument(layers != nullptr && count > 0, "capture ", kind.name, ": ", count,
                 " layers, but none are given");
  for (int32_t i = 0; i < count; ++i) {
    check_argument(layers[i] >= 0, "capture ", kind.name, ": layer ", layers[i], " does not exist");
    const size_t layer = static_cast<size_t>(layers[i]);
    if (captures[c].size() <= layer) captures[c].resize(layer + 1);
    captures[c][layer] = true;
  }
}

void Request::check_sweep(const Config& config) const {
  const int64_t heads = static_cast<int64_t>(config.num_hidden_layers) * config.num_attention_heads;
  check_argument(static_cast<int64_t>(head_masks.size()) == masks * heads, "head_masks have ",
                 head_masks.size(), " values, expected ", masks * heads, ": ", masks, " masks of ",
                 config.num_hidden_layers, " layers of ", config.num_attention_heads, " heads");
  check_argument(masks * examples() <= std::numeric_limits<int32_t>::max(), "head_masks: ", masks,
                 " masks times ", examples(), " examples are too many for one sweep");
  check_argument(accumulator == nullptr, "a sweep over head masks has no gradients to add up");
  bool shows = false;
  for (int32_t capture = 0; capture < BERTOLOGY_CAPTURE_COUNT; ++capture) {
    const bool shared = capture == BERTOLOGY_LOGITS || capture == BERTOLOGY_POOLER_OUTPUT ||
                        capture == BERTOLOGY_LOSS || capture == BERTOLOGY_TOKEN_LOSSES ||
                        capture == BERTOLOGY_TOKEN_PREDICTIONS;
    check_argument(shared || !wants_any(capture), "capture ", kind_of(capture).name,
                   ": a sweep over head masks shows LOGITS, POOLER_OUTPUT, LOSS, TOKEN_LOSSES and "
                   "TOKEN_PREDICTIONS; run the batch with one head mask instead");
    shows = shows || wants_any(capture);
  }
  check_argument(shows, "a sweep over head masks that captures nothing computes nothing");
}

void Request::check(const Config& config) const {
  check_argument(examples() > 0, "the activations have no batch: set one first");
  for (int64_t b = 0; b < examples(); ++b) {
    const int64_t length = offsets[static_cast<size_t>(b) + 1] - offsets[static_cast<size_t>(b)];
    check_argument(length <= config.max_position_embeddings, "example ", b, " has ", length,
                   " tokens, the model has ", config.max_position_embeddings, " positions");
  }
  for (size_t t = 0; t < input_ids.size(); ++t) {
    check_argument(input_ids[t] >= 0 && input_ids[t] < config.vocab_size, "input_ids[", t, "] is ",
                   input_ids[t], ", expected 0 to ", config.vocab_size - 1);
    // A model without segments takes the 0 that a token has if none is given.
    const int32_t most_type = std::max(config.type_vocab_size, 1) - 1;
    check_argument(token_type_ids[t] >= 0 && token_type_ids[t] <= most_type, "token_type_ids[", t,
                   "] is ", token_type_ids[t], ", expected 0",
                   most_type > 0 ? text(" to ", most_type) : text());
  }
  if (accumulator != nullptr) {
    check_argument(accumulator->layers() == config.num_hidden_layers &&
                       accumulator->heads() == config.num_attention_heads,
                   "accumulator: sums of ", accumulator->layers(), " layers of ",
                   accumulator->heads(), " heads, the model has ", config.num_hidden_layers,
                   " layers of ", config.num_attention_heads);
  }
  const int64_t heads = static_cast<int64_t>(config.num_hidden_layers) * config.num_attention_heads;
  check_argument(head_mask.empty() || static_cast<int64_t>(head_mask.size()) == heads,
                 "head_mask has ", head_mask.size(), " values, expected ", heads, ": ",
                 config.num_hidden_layers, " layers of ", config.num_attention_heads, " heads");
  if (masks > 0) check_sweep(config);
  for (int32_t capture = 0; capture < BERTOLOGY_CAPTURE_COUNT; ++capture) {
    const CaptureKind& kind = kind_of(capture);
    const int64_t asked = static_cast<int64_t>(captures[static_cast<size_t>(capture)].size());
    const int64_t layers = kind.extra_layers < 0 ? 1 : config.num_hidden_layers + kind.extra_layers;
    check_argument(asked <= layers, "capture ", kind.name, ": layer ", asked - 1,
                   " does not exist: there are layers 0 to ", layers - 1);
  }
  check_argument(loss != BERTOLOGY_NO_LOSS || !(wants_gradients() || wants_any(BERTOLOGY_LOSS)),
                 "losses and gradients need labels: set labels or targets");
  const bool classifies = loss == BERTOLOGY_CLASSIFICATION || loss == BERTOLOGY_REGRESSION;
  if (classifies || wants_any(BERTOLOGY_LOGITS)) {
    check_argument(config.num_labels > 0, "the model has no classifier");
  }
  if (loss == BERTOLOGY_CLASSIFICATION) {
    for (size_t b = 0; b < labels.size(); ++b) {
      check_argument(labels[b] >= 0 && labels[b] < config.num_labels, "label of example ", b,
                     " is ", labels[b], ", expected 0 to ", config.num_labels - 1);
    }
  }
  check_argument(config.norm_first() || !wants_any(BERTOLOGY_LAST_BLOCK_STATE),
                 "capture LAST_BLOCK_STATE: the model has no norm behind its last layer, it is the "
                 "last of HIDDEN_STATES");
  check_argument(predicts_tokens() || !wants_any(BERTOLOGY_TOKEN_LOSSES),
                 "capture TOKEN_LOSSES needs labels of tokens");
  check_argument(
      !predicts_tokens() || (loss == BERTOLOGY_CAUSAL_LM) == config.causal(),
      "loss: ", loss == BERTOLOGY_CAUSAL_LM ? "CAUSAL_LM" : "MASKED_LM",
      config.causal() ? " is BERT's, a GPT has CAUSAL_LM" : " is a GPT's, BERT has MASKED_LM");
  check_argument(loss != BERTOLOGY_REGRESSION || config.num_labels == 1,
                 "regression needs a classifier with 1 output, the model has ", config.num_labels);
  if (!predicts_tokens()) return;
  for (int64_t b = 0; b < examples(); ++b) {
    bool labelled = false;
    for (int64_t t = offsets[static_cast<size_t>(b)]; t < offsets[static_cast<size_t>(b) + 1];
         ++t) {
      const int32_t label = token_label(b, t);
      if (label == BERTOLOGY_IGNORED_LABEL) continue;
      check_argument(label >= 0 && label < config.vocab_size, "label of token ",
                     loss == BERTOLOGY_CAUSAL_LM ? t + 1 : t, " is ", label, ", expected 0 to ",
                     config.vocab_size - 1, " or ", static_cast<int>(BERTOLOGY_IGNORED_LABEL));
      labelled = true;
    }
    check_argument(labelled, "example ", b,
                   loss == BERTOLOGY_CAUSAL_LM
                       ? " has no token to predict: it needs two, and a label behind the first"
                       : " has no token with a label");
  }
}

}  // namespace bertology
