#include "model/mask_tree.h"

#include <algorithm>
#include <map>

namespace bertology {

MaskTree::MaskTree(const Request& request, const std::vector<Layer>& layers)
    : request_(request), layers_(layers) {
  std::vector<int32_t> all;
  for (int32_t mask = 0; mask < request.masks; ++mask) all.push_back(mask);
  add(0, all);
}

/// The node of this layer that these masks of the request, at least one, go through.
int32_t MaskTree::add(int32_t layer, const std::vector<int32_t>& masks) {
  const int32_t index = static_cast<int32_t>(nodes_.size());
  nodes_.emplace_back();
  const size_t layers = layers_.size();
  const std::vector<int32_t>& heads = layers_[static_cast<size_t>(layer)].heads;
  const size_t all_heads =
      request_.head_masks.size() / static_cast<size_t>(request_.masks) / layers;

  std::map<std::vector<float>, std::vector<int32_t>> by_row;
  for (const int32_t mask : masks) {
    const size_t start =
        (static_cast<size_t>(mask) * layers + static_cast<size_t>(layer)) * all_heads;
    std::vector<float> row;
    for (const int32_t head : heads)
      row.push_back(request_.head_masks[start + static_cast<size_t>(head)]);
    by_row[row].push_back(mask);
  }

  Node node;
  node.layer = layer;
  node.some.assign(heads.size(), 0.0f);
  for (const auto& [row, of_row] : by_row) {
    Child child = {static_cast<int64_t>(values_.size()), -1, {}};
    values_.insert(values_.end(), row.begin(), row.end());
    for (size_t k = 0; k < row.size(); ++k) {
      if (row[k] != 0) node.some[k] = 1;
    }
    if (static_cast<size_t>(layer) + 1 < layers) {
      child.node = add(layer + 1, of_row);
    } else {
      child.masks = of_row;
      for (size_t i = 1; i < of_row.size(); ++i) repeated_.emplace_back(of_row[0], of_row[i]);
    }
    node.children.push_back(std::move(child));
  }
  const auto states_of = [&](const Child& child) {
    return child.node < 0 ? 0 : nodes_[static_cast<size_t>(child.node)].states;
  };
  std::stable_sort(node.children.begin(), node.children.end(),
                   [&](const Child& a, const Child& b) { return states_of(a) < states_of(b); });
  for (size_t i = 0; i < node.children.size(); ++i) {
    const bool last = i + 1 == node.children.size();
    node.states = std::max(node.states, states_of(node.children[i]) + (last ? 0 : 1));
  }
  nodes_[static_cast<size_t>(index)] = std::move(node);
  return index;
}

}  // namespace bertology
