// Products of token rows by weight matrices, with bias and activation while the result is still in
// the cache.
#include "ops/linear.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "cpu/matrix.h"
#include "cpu/stream.h"

namespace bertology::cpu {
namespace {

// Rows of a block at least, and at most in bfloat16. The more there are, the less often the weights
// come from the outer caches; a block's result of one panel is to stay in the second-level cache
// for the epilogue. Our own float32 product does not wait for weights: it takes the least, and more
// tasks even out the load. Tiles multiply faster than weights come, whatever is fetched ahead.
constexpr int64_t kLeastBlockRows = 64;
constexpr int64_t kMostBlockRows = 256;

// oneDNN compiles a kernel for each number of rows and keeps it in half a megabyte. So a block is
// one product of a multiple of this many rows, and one of the 2 to 9 rows that remain.
constexpr int64_t kRowStep = 8;

// Tasks for each thread that a product is cut into, if it has that many panels: the last ones even
// out the load.
constexpr int64_t kTasksPerThread = 4;

constexpr int64_t align(int64_t bytes) { return (bytes + 63) / 64 * 64; }

/// Rows that a task takes at most: as many as leave every thread its tasks.
int64_t rows_of_block(int64_t rows, int64_t panels, int threads, Layout2d layout) {
  if (layout == Layout2d::kBlocks) return kLeastBlockRows;
  return std::clamp(rows * panels / (kTasksPerThread * threads), kLeastBlockRows, kMostBlockRows);
}

/// The products that a block of rows is multiplied by: the second may have none.
std::array<int64_t, 2> pieces(int64_t rows) {
  const int64_t rest = rows % kRowStep;
  if (rest == 0 || rows <= kRowStep + 1) return {rows, 0};
  if (rest == 1) return {rows - kRowStep - 1, kRowStep + 1};
  return {rows - rest, rest};
}

/// How the work divides: blocks of rows, which differ by a step, and the last one by a rest, times
/// groups of panels.
struct Division {
  Division(int64_t rows, int64_t panels, int threads, Layout2d layout)
      : rows_(rows), panels_(panels), threads_(threads), steps_((rows + kRowStep - 1) / kRowStep) {
    const int64_t most_rows = rows_of_block(rows, panels, threads, layout);
    blocks_ = (rows + most_rows - 1) / most_rows;
    const int64_t wanted = kTasksPerThread * threads;
    if (blocks_ >= wanted) return;
    const int64_t groups = std::min(panels, (wanted + blocks_ - 1) / blocks_);
    const int64_t panels_of_group = panels / groups;  // of each the same, if that is possible
    groups_ = (panels + panels_of_group - 1) / panels_of_group;
  }

  struct Task {
    int64_t first_row, rows, first_panel, last_panel;
  };
  int64_t tasks() const { return blocks_ * groups_; }
  Task operator[](int64_t task) const {
    const int64_t block = task / groups_;
    const int64_t group = task % groups_;
    const int64_t row = first_row(block);
    return {row, std::min(rows_, first_row(block + 1)) - row, group * panels_ / groups_,
            (group + 1) * panels_ / groups_};
  }

  /// The first panel of the task that the thread of this one is likely to take next; -1 if there
  /// is none.
  int64_t panel_after(int64_t task) const {
    const int64_t next = task + threads_;
    return next < tasks() ? next % groups_ * panels_ / groups_ : -1;
  }

  /// The numbers of rows that products have; 0 where there are fewer than four.
  std::array<int64_t, 4> row_counts() const {
    const auto [first, second] = pieces(rows_ - first_row(blocks_ - 1));
    std::array<int64_t, 4> counts = {0, 0, first, second};
    if (blocks_ > 1) counts[0] = steps_ / blocks_ * kRowStep;
    if (blocks_ > 1 && steps_ % blocks_ != 0) counts[1] = counts[0] + kRowStep;
    return counts;
  }

 private:
  int64_t first_row(int64_t block) const { return block * steps_ / blocks_ * kRowStep; }

  int64_t rows_;
  int64_t panels_;
  int64_t threads_;
  int64_t steps_;
  int64_t blocks_ = 1;
  int64_t groups_ = 1;
};

/// The products of an operation, for each panel and number of rows.
class PanelProducts {
 public:
  PanelProducts(CpuBackend& backend, const Division& division)
      : kernels_(backend.kernels()),
        products_(backend.products()),
        counts_(division.row_counts()) {}

  /// Adds the next panel. shape.rows is set here.
  void add(ProductShape shape) {
    shapes_.push_back(shape);
    if (is_ours(shape.b_layout)) return;
    for (size_t i = 0; i < counts_.size(); ++i) {
      made_[i].push_back(nullptr);
      if (counts_[i] == 0) continue;
      ProductShape of_count = shape;
      of_count.rows = counts_[i];
      if (counts_[i] == 1) {
        of_count.rows = 2;
        of_count.a_stride = shape.depth;
        of_count.c_stride = shape.columns;
        single_bytes_ = std::max(single_bytes_, input_bytes(shape) + output_bytes(shape));
      }
      made_[i].back() = products_.find(of_count);
      scratch_bytes_ = std::max(scratch_bytes_, align(made_[i].back()->scratch_bytes()));
    }
  }

  /// Multiplies a task's rows by a panel. next: the panel that this thread is likely to want next.
  void execute(int64_t panel, int64_t rows, const void* a, const void* b, const float* bias,
               float* c, void* scratch, const void* next) const {
    const ProductShape& shape = shapes_[static_cast<size_t>(panel)];
    if (shape.b_layout == Layout2d::kBlocks)
      return kernels_.multiply(ours<float>(shape, rows, a, b, bias, c, next));
    if (shape.b_layout == Layout2d::kTiles)
      return kernels_.multiply_tiles(ours<uint16_t>(shape, rows, a, b, bias, c, next));
    if (rows == 1) return execute_single(panel, a, b, bias, c, scratch);
    for (const int64_t count : pieces(rows)) {
      if (count == 0) break;
      get(panel, count).execute(a, b, bias, c, scratch);
      a = static_cast<const char*>(a) + count * shape.a_stride * size_of(shape.dtype);
      c += count * shape.c_stride;
    }
  }

  int64_t scratch_bytes() const { return scratch_bytes_ + single_bytes_; }

 private:
  template <class Element>
  static PackedProduct<Element> ours(const ProductShape& s, int64_t rows, const void* a,
                                     const void* b, const float* bias, float* c, const void* next) {
    return {rows,
            s.depth,
            s.columns,
            static_cast<const Element*>(a),
            s.a_stride,
            static_cast<const Element*>(b),
            bias,
            c,
            s.c_stride,
            s.accumulate,
            static_cast<const Element*>(next)};
  }

  static int64_t input_bytes(const ProductShape& s) {
    return align(2 * s.depth * size_of(s.dtype));
  }
  static int64_t output_bytes(const ProductShape& s) {
    return align(2 * s.columns * static_cast<int64_t>(sizeof(float)));
  }

  const Product& get(int64_t panel, int64_t rows) const {
    const size_t i =
        static_cast<size_t>(std::find(counts_.begin(), counts_.end(), rows) - counts_.begin());
    return *made_[i][static_cast<size_t>(panel)];
  }

  /// One row as two: for a single one oneDNN adds in another order, and an example's numbers would
  /// depend on how many others are in its batch.
  void execute_single(int64_t panel, const void* a, const void* b, const float* bias, float* c,
                      void* scratch) const {
    const ProductShape& shape = shapes_[static_cast<size_t>(panel)];
    const size_t in_bytes = static_cast<size_t>(shape.depth * size_of(shape.dtype));
    const size_t out_bytes = static_cast<size_t>(shape.columns) * sizeof(float);
    char* twice = static_cast<char*>(scratch) + scratch_bytes_;
    float* result = reinterpret_cast<float*>(twice + input_bytes(shape));
    for (int copy = 0; copy < 2; ++copy) {
      std::memcpy(twice + copy * in_bytes, a, in_bytes);
      if (shape.accumulate) std::memcpy(result + copy * shape.columns, c, out_bytes);
    }
    get(panel, 1).execute(twice, b, bias, result, scratch);
    std::memcpy(c, result, out_bytes);
  }

  const Kernels& kernels_;
  Products& products_;
  const std::array<int64_t, 4> counts_;
  std::vector<ProductShape> shapes_;
  std::array<std::vector<std::shared_ptr<const Product>>, 4> made_;
  int64_t scratch_bytes_ = 0;
  int64_t single_bytes_ = 0;
};

const Panel* first_of_part(const std::vector<Panel>& panels, int part) {
  return &*std::find_if(panels.begin(), panels.end(),
                        [&](const Panel& panel) { return panel.part == part; });
}

int64_t panels_of_parts(const std::vector<Panel>& panels, int first, int count) {
  return std::count_if(panels.begin(), panels.end(), [&](const Panel& panel) {
    return panel.part >= first && panel.part < first + count;
  });
}

}  // namespace

/// Rows as products by a matrix read them: themselves, or all of them rounded once, without a
/// stride; each row [parts, columns of a part].
ProductInputs CpuStream::product_inputs(DType dtype, Layout2d layout, const float* rows,
                                        int64_t row_count, int64_t parts, int64_t columns,
                                        int64_t stride) {
  if (dtype == BERTOLOGY_FLOAT32) return {rows, stride, columns, sizeof(float)};
  const bool tiles = layout == Layout2d::kTiles;
  const int64_t padded = tiles ? (columns + kTileDepth - 1) / kTileDepth * kTileDepth : columns;
  int64_t width = parts * padded;
  // The rows of a tile would meet in one set of the first-level cache.
  if (tiles && width % 512 == 0) width += kTileDepth;
  const int64_t room = row_count + (tiles ? kRowsBehindTiles : 0);
  uint16_t* rounded = reinterpret_cast<uint16_t*>(
      rounded_memory_.reserve((room * width + 1) / 2, "the rounded inputs of a product"));
  backend_.parallel_rows(row_count, width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t part = 0; part < parts; ++part) {
        uint16_t* to = rounded + r * width + part * padded;
        kernels().to_bfloat16(rows + r * stride + part * columns, to, columns);
        std::fill(to + columns, to + padded, uint16_t{0});
      }
    }
  });
  return {rounded, width, padded, sizeof(uint16_t)};
}

void CpuStream::linear_forward(const LinearForward& op) {
  const Matrix& matrix = static_cast<const Matrix&>(*op.weight);
  const int64_t inputs = matrix.inputs();
  const int64_t part_outputs = matrix.part_outputs();
  const Panel* panels = first_of_part(matrix.forward(), op.first_part);
  const int64_t panel_count = panels_of_parts(matrix.forward(), op.first_part, op.parts);
  const Division division(op.rows, panel_count, backend_.threads(), panels->layout);
  const ProductInputs input =
      product_inputs(matrix.dtype(), panels->layout, op.input, op.rows, 1, inputs, inputs);

  PanelProducts products(backend_, division);
  for (int64_t p = 0; p < panel_count; ++p) {
    products.add({0, inputs, panels[p].columns, input.stride, panels[p].stride, op.output_stride,
                  matrix.dtype(), panels[p].layout, op.bias != nullptr, false});
  }
  reserve_scratch(products.scratch_bytes());

  float* target = op.preactivation != nullptr ? op.preactivation : op.output;
  backend_.parallel(division.tasks(), [&](int64_t task, int worker) {
    const auto [row, rows, first_panel, last_panel] = division[task];
    char* space = static_cast<char*>(scratch(worker));
    const void* a = input.at(row, 0);
    for (int64_t p = first_panel; p < last_panel; ++p) {
      const Panel& panel = panels[p];
      const int64_t column = panel.part * part_outputs + panel.first;  // of the whole matrix
      const int64_t place = row * op.output_stride + column - op.first_part * part_outputs;
      const float* bias = op.bias == nullptr ? nullptr : op.bias + column;
      const int64_t next = p + 1 < last_panel ? p + 1 : division.panel_after(task);
      products.execute(p, rows, a, panel.data, bias, target + place, space,
                       next < 0 ? nullptr : panels[next].data);
      if (op.activation == Activation::kNone && target == op.output) continue;
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = place + r * op.output_stride;
        kernels().activate(op.activation, target + at, op.output + at, panel.columns);
      }
    }
  });
}

void CpuStream::linear_backward(const LinearBackward& op) {
  const Matrix& matrix = static_cast<const Matrix&>(*op.weight);
  const int64_t inputs = matrix.inputs();
  const int64_t part_outputs = matrix.part_outputs();
  if (part_outputs == 0) {
    if (!op.accumulate) zero(op.d_input, op.rows * inputs);
    return;
  }
  const Panel* panels = first_of_part(matrix.backward(), op.first_part);
  const int64_t part_panels = panels_of_parts(matrix.backward(), op.first_part, 1);
  const Division division(op.rows, part_panels, backend_.threads(), panels->layout);
  const ProductInputs d_output =
      product_inputs(matrix.dtype(), panels->layout, op.d_output, op.rows, op.parts, part_outputs,
                     op.d_output_stride);

  // Of each panel of inputs one product a part: the first may overwrite, the others add.
  PanelProducts products(backend_, division);
  for (int part = 0; part < op.parts; ++part) {
    for (int64_t p = 0; p < part_panels; ++p) {
      const Panel& panel = panels[part * part_panels + p];
      products.add({0, part_outputs, panel.columns, d_output.stride, panel.stride, inputs,
                    matrix.dtype(), panel.layout, false, op.accumulate || part > 0});
    }
  }
  reserve_scratch(products.scratch_bytes());

  backend_.parallel(division.tasks(), [&](int64_t task, int worker) {
    const auto [row, rows, first_panel, last_panel] = division[task];
    char* space = static_cast<char*>(scratch(worker));
    for (int64_t p = first_panel; p < last_panel; ++p) {
      float* d_input = op.d_input + row * inputs + panels[p].first;
      for (int part = 0; part < op.parts; ++part) {
        const int64_t index = part * part_panels + p;
        const int64_t next = part + 1 < op.parts  ? index + part_panels
                             : p + 1 < last_panel ? p + 1
                                                  : division.panel_after(task);
        products.execute(index, rows, d_output.at(row, part), panels[index].data, nullptr, d_input,
                         space, next < 0 ? nullptr : panels[next].data);
      }
      if (op.activation == Activation::kNone) continue;
      for (int64_t r = 0; r < rows; ++r) {
        kernels().activation_backward(op.activation,
                                      op.preactivation + (row + r) * inputs + panels[p].first,
                                      d_input + r * inputs, panels[p].columns);
      }
    }
  });
}

}  // namespace bertology::cpu
