// Pruning heads in place, and bringing them back.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "model/host_rows.h"
#include "model/model.h"

namespace bertology {
namespace {

/// By layer the heads that were named, each checked to exist and to be named once.
std::map<int32_t, std::vector<int32_t>> named_heads(const Config& config, int32_t count,
                                                    const int32_t* layers, const int32_t* heads) {
  check_argument(count >= 0 && (count == 0 || (layers != nullptr && heads != nullptr)),
                 "heads: ", count, " pairs, but none are given");
  std::map<int32_t, std::vector<int32_t>> named;
  for (int32_t i = 0; i < count; ++i) {
    config.check_head(layers[i], heads[i]);
    std::vector<int32_t>& of_layer = named[layers[i]];
    check_argument(std::find(of_layer.begin(), of_layer.end(), heads[i]) == of_layer.end(), "head ",
                   heads[i], " of layer ", layers[i], " is named twice");
    of_layer.push_back(heads[i]);
  }
  return named;
}

bool contains(const std::vector<int32_t>& heads, int32_t head) {
  return std::find(heads.begin(), heads.end(), head) != heads.end();
}

bool unset(const Layer& layer) {
  constexpr Layer::PartsSet kNone = {};
  return layer.weights_set == kNone && layer.biases_set == kNone;
}

std::vector<int64_t> all_rows(int64_t count) {
  std::vector<int64_t> rows(static_cast<size_t>(count));
  std::iota(rows.begin(), rows.end(), int64_t{0});
  return rows;
}

/// The rows of queries, of keys and of values, where each part has `part` rows.
std::vector<int64_t> three_parts(const std::vector<int64_t>& rows, int64_t part) {
  std::vector<int64_t> all;
  all.reserve(3 * rows.size());
  for (int64_t p = 0; p < 3; ++p) {
    for (const int64_t row : rows) all.push_back(p * part + row);
  }
  return all;
}

/// A layer that loses heads: everything that can fail is done by the constructor.
class LayerCut {
 public:
  LayerCut(Backend& backend, const Config& config, Layer& layer, const std::vector<int32_t>& pruned)
      : layer_(layer) {
    for (const int32_t head : layer.heads) {
      if (!contains(pruned, head)) heads_.push_back(head);
    }
    if (layer.query_key_value.weight != nullptr && !heads_.empty()) {
      const int64_t part = layer.query_key_value.weight->part_outputs();
      const std::vector<int64_t> rows = head_rows(layer.heads, heads_, config.head_dim());
      const std::vector<int64_t> three = three_parts(rows, part);
      projections_ = layer.query_key_value.weight->prepare_cut(three, all_rows(config.hidden_size));
      output_ = layer.attention_output.weight->prepare_cut(all_rows(config.hidden_size), rows);
      const std::vector<float> biases = layer.query_key_value.bias.values(backend);
      std::vector<float> kept;
      for (const int64_t row : three) kept.push_back(biases[static_cast<size_t>(row)]);
      const int64_t count = static_cast<int64_t>(kept.size());
      bias_.allocate(backend, count, "attention biases");
      bias_.set(backend, 0, kept.data(), count);
    }
  }

  /// Floats of scratch memory that commit() needs.
  int64_t scratch() const {
    if (projections_ == nullptr) return 0;
    const PackedMatrix& projections = *layer_.query_key_value.weight;
    return projections.outputs() * projections.inputs();
  }

  void commit(float* scratch) {
    if (projections_ != nullptr) {
      projections_->commit(scratch);
      output_->commit(scratch);
      layer_.query_key_value.bias = std::move(bias_);
    } else {
      layer_.query_key_value = Linear();
      layer_.weights_set = layer_.biases_set = {};
      layer_.attention_output.weight.reset();
    }
    layer_.heads = std::move(heads_);
  }

 private:
  Layer& layer_;
  std::vector<int32_t> heads_;
  std::unique_ptr<PackedMatrix::Cut> projections_;
  std::unique_ptr<PackedMatrix::Cut> output_;
  Vector bias_;
};

}  // namespace

void Model::prune_heads(int32_t count, const int32_t* layers, const int32_t* heads) {
  const std::unique_lock<FairSharedMutex> lock(mutex_);
  const auto named = named_heads(config_, count, layers, heads);
  for (const auto& [l, pruned] : named) {
    const Layer& layer = weights_.layers[static_cast<size_t>(l)];
    for (const int32_t head : pruned) {
      check_argument(contains(layer.heads, head), "head ", head, " of layer ", l,
                     " is already pruned");
    }
    constexpr Layer::PartsSet kAll = {true, true, true};
    const bool whole = layer.weights_set == kAll && layer.biases_set == kAll &&
                       layer.attention_output.weight != nullptr;
    const bool nothing = unset(layer) && layer.attention_output.weight == nullptr;
    check_argument(whole || nothing, "layer ", l,
                   ": its attention parameters are set in part; set all of them first");
  }
  std::vector<LayerCut> cuts;
  cuts.reserve(named.size());
  int64_t scratch_floats = 0;
  for (const auto& [l, pruned] : named) {
    cuts.emplace_back(weights_.backend(), config_, weights_.layers[static_cast<size_t>(l)], pruned);
    scratch_floats = std::max(scratch_floats, cuts.back().scratch());
  }
  const Mapping scratch(static_cast<size_t>(scratch_floats) * sizeof(float), "pruning a layer");
  try {
    for (LayerCut& cut : cuts) cut.commit(static_cast<float*>(scratch.data()));
  } catch (const std::exception& error) {
    broken_ = text("pruning failed half way (", error.what(), "): load the model again");
    throw;
  }
  for (const auto& [l, pruned] : named) {
    Layer& layer = weights_.layers[static_cast<size_t>(l)];
    // What is pruned before it is loaded was never in the checkpoint.
    if (unset(layer) && layer.attention_output.bias.empty()) layer.available_heads = layer.heads;
  }
}

void Model::restore_heads(int32_t count, const int32_t* layers, const int32_t* heads,
                          int32_t layer_count, const int32_t* tensor_layers,
                          const bertology_tensor* tensors) {
  constexpr int32_t kTensors = 7;
  const std::unique_lock<FairSharedMutex> lock(mutex_);
  const auto named = named_heads(config_, count, layers, heads);
  const DType dtype = static_cast<DType>(config_.dtype);
  const int64_t width = config_.hidden_size;
  const int64_t head_dim = config_.head_dim();
  Backend& backend = weights_.backend();

  struct Restored {
    Layer* layer;
    std::vector<int32_t> heads;
    std::unique_ptr<PackedMatrix> projections, output;
    Vector bias;
  };
  std::vector<Restored> restored;
  for (const auto& [l, back] : named) {
    Layer& layer = weights_.layers[static_cast<size_t>(l)];
    Restored made{&layer, layer.heads, nullptr, nullptr, Vector()};
    for (const int32_t head : back) {
      check_argument(!contains(layer.heads, head), "head ", head, " of layer ", l,
                     " is not pruned");
      check_argument(contains(layer.available_heads, head), "head ", head, " of layer ", l,
                     " was pruned before the checkpoint was saved: it cannot be restored");
      made.heads.push_back(head);
    }
    std::sort(made.heads.begin(), made.heads.end());
    const int32_t* found = std::find(tensor_layers, tensor_layers + layer_count, l);
    check_argument(found != tensor_layers + layer_count, "layer ", l,
                   ": its tensors are not given");
    const bertology_tensor* given = tensors + (found - tensor_layers) * kTensors;

    const int64_t available = static_cast<int64_t>(layer.available_heads.size()) * head_dim;
    const std::vector<int64_t> rows = head_rows(layer.available_heads, made.heads, head_dim);
    const std::string prefix = text("layers.", l, ".");
    const char* const projections[] = {"query", "key", "value"};
    std::vector<float> weights, biases;
    for (int p = 0; p < 3; ++p) {
      const HostRows all(backend, prefix + projections[p] + ".weight", given[p],
                         {available, width});
      const HostRows all_biases(backend, prefix + projections[p] + ".bias", given[p + 3],
                                {available});
      for (const int64_t row : rows) {
        const float* from = all.data() + row * width;
        weights.insert(weights.end(), from, from + width);
        biases.push_back(all_biases.data()[row]);
      }
    }
    const HostRows all(backend, prefix + "attention_output.weight", given[6], {width, available});
    std::vector<float> output;
    output.reserve(static_cast<size_t>(width) * rows.size());
    for (int64_t r = 0; r < width; ++r) {
      for (const int64_t column : rows) output.push_back(all.data()[r * available + column]);
    }
    const int64_t kept = static_cast<int64_t>(rows.size());
    made.projections = backend.pack(weights.data(), 3 * kept, width, 3, dtype);
    made.output = backend.pack(output.data(), width, kept, 1, dtype);
    made.bias.allocate(backend, 3 * kept, "attention biases");
    made.bias.set(backend, 0, biases.data(), 3 * kept);
    restored.push_back(std::move(made));
  }
  for (Restored& made : restored) {
    made.layer->query_key_value.weight = std::move(made.projections);
    made.layer->query_key_value.bias = std::move(made.bias);
    made.layer->weights_set = made.layer->biases_set = {true, true, true};
    made.layer->attention_output.weight = std::move(made.output);
    made.layer->heads = std::move(made.heads);
  }
}

}  // namespace bertology
