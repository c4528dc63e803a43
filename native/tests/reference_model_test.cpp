// Every capture of every model type against the whole model in double precision, and every gradient
// against finite differences of its loss, or against the reference's own where that has been held
// against them.
#include "reference_model.h"

#include "base/error.h"

namespace bertology::testing {
namespace {

using reference::Nudge;
using reference::Values;

struct ModelCase {
  const char* name;
  int32_t model_type, loss;
  bool masked;
  int32_t hidden_act;
  bool scale_by_layer, scale_by_width;
};

const std::vector<ModelCase> kCases = {
    {"bert classification", BERTOLOGY_BERT, BERTOLOGY_CLASSIFICATION, true, BERTOLOGY_GELU, false,
     true},
    {"bert masked lm", BERTOLOGY_BERT, BERTOLOGY_MASKED_LM, false, BERTOLOGY_GELU, false, true},
    {"gpt2 lm", BERTOLOGY_GPT2, BERTOLOGY_CAUSAL_LM, false, BERTOLOGY_GELU_NEW, false, true},
    {"gpt2 lm masked", BERTOLOGY_GPT2, BERTOLOGY_CAUSAL_LM, true, BERTOLOGY_SILU, true, true},
    {"gpt2 lm unscaled", BERTOLOGY_GPT2, BERTOLOGY_CAUSAL_LM, true, BERTOLOGY_TANH, true, false},
    {"gpt2 classification", BERTOLOGY_GPT2, BERTOLOGY_CLASSIFICATION, true, BERTOLOGY_GELU_NEW,
     false, true},
    {"gpt2 regression", BERTOLOGY_GPT2, BERTOLOGY_REGRESSION, false, BERTOLOGY_GELU, false, true},
    {"gpt lm", BERTOLOGY_OPENAI_GPT, BERTOLOGY_CAUSAL_LM, true, BERTOLOGY_GELU_NEW, false, true},
    {"gpt classification", BERTOLOGY_OPENAI_GPT, BERTOLOGY_CLASSIFICATION, false,
     BERTOLOGY_GELU_NEW, false, true},
};

bertology_config config_of(const ModelCase& model_case) {
  bertology_config config = tiny_config(model_case.model_type);
  config.num_hidden_layers = 2;
  config.num_attention_heads = 3;
  config.hidden_size = 21;
  config.hidden_act = model_case.hidden_act;
  config.num_labels = model_case.loss == BERTOLOGY_REGRESSION ? 1 : 3;
  config.scale_attn_by_inverse_layer_idx = model_case.scale_by_layer;
  config.scale_attn_weights = model_case.scale_by_width;
  return config;
}

class ReferenceModelTest : public ::testing::TestWithParam<ModelCase> {
 protected:
  ReferenceModelTest()
      : model(config_of(GetParam())), exact(model), batch(model.config, {6, 2, 9}) {
    mask.assign(6, 1.0f);
    if (GetParam().masked) mask = {0.5f, 1, 0, 0.25f, 0.75f, 1};
  }

  bool language_model() const {
    return GetParam().loss == BERTOLOGY_CAUSAL_LM || GetParam().loss == BERTOLOGY_MASKED_LM;
  }
  reference::Run reference(size_t b, const std::vector<float>& with, const Nudge& nudge = {}) {
    return exact.run(batch, b, GetParam().loss, with, nudge);
  }

  TinyModel model;
  reference::Model exact;
  TinyBatch batch;
  std::vector<float> mask;
};

/// [tokens, heads, dim] or [heads, ...]: the reference has the same order.
TEST_P(ReferenceModelTest, CapturesAgree) {
  std::vector<int32_t> captures = {BERTOLOGY_HIDDEN_STATES, BERTOLOGY_ATTENTIONS,
                                   BERTOLOGY_ATTENTION_ENTROPIES, BERTOLOGY_HEAD_OUTPUTS,
                                   BERTOLOGY_LOSS};
  if (language_model()) {
    captures.insert(captures.end(),
                    {BERTOLOGY_TOKEN_LOGITS, BERTOLOGY_TOKEN_LOSSES, BERTOLOGY_TOKEN_PREDICTIONS});
  } else {
    captures.insert(captures.end(), {BERTOLOGY_LOGITS, BERTOLOGY_POOLER_OUTPUT});
  }
  if (GetParam().model_type == BERTOLOGY_GPT2) captures.push_back(BERTOLOGY_LAST_BLOCK_STATE);
  TinyRun run;
  run.batch(batch, GetParam().loss).mask(mask).capture(captures).on(model);
  for (int32_t b = 0; b < batch.examples(); ++b) {
    const reference::Run expected = reference(static_cast<size_t>(b), mask);
    const auto check = [&](int32_t capture, int32_t layer, const Values& values) {
      expect_close(run.get(capture, layer, b), values, 3e-6, 1e-6,
                   text("capture ", capture, " layer ", layer, " example ", b).c_str());
    };
    for (int32_t l = 0; l <= 2; ++l)
      check(BERTOLOGY_HIDDEN_STATES, l, expected.hidden_states[static_cast<size_t>(l)]);
    for (int32_t l = 0; l < 2; ++l) {
      const size_t layer = static_cast<size_t>(l);
      check(BERTOLOGY_ATTENTIONS, l, expected.attentions[layer]);
      check(BERTOLOGY_ATTENTION_ENTROPIES, l, expected.entropies[layer]);
      check(BERTOLOGY_HEAD_OUTPUTS, l, expected.head_outputs[layer]);
    }
    // A squared error doubles the logit's rounding times the difference.
    const bool squared = GetParam().loss == BERTOLOGY_REGRESSION;
    expect_close(run.get(BERTOLOGY_LOSS, 0, b), Values{expected.loss}, 3e-6, squared ? 5e-6 : 1e-6,
                 "loss");
    if (GetParam().model_type == BERTOLOGY_GPT2)
      check(BERTOLOGY_LAST_BLOCK_STATE, 0, expected.last_block_state);
    if (!language_model()) {
      check(BERTOLOGY_LOGITS, 0, expected.logits);
      check(BERTOLOGY_POOLER_OUTPUT, 0, expected.pooled);
      continue;
    }
    check(BERTOLOGY_TOKEN_LOGITS, 0, expected.token_logits);
    check(BERTOLOGY_TOKEN_LOSSES, 0, expected.token_losses);
    const std::vector<float> predictions = run.get(BERTOLOGY_TOKEN_PREDICTIONS, 0, b);
    for (size_t i = 0; i < predictions.size(); ++i) {
      const auto row =
          expected.token_logits.begin() + static_cast<ptrdiff_t>(i) * model.config.vocab_size;
      EXPECT_EQ(predictions[i],
                static_cast<float>(std::max_element(row, row + model.config.vocab_size) - row));
    }
  }
}

TEST_P(ReferenceModelTest, GradientsAgreeWithFiniteDifferences) {
  constexpr double kStep = 1e-5;
  TinyRun run;
  run.batch(batch, GetParam().loss)
      .mask(mask, true)
      .capture({BERTOLOGY_HEAD_GRADIENTS, BERTOLOGY_HIDDEN_STATE_GRADIENTS,
                BERTOLOGY_ATTENTION_GRADIENTS, BERTOLOGY_HEAD_OUTPUT_GRADIENTS})
      .on(model);
  for (int32_t b = 0; b < batch.examples(); ++b) {
    const size_t example = static_cast<size_t>(b);
    Values of_mask;
    for (size_t h = 0; h < mask.size(); ++h) {
      // The mask is float32: a step that it can take exactly.
      constexpr float kMaskStep = 1.0f / 1024;
      std::vector<float> above = mask, below = mask;
      above[h] += kMaskStep;
      below[h] -= kMaskStep;
      of_mask.push_back((reference(example, above).loss - reference(example, below).loss) /
                        (2.0 * kMaskStep));
    }
    // What separates them is the curvature of the loss over a step.
    const Values by_hand = exact.head_gradients(batch, example, GetParam().loss, mask);
    expect_close({by_hand.begin(), by_hand.end()}, of_mask, 2e-5, 1e-6,
                 "the reference's gradients");
    expect_close(run.get(BERTOLOGY_HEAD_GRADIENTS, 0, b), by_hand, kFloat32Slack * 4e-6, 1e-6,
                 "head gradients");

    const auto check = [&](int32_t gradient, int32_t capture, int32_t layer) {
      const std::vector<float> actual = run.get(gradient, layer, b);
      Values expected;
      for (size_t i = 0; i < actual.size(); ++i) {
        const double above = reference(example, mask, {capture, layer, i, kStep}).loss;
        const double below = reference(example, mask, {capture, layer, i, -kStep}).loss;
        expected.push_back((above - below) / (2 * kStep));
      }
      if (gradient == BERTOLOGY_ATTENTION_GRADIENTS && GetParam().model_type != BERTOLOGY_BERT) {
        // What a token does not see is no variable of the model.
        const int64_t n = batch.lengths[example];
        for (size_t i = 0; i < expected.size(); ++i) {
          const int64_t pair = static_cast<int64_t>(i) % (n * n);
          if (pair % n > pair / n) expected[i] = 0;
        }
      }
      // Up to 0.7e-5 where products and sums are fused, 1.3e-5 where each product is rounded first.
      // Scores that are not divided are larger, and the exponential magnifies their rounding.
      expect_close(actual, expected, GetParam().scale_by_width ? 1.5e-5 : 3e-5, 1e-7,
                   text("gradient ", gradient, " layer ", layer, " example ", b).c_str());
    };
    for (int32_t l = 0; l <= 2; ++l)
      check(BERTOLOGY_HIDDEN_STATE_GRADIENTS, BERTOLOGY_HIDDEN_STATES, l);
    for (int32_t l = 0; l < 2; ++l) {
      check(BERTOLOGY_ATTENTION_GRADIENTS, BERTOLOGY_ATTENTIONS, l);
      check(BERTOLOGY_HEAD_OUTPUT_GRADIENTS, BERTOLOGY_HEAD_OUTPUTS, l);
    }
  }
}

std::string case_of(const ::testing::TestParamInfo<ModelCase>& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cases, ReferenceModelTest, ::testing::ValuesIn(kCases), case_of);

}  // namespace
}  // namespace bertology::testing
