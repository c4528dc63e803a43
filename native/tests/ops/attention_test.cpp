#include "ops/attention.h"

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

  AttentionInputs inputs() const {
    const int64_t width = heads * head_dim;
    AttentionInputs in;
    in.heads = heads;
    in.head_dim = head_dim;
    in.queries = queries.sequences();
    in.keys = keys.sequences();
    in.query = query.data();
    in.key = key_value.data();
    in.value = key_value.data() + width;
    in.query_stride = width;
    in.key_stride = 2 * width;
    in.scale = 1 / std::sqrt(static_cast<float>(head_dim));
    in.causal = causal;
    in.head_mask = mask.data();
    return in;
  }

  int64_t sequences() const { return static_cast<int64_t>(keys.offsets.size()) - 1; }

  reference::Head head(int64_t b, int64_t h) const {
    const int64_t width = heads * head_dim;
    reference::Head head;
    head.queries = queries.sequences().length(b);
    head.keys = keys.sequences().length(b);
    head.dim = head_dim;
    head.scale = inputs().scale;
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

struct Case {
  const char* name;
  std::vector<int64_t> lengths;
  int64_t heads, head_dim;
  bool causal;
  std::vector<float> mask;
  bool first_rows_only;
};

const std::vector<Case> kCases = {
    {"single token", {1}, 1, 1, false, {1}, false},
    {"odd sizes", {1, 7, 33, 2}, 3, 10, false, {1, 1, 1}, false},
    {"over one block of rows", {50, 130}, 2, 64, false, {1, 1}, false},
    {"masks in between", {5, 40}, 4, 32, false, {0.5f, 0, 1, 0.25f}, false},
    {"all heads masked", {9, 3}, 2, 16, false, {0, 0}, false},
    {"causal", {1, 12, 70}, 2, 24, true, {1, 0.5f}, false},
    {"first rows only", {4, 61, 1}, 3, 32, false, {1, 0.5f, 0}, true},
    {"wide heads", {20}, 2, 128, false, {1, 1}, false},
};

class AttentionTest : public ::testing::TestWithParam<Case> {
 protected:
  AttentionTest()
      : layer(11, GetParam().lengths, GetParam().heads, GetParam().head_dim, GetParam().causal,
              GetParam().mask, GetParam().first_rows_only) {}
  std::shared_ptr<Stream> stream = backend().stream();
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
  }

  void run(Stream& stream, const Layer& layer, bool compute_masked) {
    const bool maps = !probabilities.empty();
    const int64_t width = layer.heads * layer.head_dim;
    AttentionForward forward;
    forward.inputs = layer.inputs();
    forward.inputs.compute_masked_heads = compute_masked;
    forward.context = context.data();
    forward.log_sum_exp = log_sums.data();
    forward.head_outputs = outputs.data();
    forward.entropies = entropies.data();
    forward.probabilities = maps ? probabilities.data() : nullptr;
    attention_forward(stream, forward);
    AttentionBackward backward;
    backward.inputs = forward.inputs;
    backward.d_context = layer.d_context.data();
    backward.head_outputs = outputs.data();
    backward.log_sum_exp = log_sums.data();
    backward.d_query = dq.data();
    backward.d_key = dkv.data();
    backward.d_value = dkv.data() + width;
    backward.d_query_stride = width;
    backward.d_key_stride = 2 * width;
    backward.head_index = layer.index.data();
    backward.example_stride = stride;
    backward.head_gradients = gradients.data();
    backward.token_head_gradients = token_gradients.data();
    backward.d_head_outputs = d_outputs.data();
    backward.d_probabilities = maps ? d_probabilities.data() : nullptr;
    attention_backward(stream, backward);
  }

  std::vector<float> context, outputs, log_sums, entropies, probabilities, dq, dkv, d_outputs,
      d_probabilities, gradients, token_gradients;
  int64_t stride;
};

template <class Value>
std::vector<Value> part(const std::vector<Value>& values, int64_t first, int64_t count) {
  return {values.begin() + first, values.begin() + first + count};
}

TEST_P(AttentionTest, AgreesWithReference) {
  const bool maps = !GetParam().first_rows_only;
  Results results(layer, maps);
  results.run(*stream, layer, true);
  const int64_t width = layer.heads * layer.head_dim;
  for (int64_t b = 0; b < layer.sequences(); ++b) {
    for (int64_t h = 0; h < layer.heads; ++h) {
      const reference::Head head = layer.head(b, h);
      const Values p = head.probabilities();
      const Values o = head.outputs(p);
      expect_close(layer.of_head(results.outputs, b, h), o, 1e-6, 1e-7, "head output");
      Values context = o;
      for (double& value : context) value *= head.mask;
      expect_close(layer.of_head(results.context, b, h), context, 1e-6, 1e-7, "context");

      const int64_t row_start =
          layer.queries.offsets[static_cast<size_t>(b)] * layer.heads + h * head.queries;
      Values entropies, log_sums;
      for (int64_t i = 0; i < head.queries; ++i) {
        double entropy = 0;
        for (int64_t j = 0; j < head.keys; ++j) {
          const double x = p[static_cast<size_t>(i * head.keys + j)];
          if (x > 0) entropy -= x * std::log(x);
        }
        entropies.push_back(entropy);
      }
      expect_close(part(results.entropies, row_start, head.queries), entropies, 2e-6, 2e-6,
                   "entropy");

      const reference::Head::Gradients g =
          head.backward(widen(layer.of_head(layer.d_context, b, h)));
      const size_t target = static_cast<size_t>(b * results.stride + 2 * h);
      const double size = std::max(1.0, g.mask_by_token);
      EXPECT_NEAR(results.gradients[target], g.mask, 2e-6 * size);
      EXPECT_NEAR(results.token_gradients[target], g.mask_by_token, 2e-6 * size);
      EXPECT_EQ(results.gradients[target + 1], -9)
          << "a head that the layer does not have was written";
      expect_close(layer.of_head(results.dq, b, h), g.dq, 3e-6, 1e-6, "dq");
      std::vector<float> dk, dv;
      for (int64_t r = layer.keys.offsets[static_cast<size_t>(b)];
           r < layer.keys.offsets[static_cast<size_t>(b) + 1]; ++r) {
        for (int64_t c = 0; c < layer.head_dim; ++c) {
          const size_t at = static_cast<size_t>(r * 2 * width + h * layer.head_dim + c);
          dk.push_back(results.dkv[at]);
          dv.push_back(results.dkv[at + static_cast<size_t>(width)]);
        }
      }
      expect_close(dk, g.dk, 3e-6, 1e-6, "dk");
      expect_close(dv, g.dv, 3e-6, 1e-6, "dv");
      Values d_output = widen(layer.of_head(layer.d_context, b, h));
      for (double& value : d_output) value *= head.mask;
      expect_close(layer.of_head(results.d_outputs, b, h), d_output, 1e-6, 1e-7,
                   "gradient of the head's output");
      if (!maps) continue;
      const int64_t pairs =
          layer.keys.pairs[static_cast<size_t>(b)] * layer.heads + h * head.queries * head.keys;
      Values masked = p;
      for (double& value : masked) value *= head.mask;
      expect_close(part(results.probabilities, pairs, head.queries * head.keys), masked, 1e-6, 1e-7,
                   "probabilities");
      expect_close(part(results.d_probabilities, pairs, head.queries * head.keys), g.dp, 2e-6, 1e-6,
                   "gradient of the probabilities");
    }
  }
}

TEST_P(AttentionTest, MaskedHeadsAreZeroAndWriteNoGradient) {
  Results results(layer, !GetParam().first_rows_only);
  results.run(*stream, layer, false);
  Results all(layer, !GetParam().first_rows_only);
  all.run(*stream, layer, true);
  for (int64_t b = 0; b < layer.sequences(); ++b) {
    for (int64_t h = 0; h < layer.heads; ++h) {
      const size_t target = static_cast<size_t>(b * results.stride + 2 * h);
      if (layer.mask[static_cast<size_t>(h)] != 0) {
        EXPECT_EQ(results.gradients[target], all.gradients[target]);
        EXPECT_EQ(layer.of_head(results.context, b, h), layer.of_head(all.context, b, h));
        EXPECT_EQ(layer.of_head(results.dq, b, h), layer.of_head(all.dq, b, h));
        continue;
      }
      EXPECT_EQ(results.gradients[target], -9);
      const std::vector<float> zeros(layer.of_head(results.context, b, h).size(), 0.0f);
      EXPECT_EQ(layer.of_head(results.context, b, h), zeros);
      EXPECT_EQ(layer.of_head(results.dq, b, h), zeros);
      EXPECT_EQ(layer.of_head(results.d_outputs, b, h), zeros);
    }
  }
}

TEST_P(AttentionTest, HeadGradientsAloneAreTheSame) {
  Results results(layer, false);
  results.run(*stream, layer, true);
  std::vector<float> gradients(results.gradients.size(), -9);
  AttentionBackward backward;
  backward.inputs = layer.inputs();
  backward.inputs.compute_masked_heads = true;
  backward.d_context = layer.d_context.data();
  backward.head_outputs = results.outputs.data();
  backward.head_index = layer.index.data();
  backward.example_stride = results.stride;
  backward.head_gradients = gradients.data();
  attention_backward(*stream, backward);
  EXPECT_EQ(gradients, results.gradients);
}

std::string case_of(const ::testing::TestParamInfo<Case>& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cases, AttentionTest, ::testing::ValuesIn(kCases), case_of);

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
