// What the C interface says to bad input. Each call must fail with the right code and a text that
// helps.
#include <functional>
#include <limits>

#include "tiny_model.h"

extern "C" int bertology_c_header_test(void);

namespace bertology::testing {
namespace {

TEST(ApiTest, HeaderIsC) { EXPECT_EQ(bertology_c_header_test(), 0) << "line of c_header_test.c"; }

TEST(ApiTest, VersionIsNamed) { EXPECT_NE(std::string(bertology_version()), ""); }

void expect_error(int status, const std::string& text, const std::function<int()>& call) {
  const int got = call();
  EXPECT_EQ(got, status) << bertology_last_error();
  EXPECT_NE(std::string(bertology_last_error()).find(text), std::string::npos)
      << "expected \"" << text << "\", got \"" << bertology_last_error() << '"';
}

TEST(ApiTest, DevicesThatAreNotThere) {
  bertology_device* opened = nullptr;
  expect_error(BERTOLOGY_DEVICE_ERROR, "cuda",
               [&] { return bertology_device_open("cuda:99", 0, &opened); });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "\"cuda:x\", expected",
               [&] { return bertology_device_open("cuda:x", 0, &opened); });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "\"tpu\", expected",
               [&] { return bertology_device_open("tpu", 0, &opened); });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "threads: -1",
               [&] { return bertology_device_open("cpu", -1, &opened); });
  EXPECT_EQ(opened, nullptr);
}

TEST(ApiTest, PeaksArePositive) {
  double flops = 0;
  check(bertology_device_matrix_peak(device(), BERTOLOGY_FLOAT32, 0.01, &flops));
  EXPECT_GT(flops, on_cpu() ? 1e8 : 1e6);  // what stands in for a device may be slow
  double bytes = 0;
  check(bertology_device_copy_peak(device(), 0.01, &bytes));
  EXPECT_GT(bytes, 1e8);
}

TEST(ApiTest, OperationsAreMeasured) {
  const bool library =
      std::string(bertology_device_description(device())).find("products: cuBLAS") !=
      std::string::npos;
  for (const int32_t type : {BERTOLOGY_BERT, BERTOLOGY_GPT2}) {
    bertology_config config = tiny_config();
    config.model_type = type;
    if (type == BERTOLOGY_GPT2) {
      config.type_vocab_size = 0;
      config.pooling = BERTOLOGY_LAST;
    }
    for (const DeviceCase& product : device_cases()) {
      if (bertology_device_supports(device(), product.dtype) == 0) continue;
      config.dtype = product.dtype;
      for (int32_t operation = 0; operation < BERTOLOGY_OPERATION_COUNT; ++operation) {
        SCOPED_TRACE("operation " + std::to_string(operation) + " of " + product.name);
        double measures[BERTOLOGY_MEASURE_COUNT] = {};
        check(bertology_device_measure(device(), operation, &config, 2, 5, 0, measures));
        EXPECT_GT(measures[BERTOLOGY_MEASURE_SECONDS], 0);
        EXPECT_GT(measures[BERTOLOGY_MEASURE_COPY_SECONDS], 0);
        EXPECT_GT(measures[BERTOLOGY_MEASURE_LEAST_BYTES], 0);
        switch (operation) {
          case BERTOLOGY_OPERATION_QUERY_KEY_VALUE:
          case BERTOLOGY_OPERATION_ATTENTION_OUTPUT:
          case BERTOLOGY_OPERATION_INTERMEDIATE:
          case BERTOLOGY_OPERATION_OUTPUT:
          case BERTOLOGY_OPERATION_OUTPUT_BACKWARD:
          case BERTOLOGY_OPERATION_INTERMEDIATE_BACKWARD:
          case BERTOLOGY_OPERATION_ATTENTION_OUTPUT_BACKWARD:
          case BERTOLOGY_OPERATION_QUERY_KEY_VALUE_BACKWARD:
            EXPECT_GT(measures[BERTOLOGY_MEASURE_LEAST_FLOPS], 0);
            EXPECT_EQ(measures[BERTOLOGY_MEASURE_LIBRARY_SECONDS] > 0, library);
            break;
          default:
            EXPECT_EQ(measures[BERTOLOGY_MEASURE_LIBRARY_SECONDS], 0);
        }
      }
    }
  }
}

TEST(ApiTest, MeasurementsThatMakeNoSense) {
  bertology_config config = tiny_config();
  double measures[BERTOLOGY_MEASURE_COUNT];
  const auto refused = [&](const std::string& text, int32_t operation, int32_t examples,
                           int32_t length) {
    expect_error(BERTOLOGY_INVALID_ARGUMENT, text, [&] {
      return bertology_device_measure(device(), operation, &config, examples, length, 0, measures);
    });
  };
  refused("operation -1 does not exist: there are 0 to 19", -1, 1, 1);
  refused("operation 20 does not exist", BERTOLOGY_OPERATION_COUNT, 1, 1);
  refused("0 texts of 1 tokens", 0, 0, 1);
  refused("1 texts of -1 tokens", 0, 1, -1);
  refused("1048576 tokens at most", 0, 1 << 20, 2);
  config.hidden_size = 0;
  refused("hidden_size is 0", 0, 1, 1);
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "config and measures",
               [&] { return bertology_device_measure(device(), 0, nullptr, 1, 1, 0, measures); });
}

TEST(ApiTest, ConfigurationsThatMakeNoSense) {
  const auto refused = [](const std::string& text,
                          const std::function<void(bertology_config&)>& change) {
    bertology_config config = tiny_config();
    change(config);
    bertology_model* model = nullptr;
    expect_error(BERTOLOGY_INVALID_ARGUMENT, text,
                 [&] { return bertology_model_create(device(), &config, &model); });
    EXPECT_EQ(model, nullptr);
  };
  refused("hidden_size 40 is not a multiple of num_attention_heads 3",
          [](auto& c) { c.num_attention_heads = 3; });
  refused("num_hidden_layers is 0", [](auto& c) { c.num_hidden_layers = 0; });
  refused("vocab_size is -5", [](auto& c) { c.vocab_size = -5; });
  refused("layer_norm_eps",
          [](auto& c) { c.layer_norm_eps = std::numeric_limits<float>::quiet_NaN(); });
  refused("hidden_act is 9", [](auto& c) { c.hidden_act = 9; });
  refused("pooling is 6", [](auto& c) { c.pooling = 6; });
  refused("model_type is 3", [](auto& c) { c.model_type = 3; });
  refused("type_vocab_size is 2, expected 0 to 0", [](auto& c) { c.model_type = BERTOLOGY_GPT2; });
  refused("pooling is POOLER", [](auto& c) {
    c.model_type = BERTOLOGY_OPENAI_GPT;
    c.type_vocab_size = 0;
  });
  refused("dtype is 3", [](auto& c) { c.dtype = 3; });
}

TEST(ApiTest, TypesThatTheDeviceDoesNotMultiplyAreRefused) {
  for (const int32_t dtype : {BERTOLOGY_FLOAT16, BERTOLOGY_BFLOAT16}) {
    if (bertology_device_supports(device(), dtype) != 0) continue;
    bertology_config config = tiny_config();
    config.dtype = dtype;
    bertology_model* model = nullptr;
    expect_error(BERTOLOGY_UNSUPPORTED, std::string("dtype ") + name_of(dtype) + ": this device",
                 [&] { return bertology_model_create(device(), &config, &model); });
    EXPECT_EQ(model, nullptr);
  }
}

TEST(ApiTest, ParametersThatDoNotFit) {
  TinyModel model(tiny_config(), false);
  const auto refused = [&](const std::string& text, const std::string& name,
                           const bertology_tensor& tensor) {
    expect_error(BERTOLOGY_INVALID_ARGUMENT, text, [&] {
      return bertology_model_set_parameter(model.handle, name.c_str(), &tensor);
    });
  };
  const std::vector<float> values(40 * 40, 0.5f);
  refused("parameter layers.0.query.weight: shape [40, 39], expected [40, 40]",
          "layers.0.query.weight", tensor_of(values, {40, 39}));
  refused("shape [40], expected [40, 40]", "layers.0.query.weight", tensor_of(values, {40}));
  refused("layer 3 does not exist", "layers.3.query.weight", tensor_of(values, {40, 40}));
  refused("has none of this name", "layers.x.query.weight", tensor_of(values, {40, 40}));
  refused("has none of this name", "layers.0.query.gain", tensor_of(values, {40, 40}));
  refused("has none of this name", "decoder", tensor_of(values, {40, 40}));
  refused("has none of this name", "", tensor_of(values, {40, 40}));
  std::vector<float> nan = values;
  nan[81] = std::numeric_limits<float>::quiet_NaN();
  refused("layers.0.key.weight: element [2, 1] is nan, expected a finite number",
          "layers.0.key.weight", tensor_of(nan, {40, 40}));
  nan[81] = -std::numeric_limits<float>::infinity();
  refused("element [2, 1] is -inf", "layers.0.key.weight", tensor_of(nan, {40, 40}));
  bertology_tensor odd = tensor_of(values, {40, 40});
  odd.dtype = 17;
  refused("dtype 17", "layers.0.key.weight", odd);
  odd = tensor_of(values, {40, 40});
  odd.rank = 3;
  refused("rank 3", "layers.0.key.weight", odd);
  odd = tensor_of(values, {40, 40});
  odd.data = nullptr;
  refused("no data", "layers.0.key.weight", odd);
}

TEST(ApiTest, StridesAndHalvesAreRead) {
  TinyModel plain, strided;
  for (const auto& [name, parameter] : plain.parameters) {
    if (parameter.shape.size() != 2) continue;
    const int64_t rows = parameter.shape[0], columns = parameter.shape[1];
    std::vector<float> transposed(parameter.values.size());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) {
        transposed[static_cast<size_t>(c * rows + r)] =
            parameter.values[static_cast<size_t>(r * columns + c)];
      }
    }
    bertology_tensor tensor = tensor_of(transposed, {rows, columns});
    tensor.strides[0] = 1;
    tensor.strides[1] = rows;
    strided.set(name, tensor);
  }
  const TinyBatch batch(plain.config, {5, 9});
  TinyRun a, b;
  a.batch(batch).capture({BERTOLOGY_LOGITS}).on(plain);
  b.batch(batch).capture({BERTOLOGY_LOGITS}).on(strided);
  EXPECT_EQ(a.get(BERTOLOGY_LOGITS), b.get(BERTOLOGY_LOGITS));

  // A bias of ones in each type.
  const std::vector<uint16_t> half_ones(3, 0x3c00), brain_ones(3, 0x3f80);
  const std::vector<float> ones(3, 1.0f);
  std::vector<std::vector<float>> logits;
  for (const int32_t dtype : {BERTOLOGY_FLOAT32, BERTOLOGY_FLOAT16, BERTOLOGY_BFLOAT16}) {
    bertology_tensor tensor = tensor_of(ones, {3});
    tensor.dtype = dtype;
    if (dtype == BERTOLOGY_FLOAT16) tensor.data = half_ones.data();
    if (dtype == BERTOLOGY_BFLOAT16) tensor.data = brain_ones.data();
    plain.set("classifier.bias", tensor);
    TinyRun run;
    run.batch(batch).capture({BERTOLOGY_LOGITS}).on(plain);
    logits.push_back(run.get(BERTOLOGY_LOGITS));
  }
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_EQ(logits[0], logits[2]);
}

TEST(ApiTest, WhatTheModelLacksIsSaidWhenItIsNeeded) {
  TinyModel model(tiny_config(), false);
  const TinyBatch batch(model.config, {5, 9});
  TinyRun run;
  run.batch(batch).capture({BERTOLOGY_HIDDEN_STATES});
  expect_error(BERTOLOGY_UNSUPPORTED, "lacks embeddings.word",
               [&] { return bertology_model_run(model.handle, run.handle); });
  for (const auto& [name, parameter] : model.parameters) {
    if (name.rfind("classifier", 0) == 0 || name.rfind("masked_lm", 0) == 0 ||
        name == "pooler.bias")
      continue;
    model.set(name, tensor_of(parameter.values, parameter.shape));
  }
  run.on(model);
  EXPECT_FALSE(run.get(BERTOLOGY_HIDDEN_STATES, 3).empty());
  run.capture({BERTOLOGY_LOGITS});
  expect_error(BERTOLOGY_UNSUPPORTED, "lacks pooler.bias",
               [&] { return bertology_model_run(model.handle, run.handle); });
  TinyRun masked_lm;
  masked_lm.batch(batch).capture({BERTOLOGY_TOKEN_LOGITS});
  expect_error(BERTOLOGY_UNSUPPORTED, "lacks masked_lm.transform.weight",
               [&] { return bertology_model_run(model.handle, masked_lm.handle); });
}

TEST(ApiTest, ReplacingOneOfTheThreeProjectionsKeepsTheOthers) {
  TinyModel changed, expected(tiny_config(), false);
  Random random(5);
  const std::vector<float> weight = random.normals(40 * 40), bias = random.normals(40);
  changed.set("layers.1.key.weight", tensor_of(weight, {40, 40}));
  changed.set("layers.1.value.bias", tensor_of(bias, {40}));
  expected.parameters["layers.1.key.weight"].values = weight;
  expected.parameters["layers.1.value.bias"].values = bias;
  expected.load_all();
  const TinyBatch batch(changed.config, {5, 9});
  TinyRun a, b;
  a.batch(batch).capture({BERTOLOGY_LOGITS, BERTOLOGY_HEAD_GRADIENTS}).on(changed);
  b.batch(batch).capture({BERTOLOGY_LOGITS, BERTOLOGY_HEAD_GRADIENTS}).on(expected);
  EXPECT_EQ(a.get(BERTOLOGY_LOGITS), b.get(BERTOLOGY_LOGITS));
  EXPECT_EQ(a.get(BERTOLOGY_HEAD_GRADIENTS), b.get(BERTOLOGY_HEAD_GRADIENTS));
}

TEST(ApiTest, ClassifierCanBeReplaced) {
  TinyModel model;
  const TinyBatch batch(model.config, {5, 9});
  check(bertology_model_set_classifier_shape(model.handle, 2, BERTOLOGY_CLS_NORMALIZED));
  TinyRun run;
  run.batch(batch, BERTOLOGY_NO_LOSS).capture({BERTOLOGY_LOGITS});
  expect_error(BERTOLOGY_UNSUPPORTED, "lacks classifier.weight",
               [&] { return bertology_model_run(model.handle, run.handle); });
  const std::vector<float> weight(2 * 40, 0.1f), bias = {1, 2};
  model.set("classifier.weight", tensor_of(weight, {2, 40}));
  model.set("classifier.bias", tensor_of(bias, {2}));
  run.on(model);
  EXPECT_EQ(run.get(BERTOLOGY_LOGITS).size(), 4u);
}

TEST(ApiTest, BatchesThatAreWrong) {
  TinyModel model;
  const TinyBatch batch(model.config, {5, 9});
  bertology_activations* run = nullptr;
  check(bertology_activations_create(device(), &run));
  const std::vector<int64_t> late = {1, 5}, empty = {0, 3, 3};
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "examples: 0", [&] {
    return bertology_activations_set_batch(run, 0, batch.offsets.data(), batch.ids.data(), nullptr);
  });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "offsets[0]: 1", [&] {
    return bertology_activations_set_batch(run, 1, late.data(), batch.ids.data(), nullptr);
  });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "example 1 has 0 tokens", [&] {
    return bertology_activations_set_batch(run, 2, empty.data(), batch.ids.data(), nullptr);
  });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "must be given", [&] {
    return bertology_activations_set_batch(run, 2, batch.offsets.data(), nullptr, nullptr);
  });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "have no batch",
               [&] { return bertology_model_run(model.handle, run); });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "model is null",
               [&] { return bertology_model_run(nullptr, run); });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "activations is null",
               [&] { return bertology_model_run(model.handle, nullptr); });
  bertology_activations_free(run);

  const auto refused = [&](const std::string& text, const std::function<void(TinyBatch&)>& change,
                           int32_t loss = BERTOLOGY_CLASSIFICATION) {
    TinyBatch changed = batch;
    change(changed);
    TinyRun bad;
    bad.batch(changed, loss).capture({BERTOLOGY_LOSS});
    expect_error(BERTOLOGY_INVALID_ARGUMENT, text,
                 [&] { return bertology_model_run(model.handle, bad.handle); });
    int64_t view[6];
    EXPECT_NE(bertology_activations_tensor(bad.handle, BERTOLOGY_LOSS, 0, -1, view), BERTOLOGY_OK);
  };
  refused("input_ids[3] is 83, expected 0 to 82", [](TinyBatch& b) { b.ids[3] = 83; });
  refused("input_ids[0] is -1", [](TinyBatch& b) { b.ids[0] = -1; });
  refused("token_type_ids[2] is 2, expected 0 to 1", [](TinyBatch& b) { b.types[2] = 2; });
  refused("label of example 1 is 3, expected 0 to 2", [](TinyBatch& b) { b.labels[1] = 3; });
  refused(
      "label of token 4 is 83", [](TinyBatch& b) { b.token_labels[4] = 83; }, BERTOLOGY_MASKED_LM);
  refused(
      "example 0 has no token with a label",
      [](TinyBatch& b) { std::fill(b.token_labels.begin(), b.token_labels.begin() + 5, -100); },
      BERTOLOGY_MASKED_LM);
  refused(
      "regression needs a classifier with 1 output, the model has 3", [](TinyBatch&) {},
      BERTOLOGY_REGRESSION);
  refused(
      "losses and gradients need labels", [](TinyBatch&) {}, BERTOLOGY_NO_LOSS);

  const TinyBatch too_long(model.config, {4, 91});
  TinyRun run_too_long;
  run_too_long.batch(too_long).capture({BERTOLOGY_LOGITS});
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "example 1 has 91 tokens, the model has 90 positions",
               [&] { return bertology_model_run(model.handle, run_too_long.handle); });
}

TEST(ApiTest, MasksAndCapturesThatAreWrong) {
  TinyModel model;
  model.prune({{1, 2}});
  const TinyBatch batch(model.config, {5, 9});
  TinyRun run;
  run.batch(batch).capture({BERTOLOGY_LOGITS});
  std::vector<float> mask(12, 1.0f);
  const auto set_mask = [&] {
    return bertology_activations_set_head_mask(run.handle, mask.data(),
                                               static_cast<int64_t>(mask.size()), 0);
  };
  mask[3] = 1.5f;
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "head_mask[3] is 1.5, expected 0 to 1", set_mask);
  mask[3] = std::numeric_limits<float>::quiet_NaN();
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "head_mask[3] is nan", set_mask);
  mask[3] = 1;
  mask[6] = 0;
  check(set_mask());
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "head 2 of layer 1 is pruned: it cannot be masked",
               [&] { return bertology_model_run(model.handle, run.handle); });
  mask.resize(11);
  check(set_mask());
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "head_mask has 11 values, expected 12",
               [&] { return bertology_model_run(model.handle, run.handle); });
  check(bertology_activations_set_head_mask(run.handle, nullptr, 0, 0));
  run.on(model);

  const int32_t high = 4, negative = -1;
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "capture: 16",
               [&] { return bertology_activations_capture(run.handle, 16, nullptr, 0); });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "layer -1 does not exist", [&] {
    return bertology_activations_capture(run.handle, BERTOLOGY_ATTENTIONS, &negative, 1);
  });
  int64_t view[6];
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "example 2 does not exist", [&] {
    return bertology_activations_tensor(run.handle, BERTOLOGY_LOGITS, 0, 2, view);
  });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "capture ATTENTIONS of layer 0 was not asked for", [&] {
    return bertology_activations_tensor(run.handle, BERTOLOGY_ATTENTIONS, 0, 0, view);
  });
  expect_error(BERTOLOGY_INVALID_ARGUMENT, "layer 3 does not exist: there are layers 0 to 2", [&] {
    return bertology_activations_tensor(run.handle, BERTOLOGY_ATTENTIONS, 3, 0, view);
  });
  check(bertology_activations_capture(run.handle, BERTOLOGY_HIDDEN_STATES, &high, 1));
  expect_error(BERTOLOGY_INVALID_ARGUMENT,
               "capture HIDDEN_STATES: layer 4 does not exist: there are layers 0 to 3",
               [&] { return bertology_model_run(model.handle, run.handle); });
}

TEST(ApiTest, ResultsTooLargeForTheMachineAreRefusedBeforeTheyStart) {
  bertology_config config = tiny_config();
  config.max_position_embeddings = 1 << 20;
  config.hidden_size = 4;
  config.num_attention_heads = 4;
  TinyModel model(config);
  const TinyBatch batch(config, {1 << 20});
  TinyRun run;
  run.batch(batch).capture({BERTOLOGY_ATTENTIONS});
  expect_error(BERTOLOGY_OUT_OF_MEMORY, "the captured activations needs",
               [&] { return bertology_model_run(model.handle, run.handle); });
  TinyRun small;
  small.batch(TinyBatch(config, {4})).capture({BERTOLOGY_LOGITS}).on(model);
  EXPECT_EQ(small.get(BERTOLOGY_LOGITS).size(), 3u);
}

}  // namespace
}  // namespace bertology::testing
