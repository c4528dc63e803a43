#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/isa.h"
#include "kernels/math_probe.h"

namespace bertology::cpu {
namespace {

MathProbe probe() {
  switch (choose_isa().isa) {
#if defined(__x86_64__)
    case Isa::kAmx:
    case Isa::kAvx512:
      return avx512::math_probe();
    case Isa::kAvx2:
      return avx2::math_probe();
#endif
    default:
      return baseline::math_probe();
  }
}

/// Every 97th float of both signs between these magnitudes.
std::vector<float> floats(float from, float to) {
  std::vector<float> values;
  uint32_t first, last;
  std::memcpy(&first, &from, sizeof first);
  std::memcpy(&last, &to, sizeof last);
  for (uint32_t bits = first; bits <= last; bits += 97) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    values.push_back(value);
    values.push_back(-value);
  }
  while (values.size() % 16 != 0) values.push_back(0);
  return values;
}

template <class Function>
double worst_error_in_ulp(const std::vector<float>& x,
                          void (*function)(const float*, float*, int64_t), const Function& exact) {
  std::vector<float> y(x.size());
  function(x.data(), y.data(), static_cast<int64_t>(x.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = exact(static_cast<double>(x[i]));
    const float nearest = static_cast<float>(expected);
    const double ulp = std::nextafter(std::abs(nearest), std::numeric_limits<float>::infinity()) -
                       std::abs(nearest);
    worst = std::max(worst, std::abs(y[i] - expected) / ulp);
  }
  return worst;
}

TEST(MathTest, ExponentialIsExactToAnUlp) {
  EXPECT_LT(worst_error_in_ulp(floats(1e-6f, 87.2f), probe().exponential,
                               [](double x) { return std::exp(x); }),
            1.5);
}

double normal_distribution(double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }

// Four units where GELU lives; in the tail, which goes down to 1e-38, the bound is relative.
TEST(MathTest, NormalDistributionIsExactToFourUlpAndItsTailToAHundred) {
  EXPECT_LT(
      worst_error_in_ulp(floats(1e-30f, 1.0f), probe().normal_distribution, normal_distribution),
      4);
  EXPECT_LT(
      worst_error_in_ulp(floats(1.0f, 12.9f), probe().normal_distribution, normal_distribution),
      110);
}

TEST(MathTest, HyperbolicTangentIsExactToTwoUlp) {
  EXPECT_LT(worst_error_in_ulp(floats(1e-30f, 20.0f), probe().hyperbolic_tangent,
                               [](double x) { return std::tanh(x); }),
            2);
}

TEST(MathTest, EndsOfTheRange) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x(16, 0.0f), y(16);
  x[0] = -infinity;
  x[1] = infinity;
  x[2] = -1e30f;
  x[3] = 88.0f;
  x[4] = std::numeric_limits<float>::quiet_NaN();
  x[5] = -88.0f;
  probe().exponential(x.data(), y.data(), 16);
  EXPECT_EQ(y[0], 0.0f);
  EXPECT_EQ(y[1], infinity);
  EXPECT_EQ(y[2], 0.0f);
  EXPECT_NEAR(y[3] / std::exp(88.0), 1, 1e-6);
  EXPECT_TRUE(std::isnan(y[4]));
  EXPECT_EQ(y[5], 0.0f) << "subnormal results are zero";
  EXPECT_EQ(y[6], 1.0f);
  probe().normal_distribution(x.data(), y.data(), 16);
  EXPECT_EQ(y[0], 0.0f);
  EXPECT_EQ(y[1], 1.0f);
  EXPECT_EQ(y[2], 0.0f);
  EXPECT_EQ(y[6], 0.5f);
  probe().hyperbolic_tangent(x.data(), y.data(), 16);
  EXPECT_EQ(y[0], -1.0f);
  EXPECT_EQ(y[1], 1.0f);
  EXPECT_TRUE(std::isnan(y[4]));
}

}  // namespace
}  // namespace bertology::cpu
