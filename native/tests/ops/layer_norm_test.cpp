#include "ops/layer_norm.h"

#include "ops/embedding.h"
#include "reference.h"
#include "support.h"

namespace bertology::testing {
namespace {

using reference::Values;

class LayerNormTest : public ::testing::Test {
 protected:
  std::shared_ptr<Stream> stream = roomy_stream();
  OnDevice device{*stream};
};

TEST_F(LayerNormTest, ForwardAndBackwardAgreeWithReference) {
  Random random(1);
  for (const int64_t width : {1, 3, 16, 24, 100, 768, 1031, 4096}) {
    const int64_t rows = width > 1000 ? 5 : 37;
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
    layer_norm_forward(*stream, {rows, width, device(x), device(residual), device(gamma),
                                 device(beta), eps, device(y), device(sum), device(statistics)});
    device.sync();
    // Rounding the mean to float32 at 100 is 4e-6 against a deviation of about 1.
    const double bound = far ? 2e-5 : 2e-6;
    expect_close(y, reference::layer_norm(widen(z), widen(gamma), widen(beta), width, eps), bound,
                 1e-6, "output");
    EXPECT_EQ(sum, z);
    layer_norm_backward(*stream, {rows, width, device(dy), device(sum), device(statistics),
                                  device(gamma), device(dz)});
    device.sync();
    expect_close(dz, reference::layer_norm_backward(widen(dy), widen(z), widen(gamma), width, eps),
                 2e-5, 1e-4, "gradient");

    // In place, as the model uses it.
    std::vector<float> in_place = x;
    layer_norm_forward(*stream, {rows, width, device(in_place), device(residual), device(gamma),
                                 device(beta), eps, device(in_place), nullptr, nullptr});
    device.sync();
    EXPECT_EQ(in_place, y);
    std::vector<float> gradient = dy;
    layer_norm_backward(*stream, {rows, width, device(gradient), device(sum), device(statistics),
                                  device(gamma), device(gradient)});
    device.sync();
    EXPECT_EQ(gradient, dz);

    // Onto the gradient of what the sum goes on to.
    std::vector<float> onto = residual;
    LayerNormBackward backward = {
        rows, width, device(dy), device(sum), device(statistics), device(gamma), device(onto)};
    backward.d_residual = device(onto);
    layer_norm_backward(*stream, backward);
    device.sync();
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
  for (const int64_t width : {21, 24, 1200}) {
    const int64_t tokens = 50;
    const std::vector<float> word = random.normals(30 * width),
                             position = random.normals(9 * width), type = random.normals(2 * width),
                             gamma = random.normals(width), beta = random.normals(width);
    std::vector<int32_t> ids, positions, types;
    Values without_type, sums;
    for (int64_t t = 0; t < tokens; ++t) {
      ids.push_back(static_cast<int32_t>(random.below(30)));
      positions.push_back(static_cast<int32_t>(random.below(9)));
      types.push_back(static_cast<int32_t>(random.below(2)));
      for (int64_t c = 0; c < width; ++c) {
        without_type.push_back(
            static_cast<double>(word[static_cast<size_t>(ids.back() * width + c)]) +
            position[static_cast<size_t>(positions.back() * width + c)]);
        sums.push_back(without_type.back() + type[static_cast<size_t>(types.back() * width + c)]);
      }
    }
    const auto embed = [&](bool typed, bool normalised) {
      std::vector<float> output(sums.size());
      EmbeddingForward op;
      op.tokens = tokens;
      op.width = width;
      op.input_ids = device(ids);
      op.position_ids = device(positions);
      op.token_type_ids = device(types);
      op.word = device(word);
      op.position = device(position);
      if (typed) op.token_type = device(type);
      if (normalised) {
        op.gamma = device(gamma);
        op.beta = device(beta);
      }
      op.eps = 1e-12f;
      op.output = device(output);
      embedding_forward(*stream, op);
      device.sync();
      return output;
    };
    expect_close(embed(true, true),
                 reference::layer_norm(sums, widen(gamma), widen(beta), width, 1e-12), 1e-6);
    expect_close(embed(true, false), sums, 1e-6);
    expect_close(embed(false, false), without_type, 1e-6);
  }
}

TEST_F(LayerNormTest, NoRowsAreNoWork) {
  const std::vector<float> gamma(4, 1.0f);
  std::vector<float> output(4, 7.0f), statistics(2);
  layer_norm_forward(*stream, {0, 4, device(output), nullptr, device(gamma), device(gamma), 0,
                               device(output), nullptr, nullptr});
  layer_norm_backward(*stream, {0, 4, device(output), device(output), device(statistics),
                                device(gamma), device(output)});
  device.sync();
  EXPECT_EQ(output, std::vector<float>(4, 7.0f));
}

}  // namespace
}  // namespace bertology::testing
