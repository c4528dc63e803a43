// Sums of the heads' gradients on the device, against the gradients of each example.
#include <cmath>
#include <thread>

#include "tiny_model.h"

namespace bertology::testing {
namespace {

/// What an accumulator has.
struct Sums {
  std::vector<double> values;
  int64_t examples = 0, tokens = 0;
};

class TinyAccumulator {
 public:
  explicit TinyAccumulator(int32_t layers = 3, int32_t heads = 4)
      : count_(static_cast<size_t>(layers * heads * BERTOLOGY_HEAD_SUM_COUNT)) {
    check(bertology_accumulator_create(device(), layers, heads, &handle));
  }
  ~TinyAccumulator() { bertology_accumulator_free(handle); }
  TinyAccumulator(const TinyAccumulator&) = delete;
  TinyAccumulator& operator=(const TinyAccumulator&) = delete;

  Sums read() const {
    Sums sums;
    sums.values.resize(count_);
    check(bertology_accumulator_read(handle, sums.values.data(), static_cast<int64_t>(count_),
                                     &sums.examples, &sums.tokens));
    return sums;
  }

  bertology_accumulator* handle = nullptr;

 private:
  size_t count_;
};

void sum_into(TinyRun& run, const TinyAccumulator& sums) {
  check(bertology_activations_set_accumulator(run.handle, sums.handle));
}

/// The sums of what a run captured, added up in double.
Sums sums_of(const TinyRun& run, const TinyBatch& batch) {
  const std::vector<float> gradients = run.get(BERTOLOGY_HEAD_GRADIENTS);
  const std::vector<float> by_token = run.get(BERTOLOGY_TOKEN_HEAD_GRADIENTS);
  const size_t examples = batch.lengths.size();
  const size_t heads = gradients.size() / examples;
  Sums sums;
  sums.values.assign(heads * BERTOLOGY_HEAD_SUM_COUNT, 0.0);
  sums.examples = batch.examples();
  sums.tokens = batch.offsets.back();
  for (size_t b = 0; b < examples; ++b) {
    for (size_t h = 0; h < heads; ++h) {
      double* of_head = sums.values.data() + h * BERTOLOGY_HEAD_SUM_COUNT;
      const double g = gradients[b * heads + h];
      of_head[BERTOLOGY_SIGNED_SUM] += g;
      of_head[BERTOLOGY_ABSOLUTE_SUM] += std::abs(g);
      of_head[BERTOLOGY_SQUARED_SUM] += g * g;
      of_head[BERTOLOGY_TOKEN_ABSOLUTE_SUM] += static_cast<double>(by_token[b * heads + h]);
    }
  }
  return sums;
}

void expect_sums(const Sums& actual, const Sums& expected, double times = 1) {
  ASSERT_EQ(actual.values.size(), expected.values.size());
  EXPECT_EQ(actual.examples, std::lround(times * static_cast<double>(expected.examples)));
  EXPECT_EQ(actual.tokens, std::lround(times * static_cast<double>(expected.tokens)));
  double largest = 0;
  for (const double value : expected.values) largest = std::max(largest, times * std::abs(value));
  for (size_t i = 0; i < actual.values.size(); ++i) {
    // Additions in double, in an order of the device's own.
    ASSERT_NEAR(actual.values[i], times * expected.values[i], 1e-13 * largest)
        << "sum " << i % BERTOLOGY_HEAD_SUM_COUNT << " of head " << i / BERTOLOGY_HEAD_SUM_COUNT;
  }
}

const std::vector<int32_t> kGradients = {BERTOLOGY_HEAD_GRADIENTS, BERTOLOGY_TOKEN_HEAD_GRADIENTS};

/// So many examples that a run takes several passes on any device.
std::vector<int64_t> many_lengths() {
  std::vector<int64_t> lengths;
  for (int64_t tokens = 0; tokens <= backend().tokens_per_pass(true) + 300;
       tokens += lengths.back())
    lengths.push_back(90 - static_cast<int64_t>(lengths.size()) * 37 % 60);
  return lengths;
}

TEST(AccumulatorTest, SumsAreThoseOfEachExamplesGradients) {
  for (const int32_t type : {BERTOLOGY_BERT, BERTOLOGY_GPT2, BERTOLOGY_OPENAI_GPT}) {
    TinyModel model(tiny_config(type));
    model.prune({{1, 2}, {2, 0}});
    const TinyBatch batch(model.config, {5, 64, 2, 17});
    for (const int32_t loss :
         {static_cast<int32_t>(BERTOLOGY_CLASSIFICATION), language_model_loss(model.config)}) {
      for (const bool masked_gradients : {false, true}) {
        std::vector<float> mask(12, 1.0f);
        mask[1] = 0;
        mask[9] = 0.25f;
        TinyAccumulator alone, along;
        TinyRun captured, summed;
        captured.batch(batch, loss).mask(mask, masked_gradients).capture(kGradients);
        sum_into(captured, along);
        captured.on(model);
        const Sums expected = sums_of(captured, batch);
        expect_sums(along.read(), expected);
        summed.batch(batch, loss).mask(mask, masked_gradients);
        sum_into(summed, alone);
        summed.on(model);
        EXPECT_EQ(alone.read().values, along.read().values);
        EXPECT_THROW(summed.get(BERTOLOGY_HEAD_GRADIENTS), ApiError);
        EXPECT_EQ(alone.read().values[4 * 1] != 0, masked_gradients);
        EXPECT_EQ(alone.read().values[4 * 6], 0) << "a pruned head";
      }
    }
  }
}

TEST(AccumulatorTest, PassesOfARunAddUp) {
  bertology_config config = tiny_config();
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.hidden_size = config.intermediate_size = 8;
  TinyModel model(config);
  const TinyBatch batch(model.config, many_lengths());
  TinyAccumulator sums(1, 2);
  TinyRun run;
  run.batch(batch).capture(kGradients);
  sum_into(run, sums);
  run.on(model);
  expect_sums(sums.read(), sums_of(run, batch));
}

TEST(AccumulatorTest, RunsAddUp) {
  TinyModel model;
  const TinyBatch batch(model.config, {5, 64, 2, 90, 17});
  TinyAccumulator sums;
  TinyRun run;
  run.batch(batch).capture(kGradients);
  sum_into(run, sums);
  run.on(model);
  const Sums expected = sums_of(run, batch);
  expect_sums(sums.read(), expected);
  const Sums once = sums.read();
  run.on(model);
  expect_sums(sums.read(), expected, 2);
  check(bertology_accumulator_reset(sums.handle));
  expect_sums(sums.read(), expected, 0);
  run.on(model);
  EXPECT_EQ(sums.read().values, once.values) << "the same order of additions every time";

  // A batch forgets them, and so does a null.
  run.batch(batch).capture(kGradients).on(model);
  sum_into(run, sums);
  check(bertology_activations_set_accumulator(run.handle, nullptr));
  run.on(model);
  EXPECT_EQ(sums.read().values, once.values);
}

TEST(AccumulatorTest, FailedRunsAddNothing) {
  TinyModel model;
  const TinyBatch batch(model.config, {5, 9});
  TinyAccumulator sums, other(3, 5);
  TinyRun run;
  run.batch(batch);
  sum_into(run, sums);
  run.on(model);
  const Sums before = sums.read();
  TinyBatch bad = batch;
  bad.ids[13] = 83;
  run.batch(bad);
  sum_into(run, sums);
  EXPECT_THROW(run.on(model), ApiError);
  run.batch(batch, BERTOLOGY_NO_LOSS);
  sum_into(run, sums);
  EXPECT_THROW(run.on(model), ApiError) << "gradients without labels";
  EXPECT_EQ(sums.read().values, before.values);
  EXPECT_EQ(sums.read().examples, 2);
  EXPECT_EQ(sums.read().tokens, 14);

  run.batch(batch);
  sum_into(run, other);
  try {
    run.on(model);
    FAIL() << "sums of another shape";
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, BERTOLOGY_INVALID_ARGUMENT);
    EXPECT_NE(std::string(error.what()).find("3 layers of 5 heads, the model has 3 layers of 4"),
              std::string::npos)
        << error.what();
  }
}

TEST(AccumulatorTest, ThreadsMayShareOne) {
  TinyModel model;
  const TinyBatch batch(model.config, {5, 2, 64, 90, 17});
  TinyRun expected;
  expected.batch(batch).capture(kGradients).on(model);
  TinyAccumulator sums;
  std::vector<std::thread> threads;
  std::vector<std::string> failures(4);
  for (size_t t = 0; t < failures.size(); ++t) {
    threads.emplace_back([&, t] {
      try {
        TinyRun run;
        for (int i = 0; i < repeats(5); ++i) {
          run.batch(batch);
          sum_into(run, sums);
          run.on(model);
        }
      } catch (const std::exception& error) {
        failures[t] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& failure : failures) EXPECT_EQ(failure, "");
  expect_sums(sums.read(), sums_of(expected, batch), 4 * repeats(5));
}

TEST(AccumulatorTest, WhatIsWrongIsSaid) {
  bertology_accumulator* made = nullptr;
  EXPECT_EQ(bertology_accumulator_create(device(), 0, 4, &made), BERTOLOGY_INVALID_ARGUMENT);
  EXPECT_EQ(bertology_accumulator_create(device(), 3, -1, &made), BERTOLOGY_INVALID_ARGUMENT);
  EXPECT_EQ(bertology_accumulator_create(nullptr, 3, 4, &made), BERTOLOGY_INVALID_ARGUMENT);
  EXPECT_EQ(made, nullptr);
  TinyAccumulator sums;
  std::vector<double> few(47);
  int64_t examples = 0, tokens = 0;
  EXPECT_EQ(bertology_accumulator_read(sums.handle, few.data(), 47, &examples, &tokens),
            BERTOLOGY_INVALID_ARGUMENT);
  EXPECT_NE(std::string(bertology_last_error()).find("room for 47 numbers, expected 48"),
            std::string::npos)
      << bertology_last_error();
  EXPECT_EQ(bertology_accumulator_reset(nullptr), BERTOLOGY_INVALID_ARGUMENT);

  // Freed while a run may still add to them: nobody reads them any more.
  TinyModel model;
  TinyRun run;
  {
    TinyAccumulator freed;
    run.batch(TinyBatch(model.config, {5, 9}));
    sum_into(run, freed);
  }
  run.on(model);
}

}  // namespace
}  // namespace bertology::testing
