#include "ops/loss.h"

#include "ops/activation.h"
#include "reference.h"
#include "support.h"

namespace bertology::testing {
namespace {

using reference::Values;

double cross_entropy_of(const double* logits, int64_t classes, int32_t label) {
  double peak = logits[0];
  for (int64_t c = 1; c < classes; ++c) peak = std::max(peak, logits[c]);
  double total = 0;
  for (int64_t c = 0; c < classes; ++c) total += std::exp(logits[c] - peak);
  return std::log(total) + peak - logits[label];
}

class LossTest : public ::testing::Test {
 protected:
  std::shared_ptr<Stream> stream = roomy_stream();
  OnDevice device{*stream};
};

TEST_F(LossTest, CrossEntropyAgreesWithReferenceAndFiniteDifferences) {
  Random random(1);
  for (const int64_t classes : {1, 2, 3, 17, 64, 1003}) {
    const int64_t rows = 5;
    std::vector<float> logits = random.normals(rows * classes, 3);
    logits[0] = 60;  // large, and far from the others
    std::vector<int32_t> labels;
    std::vector<float> weights;
    for (int64_t r = 0; r < rows; ++r) {
      labels.push_back(static_cast<int32_t>(random.below(classes)));
      weights.push_back(0.5f + static_cast<float>(r));
    }
    labels[3] = -100;
    std::vector<float> losses(static_cast<size_t>(rows)), d_logits(logits.size());
    cross_entropy(*stream, {rows, classes, device(logits), device(labels), device(weights),
                            device(losses), device(d_logits)});
    device.sync();
    Values expected_losses, expected;
    for (int64_t r = 0; r < rows; ++r) {
      const Values row = widen({logits.begin() + r * classes, logits.begin() + (r + 1) * classes});
      if (labels[static_cast<size_t>(r)] < 0) {
        expected_losses.push_back(0);
        expected.insert(expected.end(), row.size(), 0.0);
        continue;
      }
      const int32_t label = labels[static_cast<size_t>(r)];
      expected_losses.push_back(cross_entropy_of(row.data(), classes, label));
      const Values gradient = finite_differences(row, 1e-4, [&](const Values& at) {
        return weights[static_cast<size_t>(r)] * cross_entropy_of(at.data(), classes, label);
      });
      expected.insert(expected.end(), gradient.begin(), gradient.end());
    }
    expect_close(losses, expected_losses, 1e-6, 1e-6);
    expect_close(d_logits, expected, 2e-6, 2e-6);

    // In place, and without weights or gradient.
    std::vector<float> in_place = logits;
    cross_entropy(*stream, {rows, classes, device(in_place), device(labels), device(weights),
                            device(losses), device(in_place)});
    device.sync();
    EXPECT_EQ(in_place, d_logits);
    std::vector<float> again(losses.size());
    cross_entropy(*stream,
                  {rows, classes, device(logits), device(labels), nullptr, device(again), nullptr});
    device.sync();
    EXPECT_EQ(again, losses);

    // Predictions beside the losses, and alone.
    std::vector<float> predictions(losses.size()), alone(losses.size());
    cross_entropy(*stream, {rows, classes, device(logits), device(labels), nullptr, device(again),
                            nullptr, device(predictions)});
    device.sync();
    cross_entropy(*stream, {rows, classes, device(logits), nullptr, nullptr, nullptr, nullptr,
                            device(alone)});
    device.sync();
    for (int64_t r = 0; r < rows; ++r) {
      const auto row = logits.begin() + r * classes;
      EXPECT_EQ(predictions[static_cast<size_t>(r)],
                static_cast<float>(std::max_element(row, row + classes) - row));
    }
    EXPECT_EQ(again, losses);
    EXPECT_EQ(alone, predictions);
  }
}

TEST_F(LossTest, RowGivesTheSameNumbersAtAnyPlace) {
  Random random(3);
  for (const int64_t classes : {83, 1022, 5003}) {
    const int64_t rows = 9;  // they start at every distance from a multiple of 32 bytes
    const std::vector<float> row = random.normals(classes, 3);
    std::vector<float> logits, losses(static_cast<size_t>(rows)), predictions(losses.size());
    for (int64_t r = 0; r < rows; ++r) logits.insert(logits.end(), row.begin(), row.end());
    const std::vector<int32_t> labels(losses.size(), 5);
    std::vector<float> d_logits(logits.size());
    cross_entropy(*stream, {rows, classes, device(logits), device(labels), nullptr, device(losses),
                            device(d_logits), device(predictions)});
    device.sync();
    const auto first = d_logits.begin(), second = first + classes;
    for (int64_t r = 1; r < rows; ++r) {
      EXPECT_EQ(losses[static_cast<size_t>(r)], losses[0]);
      EXPECT_EQ(predictions[static_cast<size_t>(r)], predictions[0]);
      EXPECT_TRUE(std::equal(first, second, first + r * classes)) << "row " << r;
    }
  }
}

TEST_F(LossTest, FirstOfEqualLogitsIsPredicted) {
  for (const int64_t classes : {3, 300, 3001}) {
    std::vector<float> logits(static_cast<size_t>(3 * classes), -2.0f), predictions(3);
    logits[static_cast<size_t>(classes - 1)] = logits[1] = 4;
    logits[static_cast<size_t>(3 * classes - 1)] = 1;
    cross_entropy(*stream, {3, classes, device(logits), nullptr, nullptr, nullptr, nullptr,
                            device(predictions)});
    device.sync();
    EXPECT_EQ(predictions, (std::vector<float>{1, 0, static_cast<float>(classes - 1)}));
  }
}

TEST_F(LossTest, SquaredErrorAndItsGradient) {
  const std::vector<float> predictions = {1, -2, 0.5f};
  const std::vector<float> targets = {0, 1, 0.5f};
  std::vector<float> losses(3), gradient(3);
  squared_error(*stream,
                {3, device(predictions), device(targets), device(losses), device(gradient)});
  device.sync();
  EXPECT_EQ(losses, (std::vector<float>{1, 9, 0}));
  EXPECT_EQ(gradient, (std::vector<float>{2, -6, 0}));
}

TEST_F(LossTest, ActivationBackwardAgreesWithFiniteDifferences) {
  Random random(2);
  for (const Activation activation : {Activation::kGelu, Activation::kGeluNew, Activation::kRelu,
                                      Activation::kTanh, Activation::kSilu, Activation::kNone}) {
    for (const int64_t count : {1, 15, 40, 100000}) {
      const std::vector<float> x = random.normals(count, 2);
      std::vector<float> gradient = random.normals(count);
      Values expected;
      for (size_t i = 0; i < x.size(); ++i) {
        const double slope = (reference::activate(activation, x[i] + 1e-5) -
                              reference::activate(activation, x[i] - 1e-5)) /
                             2e-5;
        EXPECT_NEAR(reference::activation_slope(activation, x[i]), slope,
                    activation == Activation::kRelu ? 1 : 1e-8);
        expected.push_back(gradient[i] * reference::activation_slope(activation, x[i]));
      }
      activation_backward(*stream, {activation, count, device(x), device(gradient)});
      device.sync();
      expect_close(gradient, expected, 1e-6);
    }
  }
}

}  // namespace
}  // namespace bertology::testing
