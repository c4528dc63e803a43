#include "ops/rows.h"

#include "ops/pooling.h"
#include "reference.h"
#include "support.h"

namespace bertology::testing {
namespace {

using reference::Values;

class RowsTest : public ::testing::Test {
 protected:
  std::shared_ptr<Stream> stream = backend().stream();
};

TEST_F(RowsTest, GatherAndScatterAreInverse) {
  Random random(1);
  const int64_t width = 13;
  const std::vector<float> input = random.normals(40 * width);
  const std::vector<int64_t> index = {3, 39, 0, 17};
  std::vector<float> rows(index.size() * width);
  gather_rows(*stream, {4, width, index.data(), input.data(), rows.data()});
  for (size_t r = 0; r < index.size(); ++r) {
    for (int64_t c = 0; c < width; ++c) {
      ASSERT_EQ(rows[r * width + static_cast<size_t>(c)],
                input[static_cast<size_t>(index[r] * width + c)]);
    }
  }
  std::vector<float> output = input;
  scatter_rows(*stream, {4, width, index.data(), rows.data(), output.data(), false});
  EXPECT_EQ(output, input);
  scatter_rows(*stream, {4, width, index.data(), rows.data(), output.data(), true});
  for (int64_t t = 0; t < 40; ++t) {
    const bool hit = std::find(index.begin(), index.end(), t) != index.end();
    for (int64_t c = 0; c < width; ++c) {
      const size_t at = static_cast<size_t>(t * width + c);
      ASSERT_EQ(output[at], hit ? 2 * input[at] : input[at]);
    }
  }
}

TEST_F(RowsTest, BroadcastWritesEveryRow) {
  const std::vector<float> row = {1, 2, 3};
  std::vector<float> output(9);
  broadcast_row(*stream, {3, 3, row.data(), output.data()});
  EXPECT_EQ(output, (std::vector<float>{1, 2, 3, 1, 2, 3, 1, 2, 3}));
}

struct PoolingCase {
  PooledRows pooled;
  bool normalize;
};

Values pooled(const Values& input, const Packed& packed, int64_t width, PoolingCase kind) {
  Values result;
  for (size_t b = 0; b + 1 < packed.offsets.size(); ++b) {
    const bool mean = kind.pooled == PooledRows::kMean;
    const int64_t rows = mean ? packed.offsets[b + 1] - packed.offsets[b] : 1;
    const int64_t first =
        kind.pooled == PooledRows::kLast ? packed.offsets[b + 1] - 1 : packed.offsets[b];
    Values vector(static_cast<size_t>(width), 0.0);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < width; ++c) {
        vector[static_cast<size_t>(c)] +=
            input[static_cast<size_t>((first + r) * width + c)] / static_cast<double>(rows);
      }
    }
    double length = 0;
    for (const double value : vector) length += value * value;
    for (const double value : vector)
      result.push_back(kind.normalize ? value / std::sqrt(length) : value);
  }
  return result;
}

TEST_F(RowsTest, PoolingAgreesWithReferenceAndFiniteDifferences) {
  Random random(2);
  const Packed packed({1, 4, 2});
  const int64_t width = 19;
  for (const PoolingCase kind :
       {PoolingCase{PooledRows::kFirst, false}, PoolingCase{PooledRows::kFirst, true},
        PoolingCase{PooledRows::kLast, false}, PoolingCase{PooledRows::kLast, true},
        PoolingCase{PooledRows::kMean, false}, PoolingCase{PooledRows::kMean, true}}) {
    const std::vector<float> input = random.normals(packed.offsets.back() * width);
    const std::vector<float> d_output = random.normals(3 * width);
    std::vector<float> output(static_cast<size_t>(3 * width)), lengths(3),
        d_input(input.size(), -9);
    pooling_forward(*stream, {packed.sequences(), width, kind.pooled, kind.normalize, input.data(),
                              output.data(), lengths.data()});
    expect_close(output, pooled(widen(input), packed, width, kind), 1e-6);
    pooling_backward(*stream, {packed.sequences(), width, kind.pooled, kind.normalize,
                               d_output.data(), output.data(), lengths.data(), d_input.data()});
    const Values expected = finite_differences(widen(input), 1e-5, [&](const Values& at) {
      const Values y = pooled(at, packed, width, kind);
      double loss = 0;
      for (size_t i = 0; i < y.size(); ++i) loss += d_output[i] * y[i];
      return loss;
    });
    expect_close(d_input, expected, 2e-6);
  }
}

TEST_F(RowsTest, NormalisingAVectorOfZerosLeavesIt) {
  const Packed packed({2});
  const std::vector<float> input(8, 0.0f);
  std::vector<float> output(4, 1.0f), lengths(1);
  pooling_forward(*stream, {packed.sequences(), 4, PooledRows::kMean, true, input.data(),
                            output.data(), lengths.data()});
  EXPECT_EQ(output, std::vector<float>(4, 0.0f));
}

}  // namespace
}  // namespace bertology::testing
