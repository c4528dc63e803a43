#include "ops/attention.h"

#include <thread>
#include <tuple>

#include "base/error.h"
#include "reference.h"
#include "support.h"

namespace bertology::testing {
namespace {

using reference::Values;

/// A whole layer's attention over ragged sequences, in the op's layout, with the reference of each
/// head.
struct Layer {
  Layer(uint32_t seed, std::vector<int64_t> lengths, int64_t head_count, int64_t dim,
        bool is_causal, std::vector<float> head_mask, bool first_rows_only = false)
      : heads(head_count),
        head_dim(dim),
        causal(is_causal),
        mask(std::move(head_mask)),
        keys(lengths),
        queries(first_rows_only ? std::vector<int64_t>(lengths.size(), 1) : lengths) {
    Random random(seed);
    const int64_t width = heads * head_dim;
    key_value = random.normals(keys.offsets.back() * 2 * width);
    query = random.normals(queries.offsets.back() * width);
    d_context = random.normals(queries.offsets.back() * width);
    for (size_t h = 0; h < mask.size(); ++h)
      index.push_back(static_cast<int32_t>(2 * h));  // as after pruning
  }

  float scale() const { return 1 / std::sqrt(static_cast<float>(head_dim)); }

  AttentionInputs inputs(OnDevice& device, DType dtype) const {
    const int64_t width = heads * head_dim;
    AttentionInputs in;
    in.heads = heads;
    in.head_dim = head_dim;
    in.queries = placed(device, queries);
    in.keys = placed(device, keys);
    in.query = device(query);
    in.key = device(key_value);
    in.value = in.key + width;
    in.query_stride = width;
    in.key_stride = 2 * width;
    in.scale = scale();
    in.causal = causal;
    in.head_mask = mask.data();
    in.dtype = dtype;
    return in;
  }

  static Sequences placed(OnDevice& device, const Packed& packed) {
    Sequences sequences = packed.sequences();
    sequences.device_offsets = device(packed.offsets);
    sequences.device_pair_offsets = device(packed.pairs);
    return sequences;
  }

  int64_t sequences() const { return static_cast<int64_t>(keys.offsets.size()) - 1; }

  reference::Head head(int64_t b, int64_t h) const {
    const int64_t width = heads * head_dim;
    reference::Head head;
    head.queries = queries.sequences().length(b);
    head.keys = keys.sequences().length(b);
    head.dim = head_dim;
    head.scale = scale();
    head.mask = mask[static_cast<size_t>(h)];
    head.causal = causal;
    const auto rows = [&](const std::vector<float>& from, int64_t first, int64_t count,
                          int64_t stride, int64_t column) {
      Values to;
      for (int64_t r = first; r < first + count; ++r) {
        for (int64_t c = 0; c < head_dim; ++c)
          to.push_back(from[static_cast<size_t>(r * stride + column + c)]);
      }
      return to;
    };
    const size_t i = static_cast<size_t>(b);
    head.q = rows(query, queries.offsets[i], head.queries, width, h * head_dim);
    head.k = rows(key_value, keys.offsets[i], head.keys, 2 * width, h * head_dim);
    head.v = rows(key_value, keys.offsets[i], head.keys, 2 * width, width + h * head_dim);
    return head;
  }

  /// Columns of head h of a [query rows, heads head_dim] matrix of sequence b.
  template <class Value>
  std::vector<Value> of_head(const std::vector<Value>& matrix, int64_t b, int64_t h) const {
    std::vector<Value> values;
    for (int64_t r = queries.offsets[static_cast<size_t>(b)];
         r < queries.offsets[static_cast<size_t>(b) + 1]; ++r) {
      for (int64_t c = 0; c < head_dim; ++c) {
        values.push_back(matrix[static_cast<size_t>((r * heads + h) * head_dim + c)]);
      }
    }
    return values;
  }

  int64_t heads, head_dim;
  bool causal;
  std::vector<float> mask;
  Packed keys, queries;
  std::vector<float> query, key_value, d_context;
  std::vector<int32_t> index;
};

/// What a head comes to if its products round their inputs to a type.
struct Expected : reference::Head::Gradients {
  Values log_sums, entropies;

  Expected(const reference::Head& head, const Values& d_context, DType dtype)
      : Gradients(in(head, dtype).backward(d_context)) {
    const Values q = reference::rounded(head.q, dtype), k = reference::rounded(head.k, dtype);
    for (int64_t i = 0; i < head.queries; ++i) {
      double entropy = 0;
      for (int64_t j = 0; j < head.keys; ++j) {
        const double x = p[static_cast<size_t>(i * head.keys + j)];
        if (x > 0) entropy -= x * std::log(x);
      }
      entropies.push_back(entropy);
      double score = 0;
      for (size_t c = 0; c < static_cast<size_t>(head.dim); ++c)
        score += q[static_cast<size_t>(i * head.dim) + c] * k[c];
      // p_i0 = exp(score - log-sum-exp)
      log_sums.push_back(score * head.scale - std::log(p[static_cast<size_t>(i * head.keys)]));
    }
  }

 private:
  static reference::Head in(reference::Head head, DType dtype) {
    head.dtype = dtype;
    return head;
  }
};

struct Case {
  const char* name;
  std::vector<int64_t> lengths;
  int64_t heads, head_dim;
  bool causal;
  std::vector<float> mask;
  bool first_rows_only;
  float growth = 0;  // powers of two from one row of dcontext to the next; the first 32 are zero
};

const std::vector<Case> kCases = {
    {"single token", {1}, 1, 1, false, {1}, false},
    {"odd sizes", {1, 7, 33, 2}, 3, 10, false, {1, 1, 1}, false},
    {"over one block of rows", {50, 130}, 2, 64, false, {1, 1}, false},
    {"masks in between", {5, 40}, 4, 32, false, {0.5f, 0, 1, 0.25f}, false},
    {"all heads masked", {9, 3}, 2, 16, false, {0, 0}, false},
    {"causal", {1, 12, 70}, 2, 24, true, {1, 0.5f}, false},
    {"first rows only", {4, 61, 1}, 3, 32, false, {1, 0.5f, 0}, true},
    {"first rows of long sequences", {300}, 1, 64, false, {0.5f}, true},
    {"wide heads", {20, 140}, 2, 128, false, {1, 1}, false},
    {"wide heads that are long", {261}, 1, 128, true, {0.5f}, false},
    {"heads of 96", {37, 149}, 1, 96, true, {1}, false},
    {"heads of 90 that are long", {470}, 2, 90, false, {1, 1}, false},
    {"many heads", {2}, 130, 1, false, std::vector<float>(130, 1), false},
    {"long", {300}, 1, 64, false, {1}, false},
    {"long and causal", {301}, 1, 32, true, {1}, false},
    {"longer than shared memory", {341}, 1, 64, true, {1}, false},
    {"longer than all queries of half precision", {513}, 1, 64, true, {0.5f}, false},
    {"longer than all keys", {700}, 1, 64, false, {1}, false},
    {"longer than all keys of narrow heads", {1330}, 1, 32, true, {1}, false},
    {"longer than all keys of wide heads", {401}, 1, 128, false, {1}, false},
    {"growing gradients", {257}, 1, 128, false, {1}, false, 1.0f / 16},
    {"shrinking gradients", {257}, 1, 128, false, {1}, false, -1.0f / 8},
    {"shrinking gradients in one pass", {130}, 1, 32, false, {1}, false, -1.0f / 4},
};

class AttentionTest : public ::testing::TestWithParam<std::tuple<Case, DeviceCase>> {
 protected:
  AttentionTest()
      : dtype(std::get<1>(GetParam()).dtype),
        first_rows_only(std::get<0>(GetParam()).first_rows_only),
        growth(std::get<0>(GetParam()).growth),
        layer(11, std::get<0>(GetParam()).lengths, std::get<0>(GetParam()).heads,
              std::get<0>(GetParam()).head_dim, std::get<0>(GetParam()).causal,
              std::get<0>(GetParam()).mask, first_rows_only) {
    if (growth == 0) return;
    const int64_t width = layer.heads * layer.head_dim;
    for (size_t i = 0; i < layer.d_context.size(); ++i) {
      const int64_t row = static_cast<int64_t>(i) / width;
      layer.d_context[i] *= row < 32 ? 0 : std::exp2(growth * static_cast<float>(row));
    }
  }

  void SetUp() override {
    if (on_cpu() && dtype != BERTOLOGY_FLOAT32) GTEST_SKIP() << "the CPU multiplies float32";
    if (!backend().supports(dtype)) GTEST_SKIP() << "no " << name_of(dtype) << " products here";
  }

  DType dtype;
  bool first_rows_only;
  float growth;
  std::shared_ptr<Stream> stream = roomy_stream();
  OnDevice device{*stream};
  Layer layer;
};

/// Results of a forward and backward run with everything captured.
struct Results {
  explicit Results(const Layer& layer, bool maps) {
    const size_t rows = layer.d_context.size();
    const size_t row_heads = static_cast<size_t>(layer.queries.offsets.back() * layer.heads);
    const size_t pairs = static_cast<size_t>(layer.keys.pairs.back() * layer.heads);
    context.assign(rows, -9);
    outputs.assign(rows, -9);
    log_sums.assign(row_heads, -9);
    entropies.assign(row_heads, -9);
    probabilities.assign(maps ? pairs : 0, -9);
    dq.assign(layer.query.size(), -9);
    dkv.assign(layer.key_value.size(), -9);
    d_outputs.assign(rows, -9);
    d_probabilities.assign(maps ? pairs : 0, -9);
    stride = 2 * layer.heads;
    gradients.assign(static_cast<size_t>(layer.sequences() * stride), -9);
    token_gradients = gradients;
    sums.assign(static_cast<size_t>(stride * kHeadSums), 0.25);
  }

  void run(Stream& stream, OnDevice& device, const Layer& layer, DType dtype, bool compute_masked) {
    const bool maps = !probabilities.empty();
    AttentionForward forward;
    forward.inputs = layer.inputs(device, dtype);
    forward.inputs.compute_masked_heads = compute_masked;
    forward.context = device(context);
    forward.log_sum_exp = device(log_sums);
    forward.head_outputs = device(outputs);
    forward.entropies = device(entropies);
    forward.probabilities = maps ? device(probabilities) : nullptr;
    attention_forward(stream, forward);
    run_backward(stream, device, layer, forward.inputs);
  }

  void run_backward(Stream& stream, OnDevice& device, const Layer& layer,
                    const AttentionInputs& inputs, bool of_inputs = true) {
    const int64_t width = layer.heads * layer.head_dim;
    AttentionBackward backward;
    backward.inputs = inputs;
    backward.d_context = device(layer.d_context);
    backward.head_outputs = device(outputs);
    backward.log_sum_exp = device(log_sums);
    if (of_inputs) {
      backward.d_query = device(dq);
      backward.d_key = device(dkv);
      backward.d_value = backward.d_key + width;
      backward.d_query_stride = width;
      backward.d_key_stride = 2 * width;
    }
    backward.head_index = layer.index.data();
    backward.example_stride = stride;
    backward.head_gradients = device(gradients);
    backward.token_head_gradients = device(token_gradients);
    backward.head_sums = device(sums);
    backward.d_head_outputs = device(d_outputs);
    backward.d_probabilities = d_probabilities.empty() ? nullptr : device(d_probabilities);
    attention_backward(stream, backward);
    device.sync();
  }

  std::vector<float> context, outputs, log_sums, entropies, probabilities, dq, dkv, d_outputs,
      d_probabilities, gradients, token_gradients;
  std::vector<double> sums;
  int64_t stride;
};

template <class Value>
std::vector<Value> part(const std::vector<Value>& values, int64_t first, int64_t count) {
  return {values.begin() + first, values.begin() + first + count};
}

double largest_difference(const Values& a, const Values& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

TEST_P(AttentionTest, AgreesWithReference) {
  const bool maps = !first_rows_only;
  Results results(layer, maps);
  results.run(*stream, device, layer, dtype, true);
  const int64_t width = layer.heads * layer.head_dim;

  // Twice the error of products of rounded inputs, the largest of all heads.
  std::vector<Expected> exact, plain;
  Values Expected::*const kinds[] = {&Expected::o,         &Expected::p,        &Expected::log_sums,
                                     &Expected::entropies, &Expected::products, &Expected::dq,
                                     &Expected::dk,        &Expected::dv,       &Expected::dp};
  std::vector<double> rounding(std::size(kinds), 0.0);
  for (int64_t b = 0; b < layer.sequences(); ++b) {
    for (int64_t h = 0; h < layer.heads; ++h) {
      const reference::Head head = layer.head(b, h);
      const Values d_context = widen(layer.of_head(layer.d_context, b, h));
      exact.emplace_back(head, d_context, BERTOLOGY_FLOAT32);
      if (dtype == BERTOLOGY_FLOAT32) continue;
      plain.emplace_back(head, d_context, dtype);
      for (size_t k = 0; k < std::size(kinds); ++k) {
        rounding[k] = std::max(
            rounding[k], 2 * largest_difference(exact.back().*kinds[k], plain.back().*kinds[k]));
      }
    }
  }
  const auto rounding_of = [&](Values Expected::*kind) {
    return rounding[static_cast<size_t>(std::find(std::begin(kinds), std::end(kinds), kind) -
                                        std::begin(kinds))];
  };
  // Errors of float32 sums, measured on the CPU; another order of sums may double them.
  const double factor = kFloat32Slack;
  // A probability's relative error is that of its score, a sum of as many products as a head is
  // wide.
  const double of_scores = 1e-6 * std::max(1.0, static_cast<double>(layer.head_dim) / 64);
  const auto check = [&](const std::vector<float>& actual, const Values& expected, double relative,
                         double absolute, double rounding_error, const char* what) {
    expect_close(actual, expected, factor * relative, factor * absolute + rounding_error, what);
  };

  for (int64_t b = 0; b < layer.sequences(); ++b) {
    for (int64_t h = 0; h < layer.heads; ++h) {
      const reference::Head head = layer.head(b, h);
      const Expected& expected = exact[static_cast<size_t>(b * layer.heads + h)];
      check(layer.of_head(results.outputs, b, h), expected.o, of_scores, 1e-7,
            rounding_of(&Expected::o), "head output");
      Values context = expected.o;
      for (double& value : context) value *= head.mask;
      check(layer.of_head(results.context, b, h), context, of_scores, 1e-7,
            head.mask * rounding_of(&Expected::o), "context");

      const int64_t row_start =
          layer.queries.offsets[static_cast<size_t>(b)] * layer.heads + h * head.queries;
      check(part(results.entropies, row_start, head.queries), expected.entropies, 2e-6, 2e-6,
            rounding_of(&Expected::entropies), "entropy");
      check(part(results.log_sums, row_start, head.queries), expected.log_sums, 1e-6, 1e-6,
            rounding_of(&Expected::log_sums), "log-sum-exp");

      const size_t target = static_cast<size_t>(b * results.stride + 2 * h);
      // Of float32 sums the errors of the tokens may all have one sign; roundings know nothing of
      // each other.
      const double bound =
          factor * 2e-6 * std::max(1.0, expected.mask_by_token) +
          std::sqrt(static_cast<double>(head.queries)) * rounding_of(&Expected::products);
      EXPECT_NEAR(results.gradients[target], expected.mask, bound);
      EXPECT_NEAR(results.token_gradients[target], expected.mask_by_token, bound);
      EXPECT_EQ(results.gradients[target + 1], -9)
          << "a head that the layer does not have was written";
      check(layer.of_head(results.dq, b, h), expected.dq, 3e-6, 1e-6, rounding_of(&Expected::dq),
            "dq");
      std::vector<float> dk, dv;
      for (int64_t r = layer.keys.offsets[static_cast<size_t>(b)];
           r < layer.keys.offsets[static_cast<size_t>(b) + 1]; ++r) {
        for (int64_t c = 0; c < layer.head_dim; ++c) {
          const size_t at = static_cast<size_t>(r * 2 * width + h * layer.head_dim + c);
          dk.push_back(results.dkv[at]);
          dv.push_back(results.dkv[at + static_cast<size_t>(width)]);
        }
      }
      check(dk, expected.dk, 3e-6, 1e-6, rounding_of(&Expected::dk), "dk");
      check(dv, expected.dv, 3e-6, 1e-6, rounding_of(&Expected::dv), "dv");
      Values d_output = widen(layer.of_head(layer.d_context, b, h));
      for (double& value : d_output) value *= head.mask;
      check(layer.of_head(results.d_outputs, b, h), d_output, 1e-6, 1e-7, 0,
            "gradient of the head's output");
      if (!maps) continue;
      const int64_t pairs =
          layer.keys.pairs[static_cast<size_t>(b)] * layer.heads + h * head.queries * head.keys;
      Values masked = expected.p;
      for (double& value : masked) value *= head.mask;
      check(part(results.probabilities, pairs, head.queries * head.keys), masked, 1e-6, 1e-7,
            head.mask * rounding_of(&Expected::p), "probabilities");
      check(part(results.d_probabilities, pairs, head.queries * head.keys), expected.dp, 2e-6, 1e-6,
            rounding_of(&Expected::dp), "gradient of the probabilities");
      // A row that is small beside others is not less accurate for it.
      for (int64_t i = 0; i < head.queries; ++i) {
        const auto row = [&](const Values& values) {
          return part(values, i * head.keys, head.keys);
        };
        const double error =
            dtype == BERTOLOGY_FLOAT32
                ? 0
                : 2 * largest_difference(row(expected.dp),
                                         row(plain[static_cast<size_t>(b * layer.heads + h)].dp));
        check(part(results.d_probabilities, pairs + i * head.keys, head.keys), row(expected.dp),
              2e-6, growth != 0 ? 1e-30 : 1e-6, error, "a row's gradient of the probabilities");
      }
      if (!layer.causal) continue;
      for (int64_t i = 0; i < head.queries; ++i) {
        for (int64_t j = i + 1; j < head.keys; ++j) {
          const size_t at = static_cast<size_t>(pairs + i * head.keys + j);
          ASSERT_TRUE(results.probabilities[at] == 0 && results.d_probabilities[at] == 0)
              << "row " << i << " sees key " << j;
        }
      }
    }
  }
}

TEST_P(AttentionTest, MaskedHeadsAreZeroAndWriteNoGradient) {
  if (std::find(layer.mask.begin(), layer.mask.end(), 0.0f) == layer.mask.end()) {
    GTEST_SKIP() << "no masked heads";
  }
  Results results(layer, !first_rows_only);
  results.run(*stream, device, layer, dtype, false);
  Results all(layer, !first_rows_only);
  all.run(*stream, device, layer, dtype, true);
  for (int64_t b = 0; b < layer.sequences(); ++b) {
    for (int64_t h = 0; h < layer.heads; ++h) {
      const size_t target = static_cast<size_t>(b * results.stride + 2 * h);
      const size_t sums = static_cast<size_t>(2 * h * kHeadSums);
      if (layer.mask[static_cast<size_t>(h)] != 0) {
        EXPECT_EQ(results.gradients[target], all.gradients[target]);
        EXPECT_EQ(layer.of_head(results.context, b, h), layer.of_head(all.context, b, h));
        EXPECT_EQ(layer.of_head(results.dq, b, h), layer.of_head(all.dq, b, h));
        continue;
      }
      EXPECT_EQ(results.gradients[target], -9);
      for (size_t s = sums; s < sums + kHeadSums; ++s) EXPECT_EQ(results.sums[s], 0.25);
      const std::vector<float> zeros(layer.of_head(results.context, b, h).size(), 0.0f);
      EXPECT_EQ(layer.of_head(results.context, b, h), zeros);
      EXPECT_EQ(layer.of_head(results.outputs, b, h), zeros);
      EXPECT_EQ(layer.of_head(results.dq, b, h), zeros);
      EXPECT_EQ(layer.of_head(results.d_outputs, b, h), zeros);
      for (int64_t r = layer.keys.offsets[static_cast<size_t>(b)];
           r < layer.keys.offsets[static_cast<size_t>(b) + 1]; ++r) {
        for (int64_t c = 0; c < layer.head_dim; ++c) {
          const int64_t width = layer.heads * layer.head_dim;
          const size_t at = static_cast<size_t>(r * 2 * width + h * layer.head_dim + c);
          EXPECT_EQ(results.dkv[at], 0);
          EXPECT_EQ(results.dkv[at + static_cast<size_t>(width)], 0);
        }
      }
      if (first_rows_only) continue;
      const int64_t keys = layer.keys.sequences().length(b);
      const int64_t pairs =
          layer.keys.pairs[static_cast<size_t>(b)] * layer.heads + h * keys * keys;
      const std::vector<float> no_map(static_cast<size_t>(keys * keys), 0.0f);
      EXPECT_EQ(part(results.probabilities, pairs, keys * keys), no_map);
      EXPECT_EQ(part(results.d_probabilities, pairs, keys * keys), no_map);
    }
  }
}

TEST_P(AttentionTest, HeadGradientsAloneAreTheSame) {
  Results results(layer, false);
  results.run(*stream, device, layer, dtype, true);
  std::vector<float> gradients(results.gradients.size(), -9);
  std::vector<float> token_gradients = gradients;
  std::vector<double> sums(results.sums.size(), 0.25);
  AttentionBackward backward;
  backward.inputs = layer.inputs(device, dtype);
  backward.inputs.compute_masked_heads = true;
  backward.d_context = device(layer.d_context);
  backward.head_outputs = device(results.outputs);
  backward.head_index = layer.index.data();
  backward.example_stride = results.stride;
  backward.head_gradients = device(gradients);
  backward.token_head_gradients = device(token_gradients);
  backward.head_sums = device(sums);
  attention_backward(*stream, backward);
  device.sync();
  EXPECT_EQ(gradients, results.gradients);
  EXPECT_EQ(token_gradients, results.token_gradients);
  EXPECT_EQ(sums, results.sums);
}

TEST_P(AttentionTest, MapsAloneAreTheSame) {
  if (first_rows_only) GTEST_SKIP() << "no maps";
  Results results(layer, true);
  results.run(*stream, device, layer, dtype, true);
  Results alone(layer, true);
  alone.outputs = results.outputs;
  alone.log_sums = results.log_sums;
  AttentionInputs inputs = layer.inputs(device, dtype);
  inputs.compute_masked_heads = true;
  alone.run_backward(*stream, device, layer, inputs, false);
  EXPECT_EQ(alone.gradients, results.gradients);
  EXPECT_EQ(alone.sums, results.sums);
  EXPECT_EQ(alone.d_outputs, results.d_outputs);
  // Half precision has another kernel for all gradients, with other orders of sums.
  const double error = on_cpu() || dtype == BERTOLOGY_FLOAT32 ? 0 : 1e-5;
  expect_close(alone.d_probabilities, widen(results.d_probabilities), error, error, "maps");
}

TEST_P(AttentionTest, HeadSumsGrowInTheOrderOfSequences) {
  Results results(layer, false);
  results.run(*stream, device, layer, dtype, true);
  std::vector<double> expected(results.sums.size(), 0.25);
  for (int call = 0; call < 2; ++call) {
    for (int64_t h = 0; h < layer.heads; ++h) {
      double* sums = expected.data() + 2 * h * kHeadSums;
      for (int64_t b = 0; b < layer.sequences(); ++b) {
        const size_t at = static_cast<size_t>(b * results.stride + 2 * h);
        const double g = results.gradients[at];
        sums[kSignedSum] += g;
        sums[kAbsoluteSum] += std::abs(g);
        sums[kSquaredSum] += g * g;
        sums[kTokenAbsoluteSum] += results.token_gradients[at];
      }
    }
    EXPECT_EQ(results.sums, expected);
    if (call == 1) break;
    AttentionInputs inputs = layer.inputs(device, dtype);
    inputs.compute_masked_heads = true;
    results.run_backward(*stream, device, layer, inputs);
  }
}

std::string case_of(const ::testing::TestParamInfo<AttentionTest::ParamType>& info) {
  std::string name = std::get<0>(info.param).name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name + "_" + std::get<1>(info.param).name;
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionTest,
                         ::testing::Combine(::testing::ValuesIn(kCases),
                                            ::testing::ValuesIn(device_cases())),
                         case_of);

TEST(Attention, GradientsMayBeSmall) {
  // So small that float16 does not tell them from zero: products must take them in other units.
  const float small = std::ldexp(1.0f, -30);
  const std::shared_ptr<Stream> stream = roomy_stream();
  for (const DeviceCase& device_case : device_cases()) {
    if (!backend().supports(device_case.dtype)) continue;
    for (const int64_t dim : {64, 128}) {
      // For half precision in one pass over the keys, and in tiles of keys.
      Layer layer(7, {20, dim == 64 ? 40 : 257}, 1, dim, false, {0.5f});
      Results large_results(layer, true);
      OnDevice device{*stream};
      large_results.run(*stream, device, layer, device_case.dtype, true);
      Results small_results = large_results;
      for (float& gradient : layer.d_context) gradient *= small;
      small_results.run_backward(*stream, device, layer, layer.inputs(device, device_case.dtype));
      for (float& gradient : large_results.dq) gradient *= small;
      for (float& gradient : large_results.dkv) gradient *= small;
      for (float& gradient : large_results.d_probabilities) gradient *= small;
      EXPECT_EQ(small_results.dq, large_results.dq) << device_case.name << ' ' << dim;
      EXPECT_EQ(small_results.dkv, large_results.dkv) << device_case.name << ' ' << dim;
      EXPECT_EQ(small_results.d_probabilities, large_results.d_probabilities)
          << device_case.name << ' ' << dim;
    }
  }
}

TEST(Attention, TilesMayGrow) {
  // With a block for each multiprocessor a block takes all that it can hold; else blocks divide the
  // queries. The bits are the same.
  if (on_cpu()) GTEST_SKIP() << "no blocks";
  const std::shared_ptr<Stream> stream = roomy_stream();
  OnDevice device{*stream};
  for (const int64_t dim : {16, 128}) {  // keys that fit shared memory, and keys that do not
    const int64_t length = 161;
    std::vector<int64_t> lengths(150, 2);
    lengths[0] = length;
    const Layer many(7, lengths, 1, dim, true, {1});
    Layer one(7, {length}, 1, dim, true, {1});
    one.query = part(many.query, 0, length * dim);
    one.key_value = part(many.key_value, 0, 2 * length * dim);
    one.d_context = part(many.d_context, 0, length * dim);
    Results all(many, true);
    Results alone(one, true);
    all.run(*stream, device, many, BERTOLOGY_FLOAT32, true);
    alone.run(*stream, device, one, BERTOLOGY_FLOAT32, true);
    const auto check = [&](std::vector<float> Results::*values) {
      EXPECT_EQ(part(all.*values, 0, static_cast<int64_t>((alone.*values).size())), alone.*values);
    };
    check(&Results::context);
    check(&Results::probabilities);
    check(&Results::dq);
    check(&Results::dkv);
    check(&Results::d_probabilities);
    const reference::Head head = many.head(0, 0);
    const Values p = head.probabilities();
    expect_close(part(all.probabilities, 0, length * length), p, kFloat32Slack * 1e-6,
                 kFloat32Slack * 1e-7, "probabilities");
    expect_close(part(all.context, 0, length * dim), head.outputs(p), kFloat32Slack * 1e-6,
                 kFloat32Slack * 1e-7, "context");
  }
}

TEST(Attention, ManySequences) {
  // More than the warp that adds up their gradients has lanes.
  const Layer layer(3, std::vector<int64_t>(70, 3), 1, 4, false, {1});
  const std::shared_ptr<Stream> stream = roomy_stream();
  OnDevice device{*stream};
  Results results(layer, true);
  results.run(*stream, device, layer, BERTOLOGY_FLOAT32, true);
  double sum = 0.25;
  for (int64_t b = 0; b < 70; ++b) {
    sum += results.gradients[static_cast<size_t>(b * results.stride)];
  }
  EXPECT_EQ(results.sums[kSignedSum], sum);
}

TEST(Attention, LargeScoresAreProbabilitiesAndOneKeyHasNoEntropy) {
  Layer layer(5, {1, 40, 17}, 2, 32, true, {1, 1});
  for (float& value : layer.query) value *= 1e9f;
  const std::shared_ptr<Stream> stream = roomy_stream();
  OnDevice device{*stream};
  Results results(layer, true);
  results.run(*stream, device, layer, BERTOLOGY_FLOAT32, true);
  for (const float value : results.context) ASSERT_LE(std::abs(value), 10.0f);
  for (const float value : results.dq) ASSERT_LE(std::abs(value), 1e4f);
  for (const float value : results.dkv) ASSERT_LE(std::abs(value), 1e12f);  // queries of 1e9
  for (int64_t b = 0; b < layer.sequences(); ++b) {
    const int64_t keys = layer.keys.sequences().length(b);
    for (int64_t h = 0; h < layer.heads; ++h) {
      const int64_t row = layer.queries.offsets[static_cast<size_t>(b)] * layer.heads + h * keys;
      EXPECT_EQ(results.entropies[static_cast<size_t>(row)], 0.0f) << "it sees one key";
      const int64_t map = layer.keys.pairs[static_cast<size_t>(b)] * layer.heads + h * keys * keys;
      for (int64_t i = 0; i < keys; ++i) {
        double sum = 0;
        for (const float p : part(results.probabilities, map + i * keys, keys)) sum += p;
        EXPECT_NEAR(sum, 1.0, 1e-6);
      }
    }
  }
}

/// Its length alone decides which kernel works on a sequence, and in which order.
TEST(Attention, SequencesDoNotChangeEachOther) {
  const std::shared_ptr<Stream> stream = roomy_stream();
  // The shorter of each two fits what the longer does not, somewhere.
  const std::vector<std::pair<int64_t, int64_t>> lengths = {{100, 330}, {100, 260}, {40, 520}};
  for (const DeviceCase& device_case : device_cases()) {
    if (!backend().supports(device_case.dtype)) continue;
    for (const auto& [length, other] : lengths) {
      for (const bool first : {true, false}) {
        SCOPED_TRACE(text(device_case.name, " ", length, first ? " before " : " after ", other));
        const size_t width = 64;
        const Layer both(
            5, first ? std::vector<int64_t>{length, other} : std::vector<int64_t>{other, length}, 1,
            64, false, {0.5f});
        Layer alone(6, {length}, 1, 64, false, {0.5f});
        const size_t start = first ? 0 : static_cast<size_t>(other);
        const size_t count = static_cast<size_t>(length);
        const auto rows = [&](const std::vector<float>& of, size_t row_width) {
          const auto begin = of.begin() + static_cast<ptrdiff_t>(start * row_width);
          return std::vector<float>(begin, begin + static_cast<ptrdiff_t>(count * row_width));
        };
        alone.query = rows(both.query, width);
        alone.key_value = rows(both.key_value, 2 * width);
        alone.d_context = rows(both.d_context, width);
        OnDevice device{*stream};
        Results expected(alone, true), actual(both, true);
        expected.run(*stream, device, alone, device_case.dtype, true);
        actual.run(*stream, device, both, device_case.dtype, true);
        EXPECT_EQ(rows(actual.context, width), expected.context);
        EXPECT_EQ(rows(actual.dq, width), expected.dq);
        EXPECT_EQ(rows(actual.dkv, 2 * width), expected.dkv);
        const size_t pairs = first ? 0 : static_cast<size_t>(other * other);
        EXPECT_EQ(part(actual.probabilities, static_cast<int64_t>(pairs), length * length),
                  expected.probabilities);
        EXPECT_EQ(part(actual.d_probabilities, static_cast<int64_t>(pairs), length * length),
                  expected.d_probabilities);
        EXPECT_EQ(actual.gradients[first ? 0 : static_cast<size_t>(actual.stride)],
                  expected.gradients[0]);
      }
    }
  }
}

TEST(Attention, ThreadsDoNotDisturbEachOther) {
  std::vector<std::string> failures(2);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < failures.size(); ++t) {
    threads.emplace_back([t, &failure = failures[t]] {
      try {
        // Both need more shared memory than a kernel has unasked, one more than the other.
        const Layer layer(5, {t == 0 ? 100 : 140}, 1, 64, false, {1});
        const std::shared_ptr<Stream> stream = roomy_stream();
        OnDevice device{*stream};
        Results expected(layer, false), results(layer, false);
        expected.run(*stream, device, layer, BERTOLOGY_FLOAT32, true);
        for (int i = 0; i < repeats(50); ++i) {
          results.run(*stream, device, layer, BERTOLOGY_FLOAT32, true);
          if (results.context != expected.context || results.dkv != expected.dkv)
            failure = "differs";
        }
      } catch (const std::exception& error) {
        failure = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& failure : failures) EXPECT_EQ(failure, "");
}

TEST(Attention, WhatIsNotANumberStaysSo) {
  const std::shared_ptr<Stream> stream = roomy_stream();
  for (const DeviceCase& device_case : device_cases()) {
    if (!backend().supports(device_case.dtype)) continue;
    for (const int64_t length : {20, 257}) {  // 257: several tiles of keys
      for (const bool in_gradient : {false, true}) {
        SCOPED_TRACE(text(device_case.name, " ", length, in_gradient ? " in dcontext" : " in q"));
        const size_t dim = length == 20 ? 32 : 128;
        Layer layer(5, {length}, 1, static_cast<int64_t>(dim), false, {1});
        (in_gradient ? layer.d_context : layer.query)[0] = std::nanf("");
        OnDevice device{*stream};
        Results results(layer, true);
        results.run(*stream, device, layer, device_case.dtype, true);
        const std::vector<float>& map =
            in_gradient ? results.d_probabilities : results.probabilities;
        for (size_t j = 0; j < static_cast<size_t>(length); ++j)
          ASSERT_TRUE(std::isnan(map[j])) << j;
        for (size_t c = 0; c < dim; ++c) {
          ASSERT_TRUE(std::isnan(results.context[c]) || in_gradient) << c;
          ASSERT_TRUE(std::isnan(results.dq[c])) << c;
          ASSERT_FALSE(std::isnan(results.dq[dim + c])) << "the next row has " << c;
        }
        // dV of the other columns stays as it is if dcontext has one.
        for (size_t i = 0; i < results.dkv.size(); ++i) {
          const bool of_value = i / dim % 2 == 1;
          ASSERT_EQ(std::isnan(results.dkv[i]), !in_gradient || !of_value || i % dim == 0) << i;
        }
        EXPECT_TRUE(std::isnan(results.gradients[0]));
      }
    }
  }
}

TEST(Attention, HeadsThatAreTooWideForTheDevice) {
  if (on_cpu()) GTEST_SKIP() << "the CPU has no limit";
  const Layer layer(3, {2}, 1, 129, false, {1});
  const std::shared_ptr<Stream> stream = roomy_stream();
  OnDevice device{*stream};
  Results results(layer, true);
  try {
    results.run(*stream, device, layer, BERTOLOGY_FLOAT32, true);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), BERTOLOGY_UNSUPPORTED);
    EXPECT_NE(std::string(error.what()).find("128"), std::string::npos) << error.what();
  }
}

TEST(AttentionReference, AgreesWithFiniteDifferences) {
  for (const bool causal : {false, true}) {
    const Layer layer(5, {6}, 1, 4, causal, {0.7f});
    const reference::Head head = layer.head(0, 0);
    const Values d_context = widen(layer.d_context);
    const auto loss = [&](const reference::Head& at) {
      const Values o = at.outputs(at.probabilities());
      double sum = 0;
      for (size_t i = 0; i < o.size(); ++i) sum += at.mask * o[i] * d_context[i];
      return sum;
    };
    const reference::Head::Gradients g = head.backward(d_context);
    const auto check = [&](const Values& gradient, Values reference::Head::*field) {
      const Values expected = finite_differences(head.*field, 1e-5, [&](const Values& at) {
        reference::Head moved = head;
        moved.*field = at;
        return loss(moved);
      });
      for (size_t i = 0; i < gradient.size(); ++i) EXPECT_NEAR(gradient[i], expected[i], 1e-8);
    };
    check(g.dq, &reference::Head::q);
    check(g.dk, &reference::Head::k);
    check(g.dv, &reference::Head::v);
    const Values expected = finite_differences({head.mask}, 1e-5, [&](const Values& at) {
      reference::Head moved = head;
      moved.mask = at[0];
      return loss(moved);
    });
    EXPECT_NEAR(g.mask, expected[0], 1e-8);
  }
}

}  // namespace
}  // namespace bertology::testing
