// Many head masks over one slice: each layer is computed once for all masks that agree in the
// layers below it, and its attention once for all that agree up to it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/arena.h"
#include "model/encoder.h"
#include "model/mask_tree.h"
#include "model/task_heads.h"

namespace bertology {

class Sweep {
 public:
  /// All outlive it.
  Sweep(const Config& config, const MaskTree& tree, Slice& slice, Encoder& encoder,
        TaskHeads& heads)
      : config_(config), tree_(tree), slice_(slice), encoder_(encoder), heads_(heads) {}

  /// Buffers in scratch memory.
  void place(Layout& layout, bool shares_host_memory);
  /// What it takes of the stream's Room::staged, beside what one mask takes.
  int64_t staged_bytes(const Stream& stream) const;

  /// Runs the slice under every mask, into the results of each.
  void run(Stream& stream);

 private:
  int64_t mask_bytes() const { return static_cast<int64_t>(tree_.values().size() * sizeof(float)); }
  void run_below(Stream& stream, const MaskTree::Node& node, const float* input, size_t level);
  const float* context_of(Stream& stream, const MaskTree::Node& node, const MaskTree::Child& child,
                          const float* shared, int64_t rows);
  void finish(Stream& stream, const MaskTree::Child& child, const float* states);

  const Config& config_;
  const MaskTree& tree_;
  Slice& slice_;
  Encoder& encoder_;
  TaskHeads& heads_;

  // A level for each state that must stay while masks that begin with it are run. The first level's
  // state is the encoder's own.
  std::vector<float*> states_;    // [T, D]
  std::vector<float*> contexts_;  // [T, A]: what the masks of a node share of its attention
  bool shares_host_memory_ = true;
  float* mask_copy_ = nullptr;    // the tree's values, on a device with memory of its own
  const float* masks_ = nullptr;  // the same where the kernels read them
};

}  // namespace bertology
