// Products of token rows by weight matrices, with bias and activation while the result is still in
// the cache.
#include "ops/linear.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/error.h"
#include "cpu/matrix.h"
#include "cpu/stream.h"

namespace bertology::cpu {
namespace {

// Rows that a task multiplies at a time, at most: the result of one panel stays in the second-level
// cache for the epilogue.
constexpr int64_t kBlockRows = 64;

// Tasks for each thread that a product is cut into, if it has that many panels: the last ones even
// out the load.
constexpr int64_t kTasksPerThread = 4;

/// How the work divides: blocks of rows, all of the same size or one less, times groups of panels.
struct Division {
  Division(int64_t rows, int64_t panels, int threads)
      : rows_(rows), panels_(panels), blocks_((rows + kBlockRows - 1) / kBlockRows) {
    const int64_t wanted = kTasksPerThread * threads;
    if (blocks_ < wanted) groups_ = std::min(panels, (wanted + blocks_ - 1) / blocks_);
  }

  struct Task {
    int64_t first_row, rows, first_panel, last_panel;
  };
  int64_t tasks() const { return blocks_ * groups_; }
  Task operator[](int64_t task) const {
    const int64_t block = task / groups_;
    const int64_t group = task % groups_;
    const int64_t row = block * rows_ / blocks_;
    return {row, (block + 1) * rows_ / blocks_ - row, group * panels_ / groups_,
            (group + 1) * panels_ / groups_};
  }
  /// Rows of the small blocks; the others have one more.
  int64_t block_rows() const { return rows_ / blocks_; }
  bool uneven() const { return rows_ % blocks_ != 0; }

 private:
  int64_t rows_;
  int64_t panels_;
  int64_t blocks_;
  int64_t groups_ = 1;
};

/// The products of an operation: for each panel one for the small blocks of rows and one for the
/// others.
class PanelProducts {
 public:
  PanelProducts(Products& products, const Division& division)
      : products_(products), division_(division) {}

  /// Adds the products of the next panel. shape.rows is set here.
  void add(ProductShape shape) {
    for (int64_t more = 0; more <= (division_.uneven() ? 1 : 0); ++more) {
      shape.rows = division_.block_rows() + more;
      made_[static_cast<size_t>(more)].push_back(products_.find(shape));
      scratch_bytes_ =
          std::max(scratch_bytes_, made_[static_cast<size_t>(more)].back()->scratch_bytes());
    }
  }

  const Product& get(int64_t panel, int64_t rows) const {
    return *made_[static_cast<size_t>(rows - division_.block_rows())][static_cast<size_t>(panel)];
  }
  int64_t scratch_bytes() const { return (scratch_bytes_ + 63) / 64 * 64; }

 private:
  Products& products_;
  const Division& division_;
  std::array<std::vector<std::shared_ptr<const Product>>, 2> made_;
  int64_t scratch_bytes_ = 0;
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

/// Rows as the product's input type: themselves, or rounded into `space`.
const void* as_input(const Kernels& kernels, DType dtype, const float* rows, int64_t row_count,
                     int64_t columns, int64_t stride, void* space) {
  if (dtype == BERTOLOGY_FLOAT32) return rows;
  uint16_t* rounded = static_cast<uint16_t*>(space);
  for (int64_t r = 0; r < row_count; ++r)
    kernels.to_bfloat16(rows + r * stride, rounded + r * columns, columns);
  return rounded;
}

}  // namespace

void CpuStream::linear_forward(const LinearForward& op) {
  const Matrix& matrix = static_cast<const Matrix&>(*op.weight);
  const bool rounds = matrix.dtype() != BERTOLOGY_FLOAT32;
  const int64_t inputs = matrix.inputs();
  const int64_t part_outputs = matrix.part_outputs();
  const Panel* panels = first_of_part(matrix.forward(), op.first_part);
  const int64_t panel_count = panels_of_parts(matrix.forward(), op.first_part, op.parts);
  const Division division(op.rows, panel_count, backend_.threads());

  PanelProducts products(backend_.products(), division);
  for (int64_t p = 0; p < panel_count; ++p) {
    products.add({0, inputs, panels[p].columns, inputs, panels[p].stride, op.output_stride,
                  matrix.dtype(), panels[p].layout, op.bias != nullptr, false});
  }
  const int64_t rounded_bytes = rounds ? (kBlockRows * inputs * 2 + 63) / 64 * 64 : 0;
  reserve_scratch(products.scratch_bytes() + rounded_bytes);

  float* target = op.preactivation != nullptr ? op.preactivation : op.output;
  backend_.parallel(division.tasks(), [&](int64_t task, int worker) {
    const auto [row, rows, first_panel, last_panel] = division[task];
    char* space = static_cast<char*>(scratch(worker));
    const void* input = as_input(kernels(), matrix.dtype(), op.input + row * inputs, rows, inputs,
                                 inputs, space + products.scratch_bytes());
    for (int64_t p = first_panel; p < last_panel; ++p) {
      const Panel& panel = panels[p];
      const int64_t column = panel.part * part_outputs + panel.first;  // of the whole matrix
      const int64_t place = row * op.output_stride + column - op.first_part * part_outputs;
      const float* bias = op.bias == nullptr ? nullptr : op.bias + column;
      products.get(p, rows).execute(input, panel.data, bias, target + place, space);
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
  const bool rounds = matrix.dtype() != BERTOLOGY_FLOAT32;
  const int64_t inputs = matrix.inputs();
  const int64_t part_outputs = matrix.part_outputs();
  if (part_outputs == 0) {
    if (!op.accumulate) zero(op.d_input, op.rows * inputs);
    return;
  }
  const Panel* panels = first_of_part(matrix.backward(), op.first_part);
  const int64_t part_panels = panels_of_parts(matrix.backward(), op.first_part, 1);
  const Division division(op.rows, part_panels, backend_.threads());

  // Of each panel of inputs one product a part: the first may overwrite, the others add.
  PanelProducts products(backend_.products(), division);
  const int64_t a_stride = rounds ? op.parts * part_outputs : op.d_output_stride;
  for (int part = 0; part < op.parts; ++part) {
    for (int64_t p = 0; p < part_panels; ++p) {
      const Panel& panel = panels[part * part_panels + p];
      products.add({0, part_outputs, panel.columns, a_stride, panel.stride, inputs, matrix.dtype(),
                    panel.layout, false, op.accumulate || part > 0});
    }
  }
  const int64_t rounded_bytes = rounds ? (kBlockRows * a_stride * 2 + 63) / 64 * 64 : 0;
  reserve_scratch(products.scratch_bytes() + rounded_bytes);

  backend_.parallel(division.tasks(), [&](int64_t task, int worker) {
    const auto [row, rows, first_panel, last_panel] = division[task];
    char* space = static_cast<char*>(scratch(worker));
    const void* d_output =
        as_input(kernels(), matrix.dtype(), op.d_output + row * op.d_output_stride, rows,
                 op.parts * part_outputs, op.d_output_stride, space + products.scratch_bytes());
    const int64_t element = rounds ? 2 : 4;
    for (int64_t p = first_panel; p < last_panel; ++p) {
      float* d_input = op.d_input + row * inputs + panels[p].first;
      for (int part = 0; part < op.parts; ++part) {
        const int64_t index = part * part_panels + p;
        const char* a = static_cast<const char*>(d_output) + part * part_outputs * element;
        products.get(index, rows).execute(a, panels[index].data, nullptr, d_input, space);
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
