#include "ops/linear.h"

#include "cpu/backend.h"
#include "reference.h"
#include "support.h"

namespace bertology::testing {
namespace {

using reference::Values;

class LinearTest : public DeviceTest {
 protected:
  /// What the device multiplies by: the value itself, or the nearest one of its type.
  Values as_multiplied(const std::vector<float>& values) const {
    Values result;
    for (const float value : values) result.push_back(rounded(value, GetParam().dtype));
    return result;
  }
};

struct Shape {
  int64_t rows, outputs, inputs;
  int parts;
};

// One row, odd sizes, several blocks of rows and panels of columns, parts.
const std::vector<Shape> kShapes = {{1, 1, 1, 1},      {3, 5, 7, 1},     {17, 24, 10, 3},
                                    {64, 64, 64, 1},   {65, 300, 33, 1}, {131, 96, 48, 3},
                                    {200, 520, 70, 2}, {7, 771, 40, 3}};

TEST_P(LinearTest, ForwardAgreesWithReference) {
  Random random(1);
  for (const Shape& s : kShapes) {
    for (const Activation activation : {Activation::kNone, Activation::kGelu, Activation::kGeluNew,
                                        Activation::kRelu, Activation::kTanh, Activation::kSilu}) {
      const std::vector<float> x = random.normals(s.rows * s.inputs);
      const std::vector<float> w = random.normals(s.outputs * s.inputs, 0.3f);
      const std::vector<float> b = random.normals(s.outputs);
      const auto matrix = backend().pack(w.data(), s.outputs, s.inputs, s.parts, GetParam().dtype);
      const Values sums = reference::linear(as_multiplied(x), as_multiplied(w), widen(b), s.rows,
                                            s.outputs, s.inputs);
      Values expected;
      for (const double sum : sums) expected.push_back(reference::activate(activation, sum));

      std::vector<float> y(sums.size()), pre(sums.size());
      LinearForward op;
      op.weight = matrix.get();
      op.parts = s.parts;
      op.bias = b.data();
      op.activation = activation;
      op.rows = s.rows;
      op.input = x.data();
      op.output = y.data();
      linear_forward(*stream, op);
      expect_close(y, expected, 4e-6, 4e-6, "without preactivation");
      op.preactivation = pre.data();
      std::fill(y.begin(), y.end(), 0.0f);
      linear_forward(*stream, op);
      expect_close(y, expected, 4e-6, 4e-6, "output");
      expect_close(pre, sums, 4e-6, 4e-6, "preactivation");
    }
  }
}

TEST_P(LinearTest, SomePartsGoToTheirColumnsOnly) {
  Random random(2);
  const int64_t rows = 70, part = 20, inputs = 31;
  const std::vector<float> x = random.normals(rows * inputs);
  const std::vector<float> w = random.normals(3 * part * inputs);
  const std::vector<float> b = random.normals(3 * part);
  const auto matrix = backend().pack(w.data(), 3 * part, inputs, 3, GetParam().dtype);
  const Values all =
      reference::linear(as_multiplied(x), as_multiplied(w), widen(b), rows, 3 * part, inputs);
  const int64_t stride = 2 * part + 5;
  std::vector<float> y(static_cast<size_t>(rows * stride), -7.0f);
  LinearForward op;
  op.weight = matrix.get();
  op.first_part = 1;
  op.parts = 2;
  op.bias = b.data();
  op.rows = rows;
  op.input = x.data();
  op.output = y.data();
  op.output_stride = stride;
  linear_forward(*stream, op);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < stride; ++c) {
      const double expected =
          c < 2 * part ? all[static_cast<size_t>(r * 3 * part + part + c)] : -7.0;
      ASSERT_NEAR(y[static_cast<size_t>(r * stride + c)], expected, 1e-4) << r << ", " << c;
    }
  }
}

TEST_P(LinearTest, BackwardAgreesWithReference) {
  Random random(3);
  for (const Shape& s : kShapes) {
    for (const bool accumulate : {false, true}) {
      const std::vector<float> dy = random.normals(s.rows * s.outputs);
      const std::vector<float> w = random.normals(s.outputs * s.inputs, 0.3f);
      const auto matrix = backend().pack(w.data(), s.outputs, s.inputs, s.parts, GetParam().dtype);
      Values expected = reference::linear_backward(as_multiplied(dy), as_multiplied(w), s.rows,
                                                   s.outputs, s.inputs);
      std::vector<float> dx = random.normals(s.rows * s.inputs);
      if (accumulate) {
        for (size_t i = 0; i < dx.size(); ++i) expected[i] += dx[i];
      }
      LinearBackward op;
      op.weight = matrix.get();
      op.parts = s.parts;
      op.rows = s.rows;
      op.d_output = dy.data();
      op.d_input = dx.data();
      op.accumulate = accumulate;
      linear_backward(*stream, op);
      expect_close(dx, expected, 4e-6, 4e-6);
    }
  }
}

TEST_P(LinearTest, BackwardOfSomePartsTakesTheirRowsOnly) {
  Random random(4);
  const int64_t rows = 66, part = 12, inputs = 40;
  const std::vector<float> dy = random.normals(rows * 2 * part);
  const std::vector<float> w = random.normals(3 * part * inputs);
  const std::vector<float> last_two(w.begin() + part * inputs, w.end());
  const auto matrix = backend().pack(w.data(), 3 * part, inputs, 3, GetParam().dtype);
  std::vector<float> dx(static_cast<size_t>(rows * inputs));
  LinearBackward op;
  op.weight = matrix.get();
  op.first_part = 1;
  op.parts = 2;
  op.rows = rows;
  op.d_output = dy.data();
  op.d_input = dx.data();
  linear_backward(*stream, op);
  expect_close(dx,
               reference::linear_backward(as_multiplied(dy), as_multiplied(last_two), rows,
                                          2 * part, inputs),
               4e-6, 4e-6);
}

TEST_P(LinearTest, BackwardThroughActivationAgreesWithFiniteDifferences) {
  Random random(5);
  const int64_t rows = 3, inputs = 6, outputs = 4;
  for (const Activation activation : {Activation::kGelu, Activation::kGeluNew, Activation::kTanh}) {
    // loss(u) = sum of weights * (activation(u) W^T)
    const std::vector<float> u = random.normals(rows * inputs);
    const std::vector<float> w = random.normals(outputs * inputs);
    const std::vector<float> dy = random.normals(rows * outputs);
    const Values wide_w = as_multiplied(w);
    const Values wide_dy = as_multiplied(dy);
    const Values expected = finite_differences(widen(u), 1e-5, [&](const Values& at) {
      Values x;
      for (const double value : at) x.push_back(reference::activate(activation, value));
      const Values y = reference::linear(x, wide_w, {}, rows, outputs, inputs);
      double loss = 0;
      for (size_t i = 0; i < y.size(); ++i) loss += wide_dy[i] * y[i];
      return loss;
    });
    const auto matrix = backend().pack(w.data(), outputs, inputs, 1, GetParam().dtype);
    std::vector<float> du(u.size());
    LinearBackward op;
    op.weight = matrix.get();
    op.rows = rows;
    op.d_output = dy.data();
    op.d_input = du.data();
    op.activation = activation;
    op.preactivation = u.data();
    linear_backward(*stream, op);
    expect_close(du, expected, 2e-6, 2e-6);
  }
}

TEST_P(LinearTest, BorrowedMatrixMultipliesWhereItIs) {
  Random random(6);
  const int64_t rows = 9, outputs = 301, inputs = 24;
  const std::vector<float> x = random.normals(rows * inputs);
  const std::vector<float> w = random.normals(outputs * inputs);
  const auto matrix = backend().borrow(w.data(), outputs, inputs, GetParam().dtype);
  std::vector<float> y(static_cast<size_t>(rows * outputs)), dx(static_cast<size_t>(rows * inputs));
  LinearForward forward;
  forward.weight = matrix.get();
  forward.rows = rows;
  forward.input = x.data();
  forward.output = y.data();
  linear_forward(*stream, forward);
  expect_close(y, reference::linear(as_multiplied(x), as_multiplied(w), {}, rows, outputs, inputs),
               4e-6, 4e-6);
  LinearBackward backward;
  backward.weight = matrix.get();
  backward.rows = rows;
  backward.d_output = y.data();
  backward.d_input = dx.data();
  linear_backward(*stream, backward);
  expect_close(
      dx, reference::linear_backward(as_multiplied(y), as_multiplied(w), rows, outputs, inputs),
      4e-6, 4e-6);
}

TEST_P(LinearTest, UnpackGivesTheWeightsBack) {
  Random random(7);
  for (const Shape& s : kShapes) {
    const std::vector<float> w = random.normals(s.outputs * s.inputs);
    const auto matrix = backend().pack(w.data(), s.outputs, s.inputs, s.parts, GetParam().dtype);
    std::vector<float> back(w.size());
    matrix->unpack(back.data());
    EXPECT_EQ(widen(back), as_multiplied(w));
  }
}

TEST_P(LinearTest, CutEqualsPackingWhatIsKept) {
  Random random(8);
  const int64_t part = 64, inputs = 48, rows = 21;
  const std::vector<float> w = random.normals(3 * part * inputs);
  const std::vector<int64_t> kept_rows = {0, 1, 5, 8, 9, 10, 11, 63};
  const std::vector<int64_t> kept_columns = {1, 2, 3, 40, 47};
  std::vector<int64_t> outputs;
  std::vector<float> kept;
  for (int64_t p = 0; p < 3; ++p) {
    for (const int64_t row : kept_rows) {
      outputs.push_back(p * part + row);
      for (const int64_t column : kept_columns) {
        kept.push_back(w[static_cast<size_t>((p * part + row) * inputs + column)]);
      }
    }
  }
  const int64_t cut_outputs = static_cast<int64_t>(outputs.size());
  const int64_t cut_inputs = static_cast<int64_t>(kept_columns.size());
  for (const bool ran_backward : {false, true}) {
    const auto matrix = backend().pack(w.data(), 3 * part, inputs, 3, GetParam().dtype);
    if (ran_backward) {  // its second packing must be cut too
      std::vector<float> dy(static_cast<size_t>(3 * part)), dx(static_cast<size_t>(inputs));
      LinearBackward op;
      op.weight = matrix.get();
      op.parts = 3;
      op.rows = 1;
      op.d_output = dy.data();
      op.d_input = dx.data();
      linear_backward(*stream, op);
    }
    const int64_t bytes_before = matrix->bytes();
    std::vector<float> scratch(w.size());
    matrix->prepare_cut(outputs, kept_columns)->commit(scratch.data());
    EXPECT_LT(matrix->bytes(), bytes_before);
    ASSERT_EQ(matrix->outputs(), cut_outputs);
    ASSERT_EQ(matrix->inputs(), cut_inputs);
    std::vector<float> back(kept.size());
    matrix->unpack(back.data());
    EXPECT_EQ(widen(back), as_multiplied(kept));

    const std::vector<float> dy = random.normals(rows * cut_outputs);
    std::vector<float> dx(static_cast<size_t>(rows * cut_inputs));
    LinearBackward op;
    op.weight = matrix.get();
    op.parts = 3;
    op.rows = rows;
    op.d_output = dy.data();
    op.d_input = dx.data();
    linear_backward(*stream, op);
    expect_close(dx,
                 reference::linear_backward(as_multiplied(dy), as_multiplied(kept), rows,
                                            cut_outputs, cut_inputs),
                 4e-6, 4e-6);
  }
}

// To the last bit, forward and backward, in depths at which oneDNN adds single rows in another
// order.
TEST_P(LinearTest, RowsDoNotDependOnTheirNeighbours) {
  Random random(9);
  const int64_t width = 130, rows = 200;
  for (const int64_t depth : {96, 768, 3072}) {
    const std::vector<float> w = random.normals(width * depth);
    const auto forward = backend().pack(w.data(), width, depth, 1, GetParam().dtype);
    const auto backward = backend().pack(w.data(), depth, width, 1, GetParam().dtype);
    const std::vector<float> x = random.normals(rows * depth);
    const std::vector<float> before = random.normals(rows * width);
    const auto run = [&](int64_t first, int64_t count) {
      std::vector<float> y(static_cast<size_t>(count * width));
      LinearForward ahead;
      ahead.weight = forward.get();
      ahead.rows = count;
      ahead.input = x.data() + first * depth;
      ahead.output = y.data();
      linear_forward(*stream, ahead);
      std::vector<float> dx(before.begin() + first * width,
                            before.begin() + (first + count) * width);
      LinearBackward back;
      back.weight = backward.get();
      back.rows = count;
      back.d_output = x.data() + first * depth;
      back.d_input = dx.data();
      back.accumulate = true;
      linear_backward(*stream, back);
      return std::make_pair(y, dx);
    };
    const auto all = run(0, rows);
    const auto last = [&](const std::vector<float>& values, int64_t count) {
      return std::vector<float>(values.end() - count * width, values.end());
    };
    for (const int64_t count : {1, 2, 7, 8, 9, 10, 17, 63, 64, 65, 121, 150}) {
      const auto some = run(rows - count, count);
      EXPECT_EQ(some.first, last(all.first, count)) << "forward " << count << " x " << depth;
      EXPECT_EQ(some.second, last(all.second, count)) << "backward " << count << " x " << depth;
    }
  }
}

TEST_P(LinearTest, KernelsAreFewWhateverTheNumbersOfRows) {
  Random random(10);
  cpu::CpuBackend& cpu = static_cast<cpu::CpuBackend&>(backend());
  const size_t before = cpu.products().size();
  const int64_t width = 61;  // a shape of no other test
  const std::vector<float> w = random.normals(width * width);
  const auto matrix = backend().pack(w.data(), width, width, 1, GetParam().dtype);
  const std::vector<float> x = random.normals(300 * width);
  std::vector<float> y(x.size());
  LinearForward op;
  op.weight = matrix.get();
  op.input = x.data();
  op.output = y.data();
  for (op.rows = 1; op.rows <= 300; ++op.rows) linear_forward(*stream, op);
  // 2 to 9 rows, multiples of 8 up to 64, and a single row as two.
  EXPECT_LE(cpu.products().size(), before + 16);
}

TEST(ProductsTest, ForgetsTheShapesNotAskedForTheLongest) {
  cpu::Products products;
  const auto shape = [](int64_t columns) {
    return cpu::ProductShape{
        8, 16, columns, 16, 0, columns, BERTOLOGY_FLOAT32, cpu::Layout2d::kPacked, false, false};
  };
  const auto first = products.find(shape(1));
  const auto second = products.find(shape(2));
  for (int64_t columns = 3; columns <= static_cast<int64_t>(cpu::Products::kCapacity); ++columns)
    products.find(shape(columns));
  EXPECT_EQ(products.find(shape(1)), first);
  products.find(shape(static_cast<int64_t>(cpu::Products::kCapacity) + 1));
  EXPECT_EQ(products.size(), cpu::Products::kCapacity);
  EXPECT_EQ(products.find(shape(1)), first) << "asked for again and gone";
  EXPECT_NE(products.find(shape(2)), second) << "not asked for and kept";
}

INSTANTIATE_TEST_SUITE_P(Devices, LinearTest, ::testing::ValuesIn(device_cases()), case_name);

}  // namespace
}  // namespace bertology::testing
