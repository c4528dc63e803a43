// Head masks that are run over the same data, as a tree: masks that agree in the first layers share
// these.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "bertology/request.h"
#include "model/weights.h"

namespace bertology {

/// The prefix tree of the masks of a request by layer, of the heads that each layer has. A node of
/// layer l is an input of that layer; its children differ in the layer's mask.
class MaskTree {
 public:
  struct Node;

  /// A mask of a node's layer, and where it leads: to a node of the next layer, or behind the last
  /// layer to masks of the request, which are all the same.
  struct Child {
    int64_t first_value;  // in values(), one a head of the layer
    int32_t node;         // -1 behind the last layer
    std::vector<int32_t> masks;
  };

  struct Node {
    int32_t layer = 0;
    /// By what they need, ascending: the last may overwrite what the node has.
    std::vector<Child> children;
    /// For each head of the layer 1 if some child has it, else 0.
    std::vector<float> some;
    /// States that must be there at once, beside the node's own, while the tree below is run.
    int32_t states = 0;
  };

  MaskTree(const Request& request, const std::vector<Layer>& layers);

  const Node& root() const { return nodes_[0]; }
  const Node& operator[](int32_t node) const { return nodes_[static_cast<size_t>(node)]; }
  /// All masks of all nodes, one behind the other, in host memory.
  const std::vector<float>& values() const { return values_; }
  const float* values(const Child& child) const { return values_.data() + child.first_value; }

  /// How many masks differ from each other.
  int64_t masks() const { return request_.masks - static_cast<int64_t>(repeated_.size()); }
  /// Pairs of masks of the request of which the second is the same as the first, whose results it
  /// has.
  const std::vector<std::pair<int32_t, int32_t>>& repeated() const { return repeated_; }

 private:
  int32_t add(int32_t layer, const std::vector<int32_t>& masks);

  const Request& request_;
  const std::vector<Layer>& layers_;
  std::vector<Node> nodes_;
  std::vector<float> values_;
  std::vector<std::pair<int32_t, int32_t>> repeated_;
};

}  // namespace bertology
