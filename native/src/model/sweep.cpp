#include "model/sweep.h"

#include <algorithm>

namespace bertology {

void Sweep::place(Layout& layout, bool shares_host_memory) {
  const int64_t tokens = slice_.tokens.rows();
  const size_t levels = static_cast<size_t>(tree_.root().states) + 1;
  states_.assign(levels, encoder_.state());
  contexts_.assign(levels, nullptr);
  for (size_t level = 1; level < levels; ++level)
    states_[level] = layout.floats(tokens * config_.hidden_size);
  if (levels > 1) {
    for (float*& context : contexts_) context = layout.floats(tokens * encoder_.widest_heads());
  }
  shares_host_memory_ = shares_host_memory;
  if (!shares_host_memory) mask_copy_ = layout.floats(static_cast<int64_t>(tree_.values().size()));
}

int64_t Sweep::staged_bytes(const Stream& stream) const {
  if (shares_host_memory_) return 0;
  return stream.staged_bytes(tree_.values().data(), mask_bytes()) +
         (tree_.masks() - 1) * slice_.staged_result_bytes(stream);
}

void Sweep::run(Stream& stream) {
  const std::vector<float>& values = tree_.values();
  masks_ = values.data();
  if (!shares_host_memory_) {
    stream.to_device(mask_copy_, masks_, mask_bytes());
    masks_ = mask_copy_;
  }
  run_below(stream, tree_.root(), encoder_.embed(stream), 0);
}

/// Runs all masks that go through a node. input: of the node's layer, [T, D], in the state of the
/// level; states of higher levels are free.
void Sweep::run_below(Stream& stream, const MaskTree::Node& node, const float* input,
                      size_t level) {
  const int32_t l = node.layer;
  const bool branches = node.children.size() > 1;
  const float* residual = encoder_.rows_forward(stream, l, input);
  // One mask goes into the attention; what several share is computed without, but not the heads
  // that none of them has.
  const float* mask = branches ? node.some.data() : tree_.values(node.children[0]);
  const float* shared = encoder_.heads_forward(stream, l, input, mask,
                                               branches ? contexts_[level] : encoder_.context());
  const bool last_layer = l + 1 == config_.num_hidden_layers;
  for (const MaskTree::Child& child : node.children) {
    // The last child has no further use for the node's input.
    const size_t next = &child == &node.children.back() ? level : level + 1;
    const float* context =
        branches ? context_of(stream, node, child, shared, encoder_.row_count(l)) : shared;
    // What goes into a final norm is not needed behind it.
    float* output = last_layer && config_.norm_first() ? nullptr : states_[next];
    const float* states = encoder_.blocks_forward(stream, l, residual, context, output);
    if (last_layer) {
      finish(stream, child, states);
    } else {
      run_below(stream, tree_[child.node], states, next);
    }
  }
}

/// What a node's heads have given, under the mask of a child.
const float* Sweep::context_of(Stream& stream, const MaskTree::Node& node,
                               const MaskTree::Child& child, const float* shared, int64_t rows) {
  const float* values = tree_.values(child);
  if (shared == nullptr || std::equal(node.some.begin(), node.some.end(), values)) return shared;
  MaskHeads mask;
  mask.rows = rows;
  mask.heads = static_cast<int64_t>(node.some.size());
  mask.head_dim = config_.head_dim();
  mask.mask = masks_ + child.first_value;
  mask.input = shared;
  mask.output = encoder_.context();
  mask_heads(stream, mask);
  return mask.output;
}

/// The results of the masks that a path through the tree ends with; of masks that are the same, of
/// the first.
void Sweep::finish(Stream& stream, const MaskTree::Child& child, const float* states) {
  slice_.set_mask(child.masks[0]);
  heads_.forward(stream, states);
  if (heads_.finishes()) {
    stream.synchronize();
    heads_.finish();
  }
}

}  // namespace bertology
