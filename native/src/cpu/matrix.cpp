#include "cpu/matrix.h"

#include <algorithm>

#include "base/error.h"
#include "cpu/backend.h"

namespace bertology::cpu {
namespace {

// Columns of a panel at most: enough that a product runs at full speed and what calling it costs is
// lost in it, few enough that its result stays in the second-level cache. And panels of a matrix at
// least: a short batch needs work for several threads.
constexpr int64_t kPanelColumns = 512;
constexpr int64_t kLeastPanels = 2;
constexpr int64_t kColumnStep = 64;
constexpr int64_t kAlignment = 64;

/// Calls `body(first, columns)` for even panels of at most kPanelColumns.
template <class Body>
void for_panels(int64_t columns, const Body& body) {
  const int64_t panels = std::max(kLeastPanels, (columns + kPanelColumns - 1) / kPanelColumns);
  const int64_t even = (columns + panels - 1) / panels;
  const int64_t width = (even + kColumnStep - 1) / kColumnStep * kColumnStep;
  for (int64_t first = 0; first < columns; first += width)
    body(first, std::min(width, columns - first));
}

}  // namespace

/// How this matrix packs its panels.
Layout2d Matrix::layout_of_panels() const {
  if (dtype_ == BERTOLOGY_FLOAT32) return Layout2d::kBlocks;
  return backend_.isa() == Isa::kAmx ? Layout2d::kTiles : Layout2d::kPacked;
}

/// Panels of a matrix [outputs, inputs], with as many parts as this one.
Matrix::Packing Matrix::plan(int64_t outputs, int64_t inputs, bool forward) const {
  const int64_t part_outputs = outputs / parts_;
  const int64_t depth = forward ? inputs : part_outputs;
  const Layout2d layout = layout_of_panels();
  Packing packing;
  if (outputs == 0 || inputs == 0) return packing;
  for (int part = 0; part < parts_; ++part) {
    for_panels(forward ? part_outputs : inputs, [&](int64_t first, int64_t columns) {
      packing.panels.push_back({part, first, columns, depth, layout, 0, nullptr});
      packing.offsets.push_back(packing.bytes);
      int64_t bytes = 0;
      if (layout == Layout2d::kBlocks) {
        bytes = backend_.kernels().packed_floats(depth, columns) * size_of(dtype_);
      } else if (layout == Layout2d::kTiles) {
        bytes = backend_.kernels().tiled_elements(depth, columns) * size_of(dtype_);
      } else {
        packing.repackings.push_back(backend_.repackings().find(
            depth, columns, dtype_, forward ? 1 : inputs, forward ? inputs : 1));
        bytes = packing.repackings.back()->packed_bytes();
      }
      packing.bytes += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    });
  }
  return packing;
}

void Matrix::Packing::place() {
  for (size_t i = 0; i < panels.size(); ++i)
    panels[i].data = static_cast<char*>(memory.data()) + offsets[i];
}

/// A panel's place in plain rows [outputs, inputs].
PlainMatrix Matrix::plain(const Panel& panel, const float* rows, bool forward) const {
  const float* part = rows + panel.part * part_outputs() * inputs_;
  if (forward) return {panel.depth, panel.columns, part + panel.first * inputs_, 1, inputs_};
  return {panel.depth, panel.columns, part + panel.first, inputs_, 1};
}

void Matrix::pack_panel(const Packing& packing, size_t i, const PlainMatrix& from) const {
  const Panel& panel = packing.panels[i];
  void* to = const_cast<void*>(panel.data);
  if (panel.layout == Layout2d::kBlocks) {
    backend_.kernels().pack(from, static_cast<float*>(to));
  } else if (panel.layout == Layout2d::kTiles) {
    backend_.kernels().pack_tiles(from, static_cast<uint16_t*>(to));
  } else {
    packing.repackings[i]->pack(from.data, to);
  }
}

Matrix::Matrix(CpuBackend& backend, int64_t outputs, int64_t inputs, int parts, DType dtype)
    : PackedMatrix(outputs, inputs, parts), backend_(backend), dtype_(dtype) {
  forward_ = plan(outputs, inputs, true);
  forward_.memory = Mapping(static_cast<size_t>(forward_.bytes), "weights");
  forward_.place();
}

void Matrix::set(int part, const float* rows) {
  {
    std::lock_guard<std::mutex> lock(backward_mutex_);
    backward_ = Packing();
  }
  const int64_t panels_a_part = static_cast<int64_t>(forward_.panels.size()) / parts_;
  backend_.parallel(panels_a_part, [&](int64_t task, int) {
    const size_t i = static_cast<size_t>(part * panels_a_part + task);
    const Panel& panel = forward_.panels[i];
    pack_panel(forward_, i, {panel.depth, panel.columns, rows + panel.first * inputs_, 1, inputs_});
  });
}

void Matrix::pack(Packing& packing, const float* rows, bool forward) const {
  backend_.parallel(static_cast<int64_t>(packing.panels.size()), [&](int64_t task, int) {
    const size_t i = static_cast<size_t>(task);
    pack_panel(packing, i, plain(packing.panels[i], rows, forward));
  });
}

std::unique_ptr<Matrix> Matrix::borrow(CpuBackend& backend, const float* rows, int64_t outputs,
                                       int64_t inputs) {
  std::unique_ptr<Matrix> matrix(new Matrix(Borrowed(), backend, outputs, inputs));
  for_panels(outputs, [&](int64_t first, int64_t columns) {
    matrix->forward_.panels.push_back(
        {0, first, columns, inputs, Layout2d::kTransposed, inputs, rows + first * inputs});
  });
  for_panels(inputs, [&](int64_t first, int64_t columns) {
    matrix->backward_.panels.push_back(
        {0, first, columns, outputs, Layout2d::kRows, inputs, rows + first});
  });
  return matrix;
}

int64_t Matrix::bytes() const {
  std::lock_guard<std::mutex> lock(backward_mutex_);
  return static_cast<int64_t>(forward_.memory.bytes() + backward_.memory.bytes());
}

void Matrix::unpack(float* rows) const {
  backend_.parallel(static_cast<int64_t>(forward_.offsets.size()), [&](int64_t task, int) {
    const size_t i = static_cast<size_t>(task);
    const Panel& panel = forward_.panels[i];
    const PlainMatrix to = plain(panel, rows, true);
    if (panel.layout == Layout2d::kBlocks) {
      backend_.kernels().unpack(static_cast<const float*>(panel.data), to);
    } else if (panel.layout == Layout2d::kTiles) {
      backend_.kernels().unpack_tiles(static_cast<const uint16_t*>(panel.data), to);
    } else {
      forward_.repackings[i]->unpack(panel.data, const_cast<float*>(to.data));
    }
  });
}

const std::vector<Panel>& Matrix::backward() const {
  std::lock_guard<std::mutex> lock(backward_mutex_);
  if (backward_.panels.empty() && !forward_.panels.empty()) {
    const Mapping plain(static_cast<size_t>(outputs_ * inputs_) * sizeof(float),
                        "packing weights for backward");
    float* rows = static_cast<float*>(plain.data());
    unpack(rows);
    Packing packing = plan(outputs_, inputs_, false);
    packing.memory = Mapping(static_cast<size_t>(packing.bytes), "weights for backward");
    packing.place();
    pack(packing, rows, false);
    backward_ = std::move(packing);
  }
  return backward_.panels;
}

/// The smaller matrix is packed over the larger one, and the rest given back.
class Matrix::CutInPlace final : public PackedMatrix::Cut {
 public:
  CutInPlace(Matrix& matrix, std::vector<int64_t> outputs, std::vector<int64_t> inputs)
      : matrix_(matrix), outputs_(std::move(outputs)), inputs_(std::move(inputs)) {
    const int64_t rows = static_cast<int64_t>(outputs_.size());
    const int64_t columns = static_cast<int64_t>(inputs_.size());
    forward_ = prepare(matrix_.forward_, rows, columns, true);
    if (!matrix_.backward_.panels.empty())
      backward_ = prepare(matrix_.backward_, rows, columns, false);
  }

  void commit(float* scratch) override {
    matrix_.unpack(scratch);
    float* kept = scratch;  // rows and columns move to the front, so they can do it in place
    for (const int64_t row : outputs_) {
      const float* from = scratch + row * matrix_.inputs_;
      for (const int64_t column : inputs_) *kept++ = from[column];
    }
    matrix_.outputs_ = static_cast<int64_t>(outputs_.size());
    matrix_.inputs_ = static_cast<int64_t>(inputs_.size());
    replace(matrix_.forward_, forward_, scratch, true);
    if (!matrix_.backward_.panels.empty()) replace(matrix_.backward_, backward_, scratch, false);
  }

 private:
  Packing prepare(const Packing& old, int64_t outputs, int64_t inputs, bool forward) {
    Packing cut = matrix_.plan(outputs, inputs, forward);
    const size_t bytes = static_cast<size_t>(cut.bytes);
    if (bytes > old.memory.bytes())
      cut.memory = Mapping(bytes, "weights");  // padding may outgrow a small cut
    return cut;
  }

  void replace(Packing& old, Packing& cut, const float* rows, bool forward) {
    if (cut.memory.bytes() == 0) cut.memory = std::move(old.memory);
    cut.place();
    matrix_.pack(cut, rows, forward);
    cut.memory.shrink(static_cast<size_t>(cut.bytes));
    old = std::move(cut);
  }

  Matrix& matrix_;
  std::vector<int64_t> outputs_;
  std::vector<int64_t> inputs_;
  Packing forward_;
  Packing backward_;
};

std::unique_ptr<PackedMatrix::Cut> Matrix::prepare_cut(std::vector<int64_t> outputs,
                                                       std::vector<int64_t> inputs) {
  check_internal(!forward_.offsets.empty(), "prepare_cut: the matrix is borrowed or empty");
  check_internal(static_cast<int64_t>(outputs.size()) % parts_ == 0,
                 "prepare_cut: ", outputs.size(), " outputs do not divide into ", parts_, " parts");
  return std::make_unique<CutInPlace>(*this, std::move(outputs), std::move(inputs));
}

}  // namespace bertology::cpu
