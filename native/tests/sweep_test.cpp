// Sweeps over head masks give what a run with each of the masks gives.
#include "base/error.h"
#include "tiny_model.h"

namespace bertology::testing {
namespace {

// On the CPU the same operations work on the same numbers. On a CUDA device too, but its products
// may divide their sums otherwise for another number of rows.
const double kRounding = on_cpu() ? 0 : 2e-6;

struct SweepCase {
  const char* name;
  int32_t model_type, loss, pooling;
};

using Masks = std::vector<std::vector<float>>;

class SweepTest : public ::testing::TestWithParam<SweepCase> {
 protected:
  SweepTest() : model(config_of(GetParam())) {}

  static bertology_config config_of(const SweepCase& sweep) {
    bertology_config config = tiny_config(sweep.model_type);
    config.pooling = sweep.pooling;
    if (sweep.loss == BERTOLOGY_REGRESSION) config.num_labels = 1;
    return config;
  }

  int32_t loss() const { return GetParam().loss; }
  bool predicts_tokens() const {
    return loss() == BERTOLOGY_MASKED_LM || loss() == BERTOLOGY_CAUSAL_LM;
  }
  /// What a sweep can show of the task.
  std::vector<int32_t> captures() const {
    if (predicts_tokens())
      return {BERTOLOGY_LOSS, BERTOLOGY_TOKEN_LOSSES, BERTOLOGY_TOKEN_PREDICTIONS};
    return {BERTOLOGY_LOSS, BERTOLOGY_LOGITS, BERTOLOGY_POOLER_OUTPUT};
  }

  std::vector<float> ones() const { return std::vector<float>(12, 1.0f); }

  std::vector<float> without(const HeadList& heads) const {
    std::vector<float> mask = ones();
    for (const auto& [l, h] : heads) mask[static_cast<size_t>(l * 4 + h)] = 0;
    return mask;
  }

  /// Each of the sweep's results against a run with that mask alone.
  void expect_as_alone(const TinyBatch& batch, const Masks& masks,
                       const std::vector<int32_t>& shown) {
    TinyRun sweep;
    sweep.batch(batch, loss());
    set(sweep, masks);
    sweep.capture(shown).on(model);
    for (size_t m = 0; m < masks.size(); ++m) {
      TinyRun alone;
      alone.batch(batch, loss()).mask(masks[m]).capture(shown).on(model);
      for (const int32_t capture : shown) {
        const std::vector<float> all = sweep.get(capture);
        const std::vector<float> expected = alone.get(capture);
        ASSERT_EQ(all.size(), masks.size() * expected.size());
        const auto first = all.begin() + static_cast<int64_t>(m * expected.size());
        expect_close({first, first + static_cast<int64_t>(expected.size())}, expected, kRounding,
                     kRounding, text("capture ", capture, " of mask ", m).c_str());
        for (int32_t b = 0; b < batch.examples(); ++b) {
          const int32_t index = static_cast<int32_t>(m) * batch.examples() + b;
          expect_close(sweep.get(capture, 0, index), alone.get(capture, 0, b), kRounding, kRounding,
                       "an example");
        }
      }
    }
  }

  static void set(TinyRun& run, const Masks& masks) {
    std::vector<float> values;
    for (const std::vector<float>& mask : masks)
      values.insert(values.end(), mask.begin(), mask.end());
    check(bertology_activations_set_head_masks(run.handle, values.data(),
                                               static_cast<int32_t>(masks.size()),
                                               static_cast<int64_t>(values.size())));
  }

  TinyModel model;
};

std::string sweep_name(const ::testing::TestParamInfo<SweepCase>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(
    Tasks, SweepTest,
    ::testing::Values(
        SweepCase{"bert_classification", BERTOLOGY_BERT, BERTOLOGY_CLASSIFICATION,
                  BERTOLOGY_POOLER},
        SweepCase{"bert_mean", BERTOLOGY_BERT, BERTOLOGY_CLASSIFICATION, BERTOLOGY_MEAN_NORMALIZED},
        SweepCase{"bert_regression", BERTOLOGY_BERT, BERTOLOGY_REGRESSION, BERTOLOGY_CLS},
        SweepCase{"bert_masked_lm", BERTOLOGY_BERT, BERTOLOGY_MASKED_LM, BERTOLOGY_POOLER},
        SweepCase{"gpt2_classification", BERTOLOGY_GPT2, BERTOLOGY_CLASSIFICATION, BERTOLOGY_LAST},
        SweepCase{"gpt2_mean", BERTOLOGY_GPT2, BERTOLOGY_CLASSIFICATION, BERTOLOGY_MEAN},
        SweepCase{"gpt2_lm", BERTOLOGY_GPT2, BERTOLOGY_CAUSAL_LM, BERTOLOGY_LAST},
        SweepCase{"gpt_regression", BERTOLOGY_OPENAI_GPT, BERTOLOGY_REGRESSION, BERTOLOGY_LAST},
        SweepCase{"gpt_lm", BERTOLOGY_OPENAI_GPT, BERTOLOGY_CAUSAL_LM, BERTOLOGY_LAST}),
    sweep_name);

TEST_P(SweepTest, EachMaskGivesWhatItGivesAlone) {
  // Over several slices; every head alone, and none.
  const TinyBatch batch(model.config, {5, 2, 64, 90, 17, 3, 88, 90, 90, 2, 77, 90, 31, 90, 8});
  Masks masks = {ones()};
  for (int32_t l = 0; l < 3; ++l) {
    for (int32_t h = 0; h < 4; ++h) masks.push_back(without({{l, h}}));
  }
  expect_as_alone(batch, masks, captures());
}

TEST_P(SweepTest, MasksOfAnyValuesInAnyOrder) {
  const TinyBatch batch(model.config, {7, 40, 2});
  Random random(11);
  Masks masks;
  for (int i = 0; i < 24; ++i) {
    // Prefixes of an earlier mask, so that there is something to share.
    std::vector<float> mask =
        masks.empty() || i % 5 == 0
            ? ones()
            : masks[static_cast<size_t>(random.below(static_cast<int64_t>(masks.size())))];
    for (size_t h = static_cast<size_t>(random.below(13)); h < mask.size(); ++h) {
      const int64_t kind = random.below(4);
      mask[h] = kind == 0 ? 0.0f : kind == 1 ? std::abs(std::sin(random.normal())) : 1.0f;
    }
    masks.push_back(mask);
  }
  masks.push_back(masks[3]);
  masks.insert(masks.begin(), masks[9]);
  masks.push_back(without({{1, 0}, {1, 1}, {1, 2}, {1, 3}}));
  masks.push_back(std::vector<float>(12, 0.0f));
  expect_as_alone(batch, masks, captures());
  for (const int32_t capture : captures()) expect_as_alone(batch, masks, {capture});
}

TEST_P(SweepTest, OneMask) {
  const TinyBatch batch(model.config, {9, 3});
  expect_as_alone(batch, {without({{0, 2}, {2, 1}})}, captures());
}

TEST_P(SweepTest, PrunedModels) {
  const TinyBatch batch(model.config, {9, 3, 31});
  model.prune({{0, 1}, {1, 0}, {1, 1}, {1, 2}, {1, 3}, {2, 0}, {2, 3}});
  Masks masks = {ones(), without({{0, 0}}), without({{2, 1}}), without({{0, 0}, {2, 1}, {2, 2}})};
  masks.push_back(masks[1]);
  masks.back()[10] = 0.25f;
  expect_as_alone(batch, masks, captures());
}

TEST_P(SweepTest, ActivationsServeAnyRunAfterASweep) {
  const TinyBatch batch(model.config, {9, 3});
  TinyRun run;
  run.batch(batch, loss());
  set(run, {ones(), without({{1, 1}})});
  run.capture({BERTOLOGY_LOSS}).on(model);
  const std::vector<float> swept = run.get(BERTOLOGY_LOSS);
  run.mask(without({{1, 1}})).on(model);
  expect_close(run.get(BERTOLOGY_LOSS), std::vector<float>(swept.begin() + 2, swept.end()),
               kRounding, kRounding, "the second mask");
  EXPECT_THROW(run.get(BERTOLOGY_LOSS, 0, 2), ApiError);
}

TEST_P(SweepTest, ShowsOnlyWhatMasksHaveOfTheirOwn) {
  const TinyBatch batch(model.config, {9, 3});
  for (const int32_t capture :
       {BERTOLOGY_TOKEN_LOGITS, BERTOLOGY_HIDDEN_STATES, BERTOLOGY_ATTENTIONS,
        BERTOLOGY_HEAD_OUTPUTS, BERTOLOGY_HEAD_GRADIENTS, BERTOLOGY_HIDDEN_STATE_GRADIENTS}) {
    TinyRun run;
    run.batch(batch, loss());
    set(run, {ones()});
    run.capture({BERTOLOGY_LOSS, capture});
    EXPECT_EQ(bertology_model_run(model.handle, run.handle), BERTOLOGY_INVALID_ARGUMENT);
    EXPECT_NE(std::string(bertology_last_error()).find("a sweep over head masks shows"),
              std::string::npos);
  }
  TinyRun nothing;
  nothing.batch(batch, loss());
  set(nothing, {ones()});
  EXPECT_EQ(bertology_model_run(model.handle, nothing.handle), BERTOLOGY_INVALID_ARGUMENT);
}

TEST(SweepArgumentsTest, SaysWhatIsWrong) {
  TinyModel model;
  const TinyBatch batch(model.config, {9, 3});
  std::vector<float> values(24, 1.0f);
  TinyRun run;
  run.batch(batch).capture({BERTOLOGY_LOSS});
  const auto set = [&](int32_t masks, int64_t count) {
    return bertology_activations_set_head_masks(run.handle, values.data(), masks, count);
  };
  EXPECT_EQ(set(0, 0), BERTOLOGY_INVALID_ARGUMENT);
  EXPECT_EQ(set(-1, 24), BERTOLOGY_INVALID_ARGUMENT);
  EXPECT_EQ(set(2, 0), BERTOLOGY_INVALID_ARGUMENT);
  EXPECT_EQ(set(2, 23), BERTOLOGY_INVALID_ARGUMENT);
  EXPECT_EQ(bertology_activations_set_head_masks(run.handle, nullptr, 2, 24),
            BERTOLOGY_INVALID_ARGUMENT);
  for (const float bad : {-0.1f, 1.1f, std::nanf("")}) {
    values[17] = bad;
    EXPECT_EQ(set(2, 24), BERTOLOGY_INVALID_ARGUMENT);
    EXPECT_NE(std::string(bertology_last_error()).find("head_masks[17]"), std::string::npos);
  }
  values[17] = 1;
  ASSERT_EQ(set(2, 22), BERTOLOGY_OK);  // of another model's shape
  EXPECT_EQ(bertology_model_run(model.handle, run.handle), BERTOLOGY_INVALID_ARGUMENT);
  EXPECT_NE(std::string(bertology_last_error()).find("expected 24"), std::string::npos);

  values[17] = 0.5f;
  ASSERT_EQ(set(2, 24), BERTOLOGY_OK);
  ASSERT_EQ(bertology_model_run(model.handle, run.handle), BERTOLOGY_OK);
  model.prune({{1, 1}});
  EXPECT_EQ(bertology_model_run(model.handle, run.handle), BERTOLOGY_INVALID_ARGUMENT);
  EXPECT_NE(std::string(bertology_last_error()).find("head 1 of layer 1 is pruned"),
            std::string::npos);
  EXPECT_NE(std::string(bertology_last_error()).find("mask 1"), std::string::npos);

  bertology_accumulator* sums = nullptr;
  check(bertology_accumulator_create(device(), 3, 4, &sums));
  values[17] = 1;
  ASSERT_EQ(set(2, 24), BERTOLOGY_OK);
  check(bertology_activations_set_accumulator(run.handle, sums));
  EXPECT_EQ(bertology_model_run(model.handle, run.handle), BERTOLOGY_INVALID_ARGUMENT);
  bertology_accumulator_free(sums);
}

}  // namespace
}  // namespace bertology::testing
