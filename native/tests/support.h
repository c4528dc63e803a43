// What all tests share: a device, random numbers, comparison with a bound that says where it broke.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "cpu/backend.h"
#include "ops/backend.h"

namespace bertology::testing {

/// The device under test, and how exact its products are.
struct DeviceCase {
  std::string name;
  DType dtype;
  /// Relative error of a sum of products against the largest term of the result: float32 sums round
  /// to 2^-24 each time and errors of random sign grow as the root of their number; bfloat16 inputs
  /// round to 2^-9.
  double product_error;
};

inline std::vector<DeviceCase> device_cases() {
  return {{"cpu_float32", BERTOLOGY_FLOAT32, 2e-6}, {"cpu_bfloat16", BERTOLOGY_BFLOAT16, 1.2e-2}};
}

inline std::string case_name(const ::testing::TestParamInfo<DeviceCase>& info) {
  return info.param.name;
}

inline Backend& backend() {
  static cpu::CpuBackend backend(3);  // more threads than tasks in some tests, fewer in others
  return backend;
}

/// A test for every device and product type.
class DeviceTest : public ::testing::TestWithParam<DeviceCase> {
 protected:
  void SetUp() override {
    if (!backend().supports(GetParam().dtype)) {
      GTEST_SKIP() << "no " << name_of(GetParam().dtype) << " products at hardware speed here";
    }
  }
  std::shared_ptr<Stream> stream = backend().stream();
};

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}

  float normal(float deviation = 1) {
    return std::normal_distribution<float>(0, deviation)(engine_);
  }
  int64_t below(int64_t limit) {
    return std::uniform_int_distribution<int64_t>(0, limit - 1)(engine_);
  }
  std::vector<float> normals(int64_t count, float deviation = 1) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(deviation);
    return values;
  }

 private:
  std::mt19937 engine_;
};

inline std::vector<double> widen(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

/// |actual - expected| <= relative * max |expected| + absolute, for every element.
template <class Expected>
void expect_close(const std::vector<float>& actual, const std::vector<Expected>& expected,
                  double relative, double absolute = 1e-30, const char* what = "") {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double largest = 0;
  for (const Expected& value : expected)
    largest = std::max(largest, std::abs(static_cast<double>(value)));
  const double bound = relative * largest + absolute;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(actual[i]), static_cast<double>(expected[i]), bound)
        << what << " element " << i << " of " << actual.size();
  }
}

/// Sequence offsets of packed rows, and prefix sums of squared lengths.
struct Packed {
  explicit Packed(const std::vector<int64_t>& lengths) {
    offsets.push_back(0);
    pairs.push_back(0);
    for (const int64_t length : lengths) {
      offsets.push_back(offsets.back() + length);
      pairs.push_back(pairs.back() + length * length);
    }
  }
  Sequences sequences() const {
    return {static_cast<int64_t>(offsets.size()) - 1, offsets.data(), pairs.data(), offsets.data(),
            pairs.data()};
  }
  std::vector<int64_t> offsets, pairs;
};

/// Central differences of a function of many variables, each moved by `step`.
template <class Function>
std::vector<double> finite_differences(std::vector<double> at, double step,
                                       const Function& function) {
  std::vector<double> gradient(at.size());
  for (size_t i = 0; i < at.size(); ++i) {
    const double x = at[i];
    at[i] = x + step;
    const double above = function(at);
    at[i] = x - step;
    const double below = function(at);
    at[i] = x;
    gradient[i] = (above - below) / (2 * step);
  }
  return gradient;
}

}  // namespace bertology::testing
