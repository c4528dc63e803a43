#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/kernels/kernels.h"
#include "support.h"

namespace bertology::testing {
namespace {

const cpu::Kernels& kernels() { return cpu::kernels(choose_isa().isa); }

struct Shape {
  int64_t rows, depth, columns;
};

// Less than a tile, a step and a block; several of them with a rest; depths that are cut in pieces.
const std::vector<Shape> kShapes = {{1, 1, 1},     {2, 3, 5},     {6, 64, 64},    {7, 65, 63},
                                    {13, 384, 70}, {4, 1025, 64}, {11, 2050, 130}};

std::vector<float> packed(const cpu::PlainMatrix& plain) {
  std::vector<float> result(
      static_cast<size_t>(kernels().packed_floats(plain.depth, plain.columns)));
  kernels().pack(plain, result.data());
  return result;
}

TEST(PackedProductTest, IsNoWorseThanAPlainLoop) {
  Random random(1);
  for (const Shape& s : kShapes) {
    for (const bool accumulate : {false, true}) {
      const std::vector<float> a = random.normals(s.rows * s.depth);
      const std::vector<float> w = random.normals(s.columns * s.depth);
      const std::vector<float> bias = random.normals(s.columns);
      const std::vector<float> b = packed({s.depth, s.columns, w.data(), 1, s.depth});
      const int64_t stride = s.columns + 3;
      std::vector<float> c = random.normals(s.rows * stride);
      const std::vector<float> before = c;
      kernels().multiply({s.rows, s.depth, s.columns, a.data(), s.depth, b.data(), bias.data(),
                          c.data(), stride, accumulate, accumulate ? b.data() : nullptr});
      double error = 0;
      double plain_error = 0;
      double largest = 0;
      for (int64_t r = 0; r < s.rows; ++r) {
        for (int64_t j = 0; j < stride; ++j) {
          const size_t at = static_cast<size_t>(r * stride + j);
          if (j >= s.columns) {
            ASSERT_EQ(c[at], before[at]) << "behind the columns";
            continue;
          }
          const float start = accumulate ? before[at] : bias[static_cast<size_t>(j)];
          double exact = start;
          float plain = start;
          for (int64_t k = 0; k < s.depth; ++k) {
            const float x = a[static_cast<size_t>(r * s.depth + k)];
            const float y = w[static_cast<size_t>(j * s.depth + k)];
            exact += static_cast<double>(x) * y;
            plain += x * y;
          }
          largest = std::max(largest, std::abs(exact));
          error = std::max(error, std::abs(c[at] - exact));
          plain_error = std::max(plain_error, std::abs(plain - exact));
        }
      }
      // Of few sums chance decides: the least that is held against them is a rounding of the
      // result.
      EXPECT_LE(error, std::max(1.5 * plain_error, largest * std::pow(2.0, -23)))
          << s.rows << " x " << s.depth << " x " << s.columns;
    }
  }
}

TEST(PackedProductTest, RowsDoNotDependOnTheirNeighbours) {
  Random random(2);
  const int64_t depth = 1100;
  const int64_t columns = 70;
  const int64_t rows = 14;
  const std::vector<float> a = random.normals(rows * depth);
  const std::vector<float> w = random.normals(columns * depth);
  const std::vector<float> b = packed({depth, columns, w.data(), 1, depth});
  const auto multiply = [&](int64_t first, int64_t count) {
    std::vector<float> c(static_cast<size_t>(count * columns));
    kernels().multiply({count, depth, columns, a.data() + first * depth, depth, b.data(), nullptr,
                        c.data(), columns, false, nullptr});
    return c;
  };
  const std::vector<float> all = multiply(0, rows);
  for (int64_t count = 1; count <= rows; ++count) {
    const std::vector<float> some = multiply(rows - count, count);
    EXPECT_TRUE(std::equal(some.begin(), some.end(), all.end() - count * columns)) << count;
  }
}

TEST(PackedProductTest, UnpackGivesBackWhatWasPackedByRowsOrByColumns) {
  Random random(3);
  for (const Shape& s : kShapes) {
    const std::vector<float> values = random.normals(s.depth * s.columns);
    for (const bool by_columns : {false, true}) {
      const int64_t depth_stride = by_columns ? 1 : s.columns;
      const int64_t column_stride = by_columns ? s.depth : 1;
      const std::vector<float> b =
          packed({s.depth, s.columns, values.data(), depth_stride, column_stride});
      std::vector<float> back(values.size());
      kernels().unpack(b.data(), {s.depth, s.columns, back.data(), depth_stride, column_stride});
      EXPECT_EQ(back, values);
    }
  }
}

}  // namespace
}  // namespace bertology::testing
