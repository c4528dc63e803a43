#include "ops/rows.h"

#include "ops/mask_heads.h"
#include "ops/pooling.h"
#include "reference.h"
#include "support.h"

namespace bertology::testing {
namespace {

using reference::Values;

class RowsTest : public ::testing::Test {
 protected:
  std::shared_ptr<Stream> stream = roomy_stream();
  OnDevice device{*stream};
};

TEST_F(RowsTest, GatherAndScatterAreInverse) {
  Random random(1);
  for (const int64_t width : {13, 64, 1500}) {
    const std::vector<float> input = random.normals(40 * width);
    const std::vector<int64_t> index = {3, 39, 0, 17};
    std::vector<float> rows(index.size() * static_cast<size_t>(width));
    gather_rows(*stream, {4, width, device(index), device(input), device(rows)});
    device.sync();
    for (size_t r = 0; r < index.size(); ++r) {
      const auto expected = input.begin() + index[r] * width;
      ASSERT_TRUE(
          std::equal(expected, expected + width, rows.begin() + static_cast<int64_t>(r) * width));
    }
    std::vector<float> output = input;
    scatter_rows(*stream, {4, width, device(index), device(rows), device(output), false});
    device.sync();
    EXPECT_EQ(output, input);
    scatter_rows(*stream, {4, width, device(index), device(rows), device(output), true});
    device.sync();
    for (int64_t t = 0; t < 40; ++t) {
      const bool hit = std::find(index.begin(), index.end(), t) != index.end();
      for (int64_t c = 0; c < width; ++c) {
        const size_t at = static_cast<size_t>(t * width + c);
        ASSERT_EQ(output[at], hit ? 2 * input[at] : input[at]);
      }
    }
  }
}

TEST_F(RowsTest, BroadcastWritesEveryRow) {
  for (const int64_t width : {3, 8, 1100}) {
    const std::vector<float> row = Random(3).normals(width);
    std::vector<float> output(static_cast<size_t>(9 * width));
    broadcast_row(*stream, {9, width, device(row), device(output)});
    device.sync();
    for (int64_t r = 0; r < 9; ++r)
      EXPECT_TRUE(std::equal(row.begin(), row.end(), output.begin() + r * width));
  }
}

TEST_F(RowsTest, MaskedHeadsAreZeroWhateverTheyHad) {
  for (const int64_t head_dim : {1, 5, 64}) {
    const std::vector<float> mask = {1, 0, 0.3f};
    const int64_t width = 3 * head_dim;
    std::vector<float> input = Random(5).normals(7 * width);
    input[static_cast<size_t>(head_dim)] = std::nanf("");  // of the head without
    std::vector<float> output(input.size());
    mask_heads(*stream, {7, 3, head_dim, device(mask), device(input), device(output)});
    device.sync();
    for (size_t i = 0; i < input.size(); ++i) {
      const float factor = mask[i % static_cast<size_t>(width) / static_cast<size_t>(head_dim)];
      ASSERT_EQ(output[i], factor == 0 ? 0 : factor * input[i]) << "head_dim " << head_dim;
    }
  }
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
  const Packed packed({1, 37, 9});
  for (const int64_t width : {19, 8})
    for (const PoolingCase kind :
         {PoolingCase{PooledRows::kFirst, false}, PoolingCase{PooledRows::kFirst, true},
          PoolingCase{PooledRows::kLast, false}, PoolingCase{PooledRows::kLast, true},
          PoolingCase{PooledRows::kMean, false}, PoolingCase{PooledRows::kMean, true}}) {
      const std::vector<float> input = random.normals(packed.offsets.back() * width);
      const std::vector<float> d_output = random.normals(3 * width);
      std::vector<float> output(static_cast<size_t>(3 * width)), lengths(3),
          d_input(input.size(), -9);
      pooling_forward(*stream, {packed.sequences(device), width, kind.pooled, kind.normalize,
                                device(input), device(output), device(lengths)});
      device.sync();
      expect_close(output, pooled(widen(input), packed, width, kind), 1e-6);
      pooling_backward(
          *stream, {packed.sequences(device), width, kind.pooled, kind.normalize, device(d_output),
                    device(output), device(lengths), device(d_input)});
      device.sync();
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
  pooling_forward(*stream, {packed.sequences(device), 4, PooledRows::kMean, true, device(input),
                            device(output), device(lengths)});
  device.sync();
  EXPECT_EQ(output, std::vector<float>(4, 0.0f));
}

}  // namespace
}  // namespace bertology::testing
