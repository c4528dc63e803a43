// What all tests share: a device, random numbers, comparison with a bound that says where it broke.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "api/devices.h"
#include "base/dtype.h"
#include "ops/backend.h"
#include "rounding.h"

namespace bertology::testing {

/// The device that the whole suite runs on: "cpu", or what BERTOLOGY_TEST_DEVICE names.
inline std::string device_name() {
  const char* named = std::getenv("BERTOLOGY_TEST_DEVICE");
  return named != nullptr ? named : "cpu";
}

inline bool on_cpu() { return device_name() == "cpu"; }

/// How much more float32 error than the CPU the device under test may make: CUDA's float32 products
/// are three of TF32.
inline const double kFloat32Slack = on_cpu() ? 1 : 2;

/// How often a test that waits for chance tries: on a device that is not the CPU less often, since
/// what stands in for it may be slow.
inline int repeats(int on_the_cpu) { return on_cpu() ? on_the_cpu : (on_the_cpu + 4) / 5; }

inline Backend& backend() {
  // On the CPU more threads than tasks in some tests, fewer in others.
  static const std::shared_ptr<Backend> opened = open_device(device_name(), 3);
  return *opened;
}

/// A stream with room for the operations of all tests.
inline std::shared_ptr<Stream> roomy_stream() {
  const std::shared_ptr<Stream> stream = backend().stream();
  Room room;
  room.rows = room.width = 2048;
  room.heads = 16;
  room.dtype = BERTOLOGY_FLOAT16;
  stream->reserve(room);
  return stream;
}

/// A type that matrix products take their inputs in, and how exact they are then.
struct DeviceCase {
  std::string name;
  DType dtype;
  /// Relative error of a sum of products against the largest term of the result: float32 sums round
  /// to 2^-24 each time and errors of random sign grow as the root of their number; bfloat16 inputs
  /// round to 2^-9, float16 inputs to 2^-12.
  double product_error;
};

inline std::vector<DeviceCase> device_cases() {
  return {{"float32", BERTOLOGY_FLOAT32, 2e-6},
          {"bfloat16", BERTOLOGY_BFLOAT16, 1.2e-2},
          {"float16", BERTOLOGY_FLOAT16, 1.5e-3}};
}

inline std::string case_name(const ::testing::TestParamInfo<DeviceCase>& info) {
  return info.param.name;
}

/// Vectors of the host where the operations of the device under test read and write them. A vector
/// must neither move nor change its size until the next sync().
class OnDevice {
 public:
  explicit OnDevice(Stream& stream) : stream_(stream) {}

  /// To be read only.
  template <class T>
  const T* operator()(const std::vector<T>& values) {
    return static_cast<const T*>(place(const_cast<T*>(values.data()),
                                       static_cast<int64_t>(values.size() * sizeof(T)), false));
  }
  /// To be written too: sync() brings it back.
  template <class T>
  T* operator()(std::vector<T>& values) {
    return static_cast<T*>(
        place(values.data(), static_cast<int64_t>(values.size() * sizeof(T)), true));
  }

  /// Waits for the operations and brings back what may have been written.
  void sync() {
    stream_.synchronize();
    for (auto& [host, copy] : copies_) {
      if (copy.written) backend().download(host, copy.memory->data(), copy.memory->bytes());
    }
    copies_.clear();
  }

 private:
  struct Copy {
    std::unique_ptr<DeviceMemory> memory;
    bool written;
  };

  void* place(void* host, int64_t bytes, bool written) {
    if (stream_.shares_host_memory() || bytes == 0) return host;
    Copy& copy = copies_[host];
    if (copy.memory == nullptr) {
      copy = {backend().allocate(bytes, "a test"), false};
      backend().upload(copy.memory->data(), host, bytes);
    }
    copy.written |= written;
    return copy.memory->data();
  }

  Stream& stream_;
  std::map<void*, Copy> copies_;
};

/// A test for every product type.
class DeviceTest : public ::testing::TestWithParam<DeviceCase> {
 protected:
  void SetUp() override {
    if (!backend().supports(GetParam().dtype)) {
      GTEST_SKIP() << "no " << name_of(GetParam().dtype) << " products at hardware speed here";
    }
  }
  std::shared_ptr<Stream> stream = roomy_stream();
  OnDevice device{*stream};
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
  /// With the numbers also where the kernels of the device under test read them.
  Sequences sequences(OnDevice& device) const {
    Sequences result = sequences();
    result.device_offsets = device(offsets);
    result.device_pair_offsets = device(pairs);
    return result;
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
