#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/kernels/kernels.h"
#include "support.h"

namespace bertology::testing {
namespace {

const cpu::Kernels& kernels() {
  static const Isa isa = choose_isa().isa;
  return cpu::kernels(isa);
}

template <class Element>
using Multiply = void (*)(const cpu::PackedProduct<Element>&);

/// Products of float32 matrices in blocks.
struct Blocks {
  using Element = float;
  static constexpr DType kDType = BERTOLOGY_FLOAT32;
  static bool there() { return true; }
  static Multiply<Element> multiply() { return kernels().multiply; }
  static int64_t stride(int64_t depth) { return depth; }
  static int64_t room(int64_t rows) { return rows; }
  static Element element(float x) { return x; }
  static std::vector<Element> pack(const cpu::PlainMatrix& plain) {
    std::vector<Element> packed(
        static_cast<size_t>(kernels().packed_floats(plain.depth, plain.columns)));
    kernels().pack(plain, packed.data());
    return packed;
  }
  static void unpack(const std::vector<Element>& packed, const cpu::PlainMatrix& plain) {
    kernels().unpack(packed.data(), plain);
  }
};

/// Products of bfloat16 matrices by tiles.
struct Tiles {
  using Element = uint16_t;
  static constexpr DType kDType = BERTOLOGY_BFLOAT16;
  static bool there() { return choose_isa().isa == Isa::kAmx; }
  static Multiply<Element> multiply() { return kernels().multiply_tiles; }
  static int64_t stride(int64_t depth) {
    return (depth + cpu::kTileDepth - 1) / cpu::kTileDepth * cpu::kTileDepth;
  }
  static int64_t room(int64_t rows) { return rows + cpu::kRowsBehindTiles; }
  static Element element(float x) {
    uint16_t bits;
    kernels().to_bfloat16(&x, &bits, 1);
    return bits;
  }
  static std::vector<Element> pack(const cpu::PlainMatrix& plain) {
    // What must be zero is written, too.
    std::vector<Element> packed(
        static_cast<size_t>(kernels().tiled_elements(plain.depth, plain.columns)), 0x7fc0);
    kernels().pack_tiles(plain, packed.data());
    return packed;
  }
  static void unpack(const std::vector<Element>& packed, const cpu::PlainMatrix& plain) {
    kernels().unpack_tiles(packed.data(), plain);
  }
};

/// Elements whose end is the end of what may be read and written: tools do not see what tiles do.
template <class Element>
class Guarded {
 public:
  explicit Guarded(const std::vector<Element>& values) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = values.size() * sizeof(Element);
    const size_t room = (bytes + page - 1) / page * page;
    size_ = room + page;
    memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory_, MAP_FAILED);
    EXPECT_EQ(mprotect(static_cast<char*>(memory_) + room, page, PROT_NONE), 0);
    data_ = reinterpret_cast<Element*>(static_cast<char*>(memory_) + room - bytes);
    std::memcpy(data_, values.data(), bytes);
  }
  ~Guarded() { munmap(memory_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  Element* data() const { return data_; }

 private:
  void* memory_;
  size_t size_;
  Element* data_;
};

template <class Layout>
class PackedProductTest : public ::testing::Test {
 protected:
  using Element = typename Layout::Element;

  void SetUp() override {
    if (!Layout::there()) GTEST_SKIP() << "the instruction set has no tiles";
  }

  /// Rows as the product reads them. Those that it reads but does not need are not numbers.
  static std::vector<Element> inputs(const std::vector<float>& rows, int64_t depth) {
    const int64_t count = static_cast<int64_t>(rows.size()) / depth;
    const int64_t stride = Layout::stride(depth);
    std::vector<Element> result(static_cast<size_t>(Layout::room(count) * stride),
                                Layout::element(std::nanf("")));
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t k = 0; k < stride; ++k) {
        const float x = k < depth ? rows[static_cast<size_t>(r * depth + k)] : 0;
        result[static_cast<size_t>(r * stride + k)] = Layout::element(x);
      }
    }
    return result;
  }

  static std::vector<float> rounded_all(std::vector<float> values) {
    for (float& value : values) value = static_cast<float>(rounded(value, Layout::kDType));
    return values;
  }
};

using Layouts = ::testing::Types<Blocks, Tiles>;
TYPED_TEST_SUITE(PackedProductTest, Layouts);

struct Shape {
  int64_t rows, depth, columns;
};

// Less than a tile, a step and a block; several of them with a rest; depths that are cut in pieces.
const std::vector<Shape> kShapes = {{1, 1, 1},     {2, 3, 5},     {6, 64, 64},     {7, 65, 63},
                                    {13, 384, 70}, {4, 1025, 64}, {11, 2050, 130}, {16, 32, 32},
                                    {17, 33, 17},  {32, 96, 48},  {77, 1100, 33}};

TYPED_TEST(PackedProductTest, IsNoWorseThanAPlainLoop) {
  Random random(1);
  for (const Shape& s : kShapes) {
    for (const bool accumulate : {false, true}) {
      const std::vector<float> a = this->rounded_all(random.normals(s.rows * s.depth));
      const std::vector<float> w = this->rounded_all(random.normals(s.columns * s.depth));
      const std::vector<float> bias = random.normals(s.columns);
      const auto inputs = this->inputs(a, s.depth);
      const auto b = TypeParam::pack({s.depth, s.columns, w.data(), 1, s.depth});
      const int64_t stride = s.columns + 3;
      std::vector<float> c = random.normals(s.rows * stride);
      const std::vector<float> before = c;
      TypeParam::multiply()({s.rows, s.depth, s.columns, inputs.data(), TypeParam::stride(s.depth),
                             b.data(), bias.data(), c.data(), stride, accumulate,
                             accumulate ? b.data() : nullptr});
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

TYPED_TEST(PackedProductTest, RowsDoNotDependOnTheirNeighbours) {
  Random random(2);
  const int64_t depth = 1100;
  const int64_t columns = 70;
  const int64_t rows = 50;
  const std::vector<float> a = random.normals(rows * depth);
  const std::vector<float> w = random.normals(columns * depth);
  const auto inputs = this->inputs(a, depth);
  const auto b = TypeParam::pack({depth, columns, w.data(), 1, depth});
  const auto multiply = [&](int64_t first, int64_t count) {
    std::vector<float> c(static_cast<size_t>(count * columns));
    const int64_t stride = TypeParam::stride(depth);
    TypeParam::multiply()({count, depth, columns, inputs.data() + first * stride, stride, b.data(),
                           nullptr, c.data(), columns, false, nullptr});
    return c;
  };
  const std::vector<float> all = multiply(0, rows);
  for (int64_t count = 1; count <= rows; ++count) {
    const std::vector<float> some = multiply(rows - count, count);
    EXPECT_TRUE(std::equal(some.begin(), some.end(), all.end() - count * columns)) << count;
  }
}

TYPED_TEST(PackedProductTest, TouchesNothingBehindItsOperands) {
  Random random(4);
  for (const int64_t rows : {1, 7, 16, 17, 33, 40}) {
    for (const int64_t depth : {1, 33, 64, 1100}) {
      for (const int64_t columns : {1, 16, 31, 64, 65}) {
        const std::vector<float> w = random.normals(columns * depth);
        const std::vector<float> start(static_cast<size_t>(rows * columns));
        const Guarded a(this->inputs(random.normals(rows * depth), depth));
        const Guarded b(TypeParam::pack({depth, columns, w.data(), 1, depth}));
        const Guarded bias(random.normals(columns));
        const Guarded c(start);
        const auto multiply = [&](bool accumulate) {
          TypeParam::multiply()({rows, depth, columns, a.data(), TypeParam::stride(depth), b.data(),
                                 bias.data(), c.data(), columns, accumulate, b.data()});
        };
        multiply(false);
        const std::vector<float> once(c.data(), c.data() + rows * columns);
        multiply(true);
        for (int64_t i = 0; i < rows * columns; ++i) {
          const float biased = once[static_cast<size_t>(i)];
          const float sum = c.data()[i] - biased + bias.data()[i % columns];
          ASSERT_NEAR(sum, biased, 1e-4 * std::sqrt(static_cast<double>(depth)));
        }
      }
    }
  }
}

TYPED_TEST(PackedProductTest, UnpackGivesBackWhatWasPackedByRowsOrByColumns) {
  Random random(3);
  for (const Shape& s : kShapes) {
    const std::vector<float> values = this->rounded_all(random.normals(s.depth * s.columns));
    for (const bool by_columns : {false, true}) {
      const int64_t depth_stride = by_columns ? 1 : s.columns;
      const int64_t column_stride = by_columns ? s.depth : 1;
      const auto b =
          TypeParam::pack({s.depth, s.columns, values.data(), depth_stride, column_stride});
      std::vector<float> back(values.size());
      TypeParam::unpack(b, {s.depth, s.columns, back.data(), depth_stride, column_stride});
      EXPECT_EQ(back, values);
    }
  }
}

}  // namespace
}  // namespace bertology::testing
