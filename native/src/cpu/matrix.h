// A weight matrix as the CPU multiplies by it.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "base/memory.h"
#include "cpu/kernels/packed.h"
#include "cpu/onednn.h"
#include "ops/linear.h"

namespace bertology::cpu {

class CpuBackend;

/// Some columns of a right-hand matrix. Panels are what threads share a product by.
struct Panel {
  int part;
  int64_t first;  // first column, within the part in forward
  int64_t columns;
  int64_t depth;
  Layout2d layout;
  int64_t stride;    // of plain layouts
  const void* data;  // packed, or the first element of a plain panel
};

class Matrix final : public PackedMatrix {
 public:
  Matrix(CpuBackend& backend, int64_t outputs, int64_t inputs, int parts, DType dtype);

  /// Multiplies by plain float32 rows where they are. They must stay.
  static std::unique_ptr<Matrix> borrow(CpuBackend& backend, const float* rows, int64_t outputs,
                                        int64_t inputs);

  DType dtype() const { return dtype_; }
  int64_t bytes() const override;
  void set(int part, const float* rows) override;
  void unpack(float* rows) const override;
  std::unique_ptr<Cut> prepare_cut(std::vector<int64_t> outputs,
                                   std::vector<int64_t> inputs) override;

  /// Right-hand sides of x Wᵀ: depth inputs, columns outputs. By part, then by column.
  const std::vector<Panel>& forward() const { return forward_.panels; }

  /// Right-hand sides of dy W: depth part_outputs, columns inputs. By part, then by column. Packed
  /// when first asked for: most models never run backward.
  const std::vector<Panel>& backward() const;

 private:
  class CutInPlace;

  struct Packing {
    std::vector<Panel> panels;
    std::vector<std::shared_ptr<const Repacking>> repackings;  // of panels in kPacked
    std::vector<int64_t> offsets;  // of the panels in `memory`; none for plain layouts
    int64_t bytes = 0;
    Mapping memory;

    void place();
  };

  struct Borrowed {};
  Matrix(Borrowed, CpuBackend& backend, int64_t outputs, int64_t inputs)
      : PackedMatrix(outputs, inputs, 1), backend_(backend), dtype_(BERTOLOGY_FLOAT32) {}

  Packing plan(int64_t outputs, int64_t inputs, bool forward) const;
  /// Packs all panels from plain rows [outputs, inputs], in parallel.
  void pack(Packing& packing, const float* rows, bool forward) const;
  void pack_panel(const Packing& packing, size_t i, const PlainMatrix& from) const;
  Layout2d layout_of_panels() const;
  PlainMatrix plain(const Panel& panel, const float* rows, bool forward) const;

  CpuBackend& backend_;
  DType dtype_;
  Packing forward_;
  mutable std::mutex backward_mutex_;
  mutable Packing backward_;
};

}  // namespace bertology::cpu
