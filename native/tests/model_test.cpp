// The model as a whole, through the C interface.
#include <sys/resource.h>

#include <thread>

#include "base/error.h"
#include "base/isa.h"
#include "reference_model.h"
#include "tiny_model.h"

namespace bertology::testing {
namespace {

using reference::Values;

// Lengths over several passes of the model, one of them longer than a block of rows.
const std::vector<int64_t> kLengths = {5, 2, 64, 90, 17, 3, 88, 90, 90, 2, 77, 90, 31, 90, 8};

std::vector<int32_t> kinds(const std::vector<std::pair<int32_t, int32_t>>& captures) {
  std::vector<int32_t> result;
  for (const auto& capture : captures) result.push_back(capture.first);
  return result;
}

std::vector<float> ones(const bertology_config& config) {
  return std::vector<float>(
      static_cast<size_t>(config.num_hidden_layers * config.num_attention_heads), 1.0f);
}

/// A model type and what it is trained for.
struct TaskCase {
  const char* name;
  int32_t model_type, loss;
};

/// Tests of every model type, as a classifier and as a language model.
class TaskTest : public ::testing::TestWithParam<TaskCase> {
 protected:
  TaskTest() : model(tiny_config(GetParam().model_type)) {}

  int32_t loss() const { return GetParam().loss; }
  std::vector<std::pair<int32_t, int32_t>> captures() const {
    return layered_captures(model.config, loss());
  }
  /// The outputs of the task.
  int32_t logits() const {
    return loss() == BERTOLOGY_CLASSIFICATION ? BERTOLOGY_LOGITS : BERTOLOGY_TOKEN_LOGITS;
  }

  TinyModel model;
};

const std::vector<TaskCase> kTasks = {
    {"bert_classification", BERTOLOGY_BERT, BERTOLOGY_CLASSIFICATION},
    {"bert_masked_lm", BERTOLOGY_BERT, BERTOLOGY_MASKED_LM},
    {"gpt2_classification", BERTOLOGY_GPT2, BERTOLOGY_CLASSIFICATION},
    {"gpt2_lm", BERTOLOGY_GPT2, BERTOLOGY_CAUSAL_LM},
    {"gpt_classification", BERTOLOGY_OPENAI_GPT, BERTOLOGY_CLASSIFICATION},
    {"gpt_lm", BERTOLOGY_OPENAI_GPT, BERTOLOGY_CAUSAL_LM},
};

std::string task_name(const ::testing::TestParamInfo<TaskCase>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Tasks, TaskTest, ::testing::ValuesIn(kTasks), task_name);

TEST_P(TaskTest, ExampleGivesTheSameNumbersInAnyBatch) {
  const TinyBatch batch(model.config, kLengths);
  const auto captures = this->captures();
  TinyRun together;
  together.batch(batch, loss()).capture(kinds(captures)).on(model);
  for (size_t b = 0; b < kLengths.size(); ++b) {
    TinyRun alone;
    alone.batch(batch.only(b), loss()).capture(kinds(captures)).on(model);
    for (const auto& [capture, layers] : captures) {
      for (int32_t l = 0; l < layers; ++l) {
        const std::vector<float> expected = alone.get(capture, l, 0);
        const std::vector<float> actual = together.get(capture, l, static_cast<int32_t>(b));
        EXPECT_EQ(actual, expected) << "capture " << capture << " layer " << l << " example " << b;
      }
    }
  }
}

TEST_P(TaskTest, CapturingLessChangesNothing) {
  const TinyBatch batch(model.config, {7, 40, 2});
  const auto captures = this->captures();
  TinyRun all;
  all.batch(batch, loss()).capture(kinds(captures)).on(model);
  for (const auto& [capture, layers] : captures) {
    for (int32_t l = 0; l < layers; ++l) {
      TinyRun one;
      one.batch(batch, loss());
      one.capture_layer(capture, l).on(model);
      // The last layer then computes only the rows that count: other sums, the same numbers up to
      // rounding.
      expect_close(one.get(capture, l), all.get(capture, l), 3e-6, 1e-6,
                   ("capture " + std::to_string(capture)).c_str());
      const int32_t other = capture == logits() ? BERTOLOGY_LOSS : logits();
      EXPECT_THROW(one.get(other), ApiError) << "a capture that nobody asked for";
    }
  }
}

std::vector<double> losses_of(TinyModel& model, const TinyBatch& batch, int32_t kind,
                              const std::vector<float>& mask) {
  TinyRun run;
  run.batch(batch, kind).mask(mask).capture({BERTOLOGY_LOSS}).on(model);
  return widen(run.get(BERTOLOGY_LOSS));
}

void expect_gradients_of_losses(TinyModel& model, int32_t kind) {
  const TinyBatch batch(model.config, {6, 9, 4});
  std::vector<float> mask = ones(model.config);
  mask[1] = 0.5f;
  mask[5] = 0.9f;
  TinyRun run;
  run.batch(batch, kind).mask(mask).capture({BERTOLOGY_HEAD_GRADIENTS, BERTOLOGY_LOSS}).on(model);
  const std::vector<float> gradients = run.get(BERTOLOGY_HEAD_GRADIENTS);
  double largest = 0;
  for (const float g : gradients) largest = std::max(largest, std::abs(static_cast<double>(g)));
  ASSERT_GT(largest, 1e-3);
  const std::vector<double> losses = losses_of(model, batch, kind, mask);
  for (size_t h = 0; h < mask.size(); ++h) {
    // One-sided against the edge of [0, 1]: three points, so that the error is of second order.
    const float step = 0.01f;
    std::vector<float> once = mask, twice = mask;
    once[h] -= step;
    twice[h] -= 2 * step;
    const std::vector<double> nearer = losses_of(model, batch, kind, once);
    const std::vector<double> farther = losses_of(model, batch, kind, twice);
    for (size_t b = 0; b < 3; ++b) {
      const double slope = (3 * losses[b] - 4 * nearer[b] + farther[b]) / (2 * step);
      // float32 losses of about 3 round to 2e-7: over a step of 0.01 that is 1e-4.
      ASSERT_NEAR(gradients[b * mask.size() + h], slope, 2e-3 * largest + 3e-4)
          << "head " << h << " example " << b;
    }
  }
}

TEST(ModelTest, HeadGradientsAgreeWithFiniteDifferencesOfTheLoss) {
  {
    TinyModel model;
    expect_gradients_of_losses(model, BERTOLOGY_CLASSIFICATION);
    expect_gradients_of_losses(model, BERTOLOGY_MASKED_LM);
  }
  for (const int32_t pooling :
       {BERTOLOGY_CLS, BERTOLOGY_CLS_NORMALIZED, BERTOLOGY_MEAN, BERTOLOGY_MEAN_NORMALIZED}) {
    bertology_config config = tiny_config();
    config.pooling = pooling;
    config.num_labels = 1;
    config.hidden_act = BERTOLOGY_GELU_NEW;
    TinyModel model(config);
    expect_gradients_of_losses(model, BERTOLOGY_REGRESSION);
  }
}

TEST(ModelTest, MaskedHeadHasNoGradientUnlessAskedFor) {
  TinyModel model;
  const TinyBatch batch(model.config, {6, 9});
  std::vector<float> mask = ones(model.config);
  mask[6] = 0;
  TinyRun plain, asked;
  plain.batch(batch).mask(mask, false).capture({BERTOLOGY_HEAD_GRADIENTS}).on(model);
  asked.batch(batch).mask(mask, true).capture({BERTOLOGY_HEAD_GRADIENTS}).on(model);
  EXPECT_EQ(plain.get(BERTOLOGY_HEAD_GRADIENTS, 0, 0)[6], 0);
  EXPECT_NE(asked.get(BERTOLOGY_HEAD_GRADIENTS, 0, 0)[6], 0);
  for (const size_t h : {0, 5, 7, 11}) {
    EXPECT_EQ(plain.get(BERTOLOGY_HEAD_GRADIENTS, 0, 1)[h],
              asked.get(BERTOLOGY_HEAD_GRADIENTS, 0, 1)[h]);
  }
}

TEST_P(TaskTest, PrunedEqualsMasked) {
  const std::vector<HeadList> plans = {{{0, 1}},
                                       {{0, 0}, {0, 3}, {2, 1}},
                                       {{1, 0}, {1, 1}, {1, 2}, {1, 3}},
                                       {{2, 0}, {2, 1}, {2, 2}, {2, 3}, {0, 2}}};
  for (const HeadList& plan : plans) {
    TinyModel masked(model.config), pruned(model.config);
    const TinyBatch batch(masked.config, {6, 31, 2});
    std::vector<float> mask = ones(masked.config);
    for (const auto& [l, h] : plan) mask[static_cast<size_t>(l * 4 + h)] = 0;
    int64_t parameters_before, bytes_before, parameters, bytes;
    check(bertology_model_size(pruned.handle, &parameters_before, &bytes_before));
    pruned.prune(plan);
    check(bertology_model_size(pruned.handle, &parameters, &bytes));
    const int64_t d = pruned.config.hidden_size, head_dim = d / 4;
    EXPECT_EQ(parameters_before - parameters,
              static_cast<int64_t>(plan.size()) * (4 * d * head_dim + 3 * head_dim));
    EXPECT_LT(bytes, bytes_before);
    for (const bool all_rows : {false, true}) {
      std::vector<int32_t> captures = {BERTOLOGY_LOSS, BERTOLOGY_HEAD_GRADIENTS};
      if (all_rows) captures.insert(captures.end(), {BERTOLOGY_HIDDEN_STATE_GRADIENTS, logits()});
      TinyRun a, b;
      a.batch(batch, loss()).mask(mask).capture(captures).on(masked);
      b.batch(batch, loss()).capture(captures).on(pruned);
      for (const int32_t capture : captures) {
        expect_close(b.get(capture), a.get(capture), kFloat32Slack * 5e-6, 1e-6,
                     "pruned against masked");
      }
    }
  }
}

TEST_P(TaskTest, PruningInStepsInAnyOrderGivesTheSameModel) {
  const TinyBatch batch(model.config, {12, 5});
  TinyModel at_once(model.config), forwards(model.config), backwards(model.config);
  at_once.prune({{0, 1}, {0, 2}, {1, 3}, {2, 0}});
  forwards.prune({{0, 1}, {2, 0}});
  forwards.prune({{0, 2}, {1, 3}});
  backwards.prune({{1, 3}, {0, 2}});
  backwards.prune({{0, 1}});
  backwards.prune({{2, 0}});
  EXPECT_EQ(at_once.heads(0), (std::vector<int32_t>{0, 3}));
  const std::vector<int32_t> captures = {logits(), BERTOLOGY_HIDDEN_STATES,
                                         BERTOLOGY_HEAD_GRADIENTS, BERTOLOGY_ATTENTIONS};
  TinyRun a, b, c;
  a.batch(batch, loss()).capture(captures).on(at_once);
  b.batch(batch, loss()).capture(captures).on(forwards);
  c.batch(batch, loss()).capture(captures).on(backwards);
  for (const int32_t capture : captures) {
    EXPECT_EQ(a.get(capture), b.get(capture));
    EXPECT_EQ(a.get(capture), c.get(capture));
  }
}

TEST_P(TaskTest, RestoringGivesTheSameBits) {
  const TinyBatch batch(model.config, {12, 5, 70});
  const std::vector<int32_t> captures = kinds(this->captures());
  const auto fill = [&](TinyRun& run) { run.batch(batch, loss()).capture(captures).on(model); };
  TinyRun before, after, in_part, partly_pruned;
  fill(before);
  model.prune({{0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}, {1, 3}, {2, 3}});
  model.restore({{0, 2}, {1, 1}});
  EXPECT_EQ(model.heads(0), (std::vector<int32_t>{0, 2, 3}));
  EXPECT_EQ(model.heads(1), (std::vector<int32_t>{1}));
  fill(in_part);
  TinyModel straight(model.config);
  straight.prune({{0, 1}, {1, 0}, {1, 2}, {1, 3}, {2, 3}});
  partly_pruned.batch(batch, loss()).capture(captures).on(straight);
  EXPECT_EQ(in_part.get(BERTOLOGY_HIDDEN_STATES, 3), partly_pruned.get(BERTOLOGY_HIDDEN_STATES, 3));
  model.restore({{0, 1}, {1, 0}, {1, 2}, {1, 3}, {2, 3}});
  fill(after);
  for (const auto& [capture, layers] : this->captures()) {
    for (int32_t l = 0; l < layers; ++l) EXPECT_EQ(before.get(capture, l), after.get(capture, l));
  }
}

TEST_P(TaskTest, PrunedSkeletonTakesCutParameters) {
  TinyModel pruned(model.config), skeleton(model.config, false);
  const HeadList plan = {{0, 1}, {2, 0}, {2, 1}, {2, 2}, {2, 3}};
  pruned.prune(plan);
  skeleton.prune(plan);
  const int64_t d = skeleton.config.hidden_size, dim = d / 4;
  for (const auto& [name, parameter] : skeleton.parameters) {
    std::vector<float> values = parameter.values;
    std::vector<int64_t> shape = parameter.shape;
    for (const int32_t l : {0, 2}) {
      const std::string prefix = "layers." + std::to_string(l) + ".";
      const std::vector<int32_t> kept =
          l == 0 ? std::vector<int32_t>{0, 2, 3} : std::vector<int32_t>{};
      std::vector<float> cut;
      if (name == prefix + "attention_output.weight") {
        for (int64_t r = 0; r < d; ++r) {
          for (const int32_t h : kept) {
            const auto from = values.begin() + r * d + h * dim;
            cut.insert(cut.end(), from, from + dim);
          }
        }
        shape[1] = static_cast<int64_t>(kept.size()) * dim;
      } else if (name.rfind(prefix + "query", 0) == 0 || name.rfind(prefix + "key", 0) == 0 ||
                 name.rfind(prefix + "value", 0) == 0) {
        const int64_t row = shape.size() == 2 ? d : 1;
        for (const int32_t h : kept) {
          const auto from = values.begin() + h * dim * row;
          cut.insert(cut.end(), from, from + dim * row);
        }
        shape[0] = static_cast<int64_t>(kept.size()) * dim;
      } else {
        continue;
      }
      values = cut;
    }
    skeleton.set(name, tensor_of(values, shape));
  }
  const TinyBatch batch(pruned.config, {12, 5});
  TinyRun a, b;
  a.batch(batch, loss()).capture({logits(), BERTOLOGY_HEAD_GRADIENTS}).on(pruned);
  b.batch(batch, loss()).capture({logits(), BERTOLOGY_HEAD_GRADIENTS}).on(skeleton);
  EXPECT_EQ(a.get(logits()), b.get(logits()));
  EXPECT_EQ(a.get(BERTOLOGY_HEAD_GRADIENTS), b.get(BERTOLOGY_HEAD_GRADIENTS));
  EXPECT_THROW(skeleton.restore({{0, 1}}), ApiError) << "the checkpoint never had this head";
}

TEST(PruningTest, RefusedPlansChangeNothing) {
  TinyModel model;
  model.prune({{1, 2}});
  const TinyBatch batch(model.config, {12, 5});
  TinyRun before;
  before.batch(batch).capture({BERTOLOGY_HIDDEN_STATES}).on(model);
  const std::vector<std::pair<HeadList, std::string>> refused = {
      {{{0, 0}, {3, 0}}, "layer 3 does not exist: the model has layers 0 to 2"},
      {{{0, 0}, {-1, 0}}, "layer -1 does not exist"},
      {{{0, 0}, {0, 4}}, "head 4 of layer 0 does not exist: the model has heads 0 to 3"},
      {{{0, 0}, {0, 1}, {0, 0}}, "head 0 of layer 0 is named twice"},
      {{{0, 0}, {1, 2}}, "head 2 of layer 1 is already pruned"}};
  for (const auto& [plan, text] : refused) {
    try {
      model.prune(plan);
      FAIL() << text;
    } catch (const ApiError& error) {
      EXPECT_EQ(error.status, BERTOLOGY_INVALID_ARGUMENT);
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
  }
  EXPECT_THROW(model.restore({{1, 2}, {0, 0}}), ApiError) << "head 0 of layer 0 is not pruned";
  TinyRun after;
  after.batch(batch).capture({BERTOLOGY_HIDDEN_STATES}).on(model);
  for (int32_t l = 0; l <= 3; ++l) {
    EXPECT_EQ(before.get(BERTOLOGY_HIDDEN_STATES, l), after.get(BERTOLOGY_HIDDEN_STATES, l));
  }
}

TEST(ModelTest, ThreadsShareAModel) {
  TinyModel model;
  const TinyBatch batch(model.config, kLengths);
  TinyRun expected;
  expected.batch(batch).capture({BERTOLOGY_LOGITS, BERTOLOGY_HEAD_GRADIENTS}).on(model);
  std::vector<std::thread> threads;
  std::vector<std::string> failures(4);
  for (size_t t = 0; t < failures.size(); ++t) {
    threads.emplace_back([&, t] {
      try {
        TinyRun run;
        for (int i = 0; i < repeats(10); ++i) {
          run.batch(batch).capture({BERTOLOGY_LOGITS, BERTOLOGY_HEAD_GRADIENTS}).on(model);
          if (run.get(BERTOLOGY_HEAD_GRADIENTS) != expected.get(BERTOLOGY_HEAD_GRADIENTS))
            failures[t] = "differs";
        }
      } catch (const std::exception& error) {
        failures[t] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& failure : failures) EXPECT_EQ(failure, "");
}

TEST(ModelTest, PruningWaitsForRuns) {
  TinyModel model;
  const TinyBatch batch(model.config, kLengths);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      TinyRun run;
      while (!stop) run.batch(batch).capture({BERTOLOGY_HEAD_GRADIENTS}).on(model);
    });
  }
  for (int i = 0; i < repeats(20); ++i) {
    model.prune({{0, i % 4}, {2, 1}});
    model.restore({{0, i % 4}, {2, 1}});
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(model.heads(0).size(), 4u);
}

TEST_P(TaskTest, HalvesAreCloseToFloat32) {
  const TinyBatch batch(model.config, {12, 5, 70});
  const std::vector<int32_t> captures = {BERTOLOGY_HIDDEN_STATES, BERTOLOGY_HEAD_GRADIENTS,
                                         BERTOLOGY_LOSS};
  TinyRun exact;
  exact.batch(batch, loss()).capture(captures).on(model);
  const std::vector<float> mask(
      static_cast<size_t>(model.config.num_hidden_layers * model.config.num_attention_heads), 1.0f);
  bool some = false;
  const reference::Model reference(model);
  for (const DType dtype : {BERTOLOGY_BFLOAT16, BERTOLOGY_FLOAT16}) {
    if (bertology_device_supports(device(), dtype) == 0) continue;
    some = true;
    bertology_config config = model.config;
    config.dtype = dtype;
    TinyModel rounded(config);
    TinyRun run;
    run.batch(batch, loss()).capture(captures).on(rounded);
    // Twice what rounding the inputs of products costs in double precision, at most.
    const reference::Model plain(model, dtype);
    const auto check = [&](int32_t capture, int32_t layer, double most, const auto& values_of) {
      double error = 0;
      double largest = 0;
      for (size_t b = 0; b < batch.lengths.size(); ++b) {
        const reference::Values expected = values_of(reference, b);
        const reference::Values values = values_of(plain, b);
        for (size_t i = 0; i < values.size(); ++i) {
          error = std::max(error, std::abs(values[i] - expected[i]));
          largest = std::max(largest, std::abs(expected[i]));
        }
      }
      // The CPU, whose attention does not round, keeps within `most` too.
      expect_close(run.get(capture, layer), exact.get(capture, layer),
                   std::min(2 * error / largest, on_cpu() ? most : 1), 1e-30, name_of(dtype));
    };
    check(BERTOLOGY_HIDDEN_STATES, 3, 0.03, [&](const reference::Model& of, size_t b) {
      return of.run(batch, b, loss(), mask).hidden_states[3];
    });
    check(BERTOLOGY_HEAD_GRADIENTS, 0, 0.08, [&](const reference::Model& of, size_t b) {
      return of.head_gradients(batch, b, loss(), mask);
    });
  }
  if (!some) GTEST_SKIP() << "no bfloat16 or float16 products here";
}

TEST(LanguageModelTest, PromptsDoNotCountAndNothingElseChanges) {
  TinyModel model(tiny_config(BERTOLOGY_GPT2));
  TinyBatch batch(model.config, {9, 30, 4});
  const auto run = [&](TinyRun& to) {
    to.capture({BERTOLOGY_LOSS, BERTOLOGY_TOKEN_LOSSES, BERTOLOGY_HIDDEN_STATES}).on(model);
  };
  TinyRun all, same, answers;
  batch.token_labels = batch.ids;
  run(all.batch(batch, BERTOLOGY_CAUSAL_LM));
  // Without labels every token is its own.
  same.batch(batch, BERTOLOGY_NO_LOSS);
  check(bertology_activations_set_labels(same.handle, BERTOLOGY_CAUSAL_LM, nullptr, 0));
  run(same);
  EXPECT_EQ(all.get(BERTOLOGY_LOSS), same.get(BERTOLOGY_LOSS));
  constexpr size_t kPrompt = 2;
  for (size_t b = 0; b < 3; ++b) {
    for (size_t i = 0; i < kPrompt; ++i)
      batch.token_labels[static_cast<size_t>(batch.offsets[b]) + i] = -100;
  }
  run(answers.batch(batch, BERTOLOGY_CAUSAL_LM));
  EXPECT_EQ(all.get(BERTOLOGY_HIDDEN_STATES, 3), answers.get(BERTOLOGY_HIDDEN_STATES, 3));
  for (int32_t b = 0; b < 3; ++b) {
    const std::vector<float> losses = all.get(BERTOLOGY_TOKEN_LOSSES, 0, b);
    double total = 0;
    for (size_t i = kPrompt - 1; i + 1 < losses.size(); ++i) total += losses[i];
    EXPECT_NEAR(answers.get(BERTOLOGY_LOSS)[static_cast<size_t>(b)],
                total / static_cast<double>(losses.size() - kPrompt), 1e-6);
    EXPECT_EQ(losses.back(), 0) << "nothing follows the last token";
  }
}

TEST(LanguageModelTest, LongExamplesPassTheVocabularyInParts) {
  bertology_config config = tiny_config(BERTOLOGY_GPT2);
  config.max_position_embeddings = 1200;
  config.num_hidden_layers = 1;
  TinyModel model(config);
  const TinyBatch batch(config, {1200, 3});  // more tokens than a pass takes
  const reference::Model exact(model);
  const std::vector<float> mask = ones(config);
  for (const bool all : {true, false}) {  // all tokens predict, or those with a label
    TinyRun run;
    std::vector<int32_t> captures = {BERTOLOGY_LOSS, BERTOLOGY_HEAD_GRADIENTS};
    if (all) captures.push_back(BERTOLOGY_TOKEN_LOSSES);
    run.batch(batch, BERTOLOGY_CAUSAL_LM).capture(captures).on(model);
    for (int32_t b = 0; b < 2; ++b) {
      const size_t example = static_cast<size_t>(b);
      const double loss = exact.run(batch, example, BERTOLOGY_CAUSAL_LM, mask).loss;
      EXPECT_NEAR(run.get(BERTOLOGY_LOSS)[example], loss, 1e-6 * loss);
      Values expected;
      for (size_t h = 0; h < mask.size(); ++h) {
        constexpr float kStep = 1.0f / 1024;
        std::vector<float> above = mask, below = mask;
        above[h] += kStep;
        below[h] -= kStep;
        expected.push_back((exact.run(batch, example, BERTOLOGY_CAUSAL_LM, above).loss -
                            exact.run(batch, example, BERTOLOGY_CAUSAL_LM, below).loss) /
                           (2.0 * kStep));
      }
      expect_close(run.get(BERTOLOGY_HEAD_GRADIENTS, 0, b), expected, 3e-5, 1e-6);
    }
  }
}

TEST(LanguageModelTest, RefusesWhatItCannotDo) {
  TinyModel gpt(tiny_config(BERTOLOGY_GPT2)), post(tiny_config(BERTOLOGY_OPENAI_GPT)), bert;
  const TinyBatch batch(gpt.config, {4, 1});
  const auto refused = [&](const std::string& text, TinyModel& model, int32_t loss, int32_t capture,
                           const TinyBatch& of) {
    try {
      TinyRun run;
      run.batch(of, loss).capture({capture}).on(model);
      FAIL() << text;
    } catch (const ApiError& error) {
      EXPECT_EQ(error.status, BERTOLOGY_INVALID_ARGUMENT);
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
  };
  refused("example 1 has no token to predict", gpt, BERTOLOGY_CAUSAL_LM, BERTOLOGY_LOSS, batch);
  refused("MASKED_LM is BERT's", gpt, BERTOLOGY_MASKED_LM, BERTOLOGY_LOSS, batch);
  refused("CAUSAL_LM is a GPT's", bert, BERTOLOGY_CAUSAL_LM, BERTOLOGY_LOSS, batch);
  refused("no norm behind its last layer", post, BERTOLOGY_NO_LOSS, BERTOLOGY_LAST_BLOCK_STATE,
          batch);
  refused("TOKEN_LOSSES needs labels of tokens", gpt, BERTOLOGY_CLASSIFICATION,
          BERTOLOGY_TOKEN_LOSSES, batch);
  TinyBatch typed = batch;
  typed.types[1] = 1;
  refused("token_type_ids[1] is 1, expected 0", gpt, BERTOLOGY_NO_LOSS, BERTOLOGY_LOGITS, typed);
  EXPECT_THROW(gpt.set("pooler.bias", tensor_of(bert.parameters["pooler.bias"].values, {40})),
               ApiError);
}

TEST(LanguageModelTest, BringsItsOwnDecoder) {
  TinyModel model(tiny_config(BERTOLOGY_OPENAI_GPT));
  const TinyBatch batch(model.config, {7, 20});
  TinyRun tied, own, other;
  tied.batch(batch, BERTOLOGY_CAUSAL_LM).capture({BERTOLOGY_TOKEN_LOGITS}).on(model);
  TinyModel::Parameter decoder = model.parameters["embeddings.word"];
  model.set("lm_head.weight", tensor_of(decoder.values, decoder.shape));
  own.batch(batch, BERTOLOGY_CAUSAL_LM).capture({BERTOLOGY_TOKEN_LOGITS}).on(model);
  expect_close(own.get(BERTOLOGY_TOKEN_LOGITS), tied.get(BERTOLOGY_TOKEN_LOGITS), 1e-6);
  for (float& value : decoder.values) value *= -2;
  model.set("lm_head.weight", tensor_of(decoder.values, decoder.shape));
  other.batch(batch, BERTOLOGY_CAUSAL_LM).capture({BERTOLOGY_TOKEN_LOGITS}).on(model);
  std::vector<float> expected = tied.get(BERTOLOGY_TOKEN_LOGITS);
  for (float& value : expected) value *= -2;
  expect_close(other.get(BERTOLOGY_TOKEN_LOGITS), expected, 1e-6);
}

TEST(ModelTest, MemoryOfResultsIsReused) {
  TinyModel model;
  const TinyBatch small(model.config, {12, 5});
  const TinyBatch large(model.config, kLengths);
  const std::vector<int32_t> captures = kinds(layered_captures(model.config));
  TinyRun run;
  run.batch(large).capture(captures).on(model);
  int64_t first[2], again[2];
  check(bertology_activations_memory(run.handle, first));
  for (int i = 0; i < 5; ++i) {
    run.batch(i % 2 == 0 ? small : large).capture(captures).on(model);
    check(bertology_activations_memory(run.handle, again));
    EXPECT_EQ(first[0], again[0]);
    EXPECT_EQ(first[1], again[1]);
  }
  const std::vector<float> states = run.get(BERTOLOGY_HIDDEN_STATES, 1);
  int64_t view[6];
  check(bertology_activations_tensor(run.handle, BERTOLOGY_HIDDEN_STATES, 1, -1, view));
  const float* data = reinterpret_cast<const float*>(static_cast<intptr_t>(again[0])) + view[0];
  EXPECT_EQ(data[0], states[0]);
  check(bertology_activations_discard(run.handle));
  EXPECT_EQ(data[0], 0.0f) << "the address stays readable";
  EXPECT_THROW(run.get(BERTOLOGY_HIDDEN_STATES, 1), ApiError);
}

TEST(ModelTest, RunsLeakNothing) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "AddressSanitizer keeps freed memory for a while; it finds leaks itself";
#endif
  if (!on_cpu()) {
    GTEST_SKIP() << "this is the host's memory; cuda/failure_test.cpp counts that of the device";
  }
  TinyModel model;
  const TinyBatch batch(model.config, {12, 5, 30});
  const auto resident = [] {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;  // kilobytes
  };
  const auto repeat = [&](int times) {
    for (int i = 0; i < times; ++i) {
      TinyRun run;
      run.batch(batch).capture(kinds(layered_captures(model.config))).on(model);
    }
  };
  repeat(200);
  const long before = resident();
  repeat(2000);
  EXPECT_LT(resident() - before, 4096) << "2000 runs of a few hundred kilobytes each";
}

}  // namespace
}  // namespace bertology::testing
