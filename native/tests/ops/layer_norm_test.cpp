#include "ops/layer_norm.h"

#include "ops/embedding.h"
#include "reference.h"
#include "support.h"

namespace bertology::testing {
namespace {

using reference::Values;

class LayerNormTest : public ::testing::Test {
 protected:
  std::shared_ptr<Stream> stream = backend().stream();
};

TEST_F(LayerNormTest, ForwardAndBackwardAgreeWithReference) {
  Random random(1);
  for (const int64_t width : {1, 3, 16, 24, 100, 768}) {
    const int64_t rows = 37;
    const float eps = 1e-5f;
    std::vector<float> x = random.normals(rows * width);
    // A mean far from zero: the variance must not come from E[x^2] - E[x]^2. Rows of a few numbers
    // may have a small deviation by chance, which would magnify the rounding of the mean.
    const bool far = width >= 16;
    for (float& value : x) value += far ? 100 : 0;
    const std::vector<float> residual = random.normals(rows * width);
    const std::vector<float> gamma = random.normals(width);
    const std::vector<float> beta = random.normals(width);
    const std::vector<float> dy = random.normals(rows * width);
    std::vector<float> z(x.size());
    for (size_t i = 0; i < x.size(); ++i) z[i] = x[i] + residual[i];

    std::vector<float> y(x.size()), sum(x.size()), statistics(static_cast<size_t>(2 * rows)),
        dz(x.size());
    layer_norm_forward(*stream, {rows, width, x.data(), residual.data(), gamma.data(), beta.data(),
                                 eps, y.data(), sum.data(), statistics.data()});
    // Rounding the mean to float32 at 100 is 4e-6 against a deviation of about 1.
    const double bound = far ? 2e-5 : 2e-6;
    expect_close(y, reference::layer_norm(widen(z), widen(gamma), widen(beta), width, eps), bound,
                 1e-6, "output");
    EXPECT_EQ(sum, z);
    layer_norm_backward(
        *stream, {rows, width, dy.data(), sum.data(), statistics.data(), gamma.data(), dz.data()});
    expect_close(dz, reference::layer_norm_backward(widen(dy), widen(z), widen(gamma), width, eps),
                 2e-5, 1e-4, "gradient");

    // In place, as the model uses it.
    std::vector<float> in_place = x;
    layer_norm_forward(*stream, {rows, width, in_place.data(), residual.data(), gamma.data(),
                                 beta.data(), eps, in_place.data(), nullptr, nullptr});
    EXPECT_EQ(in_place, y);
    std::vector<float> gradient = dy;
    layer_norm_backward(*stream, {rows, width, gradient.data(), sum.data(), statistics.data(),
                                  gamma.data(), gradient.data()});
    EXPECT_EQ(gradient, dz);

    // Onto the gradient of what the sum goes on to.
    std::vector<float> onto = residual;
    LayerNormBackward backward = {
        rows, width, dy.data(), sum.data(), statistics.data(), gamma.data(), onto.data()};
    backward.d_residual = onto.data();
    layer_norm_backward(*stream, backward);
    for (size_t i = 0; i < onto.size(); ++i)
      ASSERT_NEAR(onto[i], dz[i] + residual[i], 1e-6 * (1 + std::abs(dz[i])));
  }
}

TEST_F(LayerNormTest, ReferenceGradientAgreesWithFiniteDifferences) {
  Random random(2);
  const int64_t width = 5;
  const Values z = widen(random.normals(3 * width));
  const Values gamma = widen(random.normals(width));
  const Values beta = widen(random.normals(width));
  const Values dy = widen(random.normals(3 * width));
  const Values expected = finite_differences(z, 1e-5, [&](const Values& at) {
    const Values y = reference::layer_norm(at, gamma, beta, width, 1e-5);
    double loss = 0;
    for (size_t i = 0; i < y.size(); ++i) loss += dy[i] * y[i];
    return loss;
  });
  const Values gradient = reference::layer_norm_backward(dy, z, gamma, width, 1e-5);
  for (size_t i = 0; i < gradient.size(); ++i) EXPECT_NEAR(gradient[i], expected[i], 1e-8);
}

TEST_F(LayerNormTest, EmbeddingIsTheNormalisedSum) {
  Random random(3);
  const int64_t width = 21, tokens = 50;
  const std::vector<float> word = random.normals(30 * width), position = random.normals(9 * width),
                           type = random.normals(2 * width), gamma = random.normals(width),
                           beta = random.normals(width);
  std::vector<int32_t> ids, positions, types;
  Values sums;
  for (int64_t t = 0; t < tokens; ++t) {
    ids.push_back(static_cast<int32_t>(random.below(30)));
    positions.push_back(static_cast<int32_t>(random.below(9)));
    types.push_back(static_cast<int32_t>(random.below(2)));
    for (int64_t c = 0; c < width; ++c) {
      sums.push_back(static_cast<double>(word[static_cast<size_t>(ids.back() * width + c)]) +
                     position[static_cast<size_t>(positions.back() * width + c)] +
                     type[static_cast<size_t>(types.back() * width + c)]);
    }
  }
  std::vector<float> output(sums.size());
  EmbeddingForward op;
  op.tokens = tokens;
  op.width = width;
  op.input_ids = ids.data();
  op.position_ids = positions.data();
  op.token_type_ids = types.data();
  op.word = word.data();
  op.position = position.data();
  op.token_type = type.data();
  op.gamma = gamma.data();
  op.beta = beta.data();
  op.eps = 1e-12f;
  op.output = output.data();
  embedding_forward(*stream, op);
  expect_close(output, reference::layer_norm(sums, widen(gamma), widen(beta), width, 1e-12), 1e-6);
  op.gamma = op.beta = nullptr;
  embedding_forward(*stream, op);
  expect_close(output, sums, 1e-6);
}

}  // namespace
}  // namespace bertology::testing
