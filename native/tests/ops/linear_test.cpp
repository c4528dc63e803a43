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

  /// Whether the sums of a row are the same whatever other rows there are. cuBLAS picks its kernels
  /// by the number of rows.
  static bool rows_are_independent() {
    return backend().description().find("matrix products: cuBLAS") == std::string::npos;
  }

  static std::vector<float> last_rows(const std::vector<float>& values, int64_t count,
                                      int64_t width) {
    return std::vector<float>(values.end() - count * width, values.end());
  }
};

/// Of a sum whose inputs are exact, and of what is made of it. The tensor cores of CUDA devices
/// drop bits that a rounded sum would keep.
const double kSumError = kFloat32Slack * 4e-6;

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

      std::vector<float> alone(sums.size()), y(sums.size()), pre(sums.size());
      LinearForward op;
      op.weight = matrix.get();
      op.parts = s.parts;
      op.bias = device(b);
      op.activation = activation;
      op.rows = s.rows;
      op.input = device(x);
      op.output = device(alone);
      linear_forward(*stream, op);
      op.output = device(y);
      op.preactivation = device(pre);
      linear_forward(*stream, op);
      device.sync();
      expect_close(alone, expected, kSumError, kSumError, "without preactivation");
      expect_close(y, expected, kSumError, kSumError, "output");
      expect_close(pre, sums, kSumError, kSumError, "preactivation");
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
  op.bias = device(b);
  op.rows = rows;
  op.input = device(x);
  op.output = device(y);
  op.output_stride = stride;
  linear_forward(*stream, op);
  device.sync();
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
      op.d_output = device(dy);
      op.d_input = device(dx);
      op.accumulate = accumulate;
      linear_backward(*stream, op);
      device.sync();
      expect_close(dx, expected, kSumError, kSumError);
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
  op.d_output = device(dy);
  op.d_input = device(dx);
  linear_backward(*stream, op);
  device.sync();
  expect_close(dx,
               reference::linear_backward(as_multiplied(dy), as_multiplied(last_two), rows,
                                          2 * part, inputs),
               kSumError, kSumError);
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
    op.d_output = device(dy);
    op.d_input = device(du);
    op.activation = activation;
    op.preactivation = device(u);
    linear_backward(*stream, op);
    device.sync();
    expect_close(du, expected, kSumError / 2, kSumError / 2);
  }
}

TEST_P(LinearTest, BorrowedMatrixMultipliesWhereItIs) {
  Random random(6);
  const int64_t rows = 9, outputs = 301, inputs = 24;
  const std::vector<float> x = random.normals(rows * inputs);
  const std::vector<float> w = random.normals(outputs * inputs);
  const auto matrix = backend().borrow(device(w), outputs, inputs, GetParam().dtype);
  std::vector<float> y(static_cast<size_t>(rows * outputs)), dx(static_cast<size_t>(rows * inputs));
  LinearForward forward;
  forward.weight = matrix.get();
  forward.rows = rows;
  forward.input = device(x);
  forward.output = device(y);
  linear_forward(*stream, forward);
  LinearBackward backward;
  backward.weight = matrix.get();
  backward.rows = rows;
  backward.d_output = device(y);
  backward.d_input = device(dx);
  linear_backward(*stream, backward);
  device.sync();
  expect_close(y, reference::linear(as_multiplied(x), as_multiplied(w), {}, rows, outputs, inputs),
               kSumError, kSumError);
  expect_close(
      dx, reference::linear_backward(as_multiplied(y), as_multiplied(w), rows, outputs, inputs),
      kSumError, kSumError);
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
      op.d_output = device(dy);
      op.d_input = device(dx);
      linear_backward(*stream, op);
      device.sync();
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
    op.d_output = device(dy);
    op.d_input = device(dx);
    linear_backward(*stream, op);
    device.sync();
    expect_close(dx,
                 reference::linear_backward(as_multiplied(dy), as_multiplied(kept), rows,
                                            cut_outputs, cut_inputs),
                 kSumError, kSumError);
  }
}

// Cuts that were prepared together are made one after the other.
TEST_P(LinearTest, CutsShareWhatTheyNeed) {
  Random random(12);
  struct Case {
    int64_t outputs, inputs;
    std::vector<int64_t> kept_outputs, kept_inputs;
  };
  const std::vector<Case> cases = {{6, 40, {1, 4}, {0, 3, 5, 39}},
                                   {300, 20, {0, 2, 150, 298, 299}, {7, 8, 9, 19}},
                                   {9, 700, {8}, {1}}};
  std::vector<std::vector<float>> weights;
  std::vector<std::unique_ptr<PackedMatrix>> matrices;
  std::vector<std::unique_ptr<PackedMatrix::Cut>> cuts;
  for (const Case& c : cases) {
    weights.push_back(random.normals(c.outputs * c.inputs));
    matrices.push_back(
        backend().pack(weights.back().data(), c.outputs, c.inputs, 1, GetParam().dtype));
    cuts.push_back(matrices.back()->prepare_cut(c.kept_outputs, c.kept_inputs));
  }
  std::vector<float> scratch(9000);
  for (const auto& cut : cuts) cut->commit(scratch.data());
  cuts.clear();
  for (size_t i = 0; i < cases.size(); ++i) {
    std::vector<float> kept;
    for (const int64_t row : cases[i].kept_outputs) {
      for (const int64_t column : cases[i].kept_inputs)
        kept.push_back(weights[i][static_cast<size_t>(row * cases[i].inputs + column)]);
    }
    std::vector<float> back(kept.size());
    matrices[i]->unpack(back.data());
    EXPECT_EQ(widen(back), as_multiplied(kept)) << "matrix " << i;
  }
}

// To the last bit, forward and backward, in depths at which oneDNN adds single rows of
// bfloat16 in another order.
TEST_P(LinearTest, RowsDoNotDependOnTheirNeighbours) {
  if (!rows_are_independent()) GTEST_SKIP() << "cuBLAS picks its kernels by the number of rows";
  Random random(9);
  const int64_t width = 130, rows = 200;
  const std::vector<int64_t> depths =
      on_cpu() ? std::vector<int64_t>{96, 768, 3072} : std::vector<int64_t>{96, 500};
  for (const int64_t depth : depths) {
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
      ahead.input = device(x) + first * depth;
      ahead.output = device(y);
      linear_forward(*stream, ahead);
      std::vector<float> dx(before.begin() + first * width,
                            before.begin() + (first + count) * width);
      LinearBackward back;
      back.weight = backward.get();
      back.rows = count;
      back.d_output = device(x) + first * depth;
      back.d_input = device(dx);
      back.accumulate = true;
      linear_backward(*stream, back);
      device.sync();
      return std::make_pair(y, dx);
    };
    const auto all = run(0, rows);
    for (const int64_t count : {1, 2, 7, 8, 9, 10, 17, 63, 64, 65, 121, 150}) {
      const auto some = run(rows - count, count);
      EXPECT_EQ(some.first, last_rows(all.first, count, width))
          << "forward " << count << " x " << depth;
      EXPECT_EQ(some.second, last_rows(all.second, count, width))
          << "backward " << count << " x " << depth;
    }
  }
}

// Enough of them that a device takes its largest tiles. The last rows alone have smaller ones.
TEST_P(LinearTest, LargeProductsAgreeWithReferenceAndWithSmallOnes) {
  if (on_cpu()) GTEST_SKIP() << "the CPU has one size of blocks";
  Random random(11);
  const int64_t rows = 1290, width = 1800, depth = 100, some = 65;
  const std::vector<float> x = random.normals(rows * depth);
  const std::vector<float> w = random.normals(width * depth, 0.3f);
  const std::vector<float> bias = random.normals(width);
  const std::vector<float> inputs = random.normals(rows * width);
  const auto forward = backend().pack(w.data(), width, depth, 1, GetParam().dtype);
  const auto backward = backend().pack(w.data(), depth, width, 1, GetParam().dtype);
  const auto run = [&](int64_t first, int64_t count) {
    std::vector<float> y(static_cast<size_t>(count * width)), dx(y.size());
    LinearForward ahead;
    ahead.weight = forward.get();
    ahead.bias = device(bias);
    ahead.activation = Activation::kRelu;
    ahead.rows = count;
    ahead.input = device(x) + first * depth;
    ahead.output = device(y);
    linear_forward(*stream, ahead);
    LinearBackward back;
    back.weight = backward.get();
    back.rows = count;
    back.d_output = device(x) + first * depth;
    back.d_input = device(dx);
    back.activation = Activation::kRelu;
    back.preactivation = device(inputs) + first * width;
    linear_backward(*stream, back);
    device.sync();
    return std::make_pair(y, dx);
  };
  const auto all = run(0, rows);
  Values y = reference::linear(as_multiplied(x), as_multiplied(w), widen(bias), rows, width, depth);
  for (double& value : y) value = reference::activate(Activation::kRelu, value);
  expect_close(all.first, y, kSumError, kSumError, "forward");
  Values dx = reference::linear_backward(as_multiplied(x), as_multiplied(w), rows, depth, width);
  for (size_t i = 0; i < dx.size(); ++i)
    dx[i] *= reference::activation_slope(Activation::kRelu, static_cast<double>(inputs[i]));
  expect_close(all.second, dx, kSumError, kSumError, "backward");
  if (!rows_are_independent()) return;
  const auto last = run(rows - some, some);
  EXPECT_EQ(last.first, last_rows(all.first, some, width));
  EXPECT_EQ(last.second, last_rows(all.second, some, width));
}

TEST_P(LinearTest, KernelsAreFewWhateverTheNumbersOfRows) {
  if (!on_cpu()) GTEST_SKIP() << "about the kernels that oneDNN compiles";
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
  op.input = device(x);
  op.output = device(y);
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
