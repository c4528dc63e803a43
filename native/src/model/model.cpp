#include "model/model.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "bertology/accumulator.h"
#include "model/encoder.h"
#include "model/mask_tree.h"
#include "model/sweep.h"
#include "model/task_heads.h"

namespace bertology {
namespace {

/// All that a slice goes through in a run.
class Pass {
 public:
  Pass(const Config& config, const Weights& weights, const Plan& plan, Activations& activations,
       const std::optional<MaskTree>& tree, int64_t first, int64_t last, double* head_sums)
      : plan_(plan),
        slice_(config, plan, activations, first, last),
        encoder_(config, weights, plan, activations.request, slice_, head_sums),
        heads_(config, weights, plan, activations.request, slice_) {
    if (tree.has_value()) sweep_.emplace(config, *tree, slice_, encoder_, heads_);
  }

  void place(Layout& layout, bool shares_host_memory) {
    slice_.place(layout, shares_host_memory);
    encoder_.place(layout);
    heads_.place(layout);
    if (sweep_.has_value()) sweep_->place(layout, shares_host_memory);
  }

  int64_t tokens() const { return slice_.tokens.rows(); }

  /// What it takes of the stream's Room::staged.
  int64_t staged_bytes(const Stream& stream) const {
    int64_t bytes = slice_.staged_bytes(stream) + heads_.staged_bytes(stream);
    if (sweep_.has_value()) bytes += sweep_->staged_bytes(stream);
    return bytes;
  }

  void run(Stream& stream) {
    slice_.upload(stream);
    if (sweep_.has_value()) {
      sweep_->run(stream);
      stream.synchronize();  // the slice's host arrays end here
      return;
    }
    const float* states = encoder_.forward(stream);
    heads_.forward(stream, states);
    if (plan_.backward) encoder_.backward(stream, heads_.backward(stream));
    stream.synchronize();
    heads_.finish();
  }

 private:
  const Plan& plan_;
  Slice slice_;
  Encoder encoder_;
  TaskHeads heads_;
  std::optional<Sweep> sweep_;
};

}  // namespace

Model::Model(std::shared_ptr<Backend> backend, const bertology_config& config)
    : config_(config), weights_(std::move(backend), config_) {
  const DType dtype = static_cast<DType>(config_.dtype);
  if (!weights_.backend().supports(dtype)) {
    fail(BERTOLOGY_UNSUPPORTED, "dtype ", name_of(dtype),
         ": this device has no instructions for it; use float32");
  }
}

void Model::set_parameter(const std::string& name, const bertology_tensor& value) {
  const std::unique_lock<FairSharedMutex> lock(mutex_);
  weights_.set(config_, name, value);
}

void Model::set_classifier_shape(int32_t num_labels, int32_t pooling) {
  const std::unique_lock<FairSharedMutex> lock(mutex_);
  config_.set_classifier(num_labels, pooling);
  weights_.forget_classifier();
}

void Model::size(int64_t* parameters, int64_t* bytes) const {
  const std::shared_lock<FairSharedMutex> lock(mutex_);
  *parameters = weights_.parameters();
  *bytes = weights_.bytes();
}

std::vector<int32_t> Model::heads(int32_t layer) const {
  const std::shared_lock<FairSharedMutex> lock(mutex_);
  config_.check_layer(layer);
  return weights_.layers[static_cast<size_t>(layer)].heads;
}

void Model::check_runnable(const Request& request) const {
  if (!broken_.empty()) fail(BERTOLOGY_INTERNAL_ERROR, broken_);
  request.check(config_);
  const Plan plan(config_, request);
  const std::string missing = weights_.missing(config_, plan.pools, plan.classifies, plan.predicts);
  if (!missing.empty()) {
    fail(BERTOLOGY_UNSUPPORTED, "the model lacks ", missing, ", which this run needs");
  }
  check_pruned_heads(request.head_mask);
  check_pruned_heads(request.head_masks);
}

/// masks: some, of all layers and heads.
void Model::check_pruned_heads(const std::vector<float>& masks) const {
  const size_t all_heads = static_cast<size_t>(config_.num_attention_heads);
  const size_t size = weights_.layers.size() * all_heads;
  for (size_t i = 0; i < masks.size(); ++i) {
    if (masks[i] == 1.0f) continue;
    const size_t l = i % size / all_heads;
    const int32_t head = static_cast<int32_t>(i % all_heads);
    const std::vector<int32_t>& heads = weights_.layers[l].heads;
    check_argument(std::find(heads.begin(), heads.end(), head) != heads.end(), "head ", head,
                   " of layer ", l, " is pruned: it cannot be masked",
                   masks.size() > size ? text(", as mask ", i / size, " does") : text());
  }
}

void Model::run(Activations& activations) const {
  const std::shared_lock<FairSharedMutex> lock(mutex_);
  const Request& request = activations.request;
  activations.clear();
  check_argument(&activations.backend() == &weights_.backend(),
                 "the activations were made for another device than the model's");
  Accumulator* const accumulator = request.accumulator.get();
  check_argument(accumulator == nullptr || &accumulator->backend() == &weights_.backend(),
                 "the accumulator was made for another device than the model's");
  check_runnable(request);
  const Plan plan(config_, request);
  std::vector<int64_t> head_counts;
  for (const Layer& layer : weights_.layers) head_counts.push_back(layer.head_count());
  Backend& backend = weights_.backend();
  activations.prepare(config_, head_counts);
  const std::optional<MaskTree> tree =
      request.masks > 0 ? std::make_optional<MaskTree>(request, weights_.layers) : std::nullopt;

  const std::shared_ptr<Stream> stream = backend.stream();
  const auto ranges = slice_ranges(request, backend.tokens_per_pass(plan.backward));

  // All memory is taken before anything is computed: for the sums that will take the place of the
  // accumulator's; for those of all slices, and behind them what one slice needs, in the same place
  // for each.
  std::unique_ptr<DeviceMemory> new_sums;
  if (accumulator != nullptr) new_sums = accumulator->room();
  const auto place_sums = [&](Layout& layout) {
    const int64_t doubles = accumulator == nullptr ? 0 : accumulator->count();
    return layout.floats(doubles * static_cast<int64_t>(sizeof(double) / sizeof(float)));
  };
  Room room;
  room.width = std::max({3 * config_.hidden_size, config_.intermediate_size, config_.num_labels,
                         plan.predicts ? config_.vocab_size : 0});
  room.heads = config_.num_attention_heads;
  room.dtype = static_cast<DType>(config_.dtype);
  for (const auto& [first, last] : ranges) {
    Layout layout;
    place_sums(layout);
    Pass pass(config_, weights_, plan, activations, tree, first, last, nullptr);
    pass.place(layout, stream->shares_host_memory());
    room.floats = std::max(room.floats, layout.used());
    room.rows = std::max(room.rows, pass.tokens());
    room.staged = std::max(room.staged, pass.staged_bytes(*stream));
  }
  float* memory = stream->reserve(room);
  Layout start(memory);
  double* head_sums =
      accumulator == nullptr ? nullptr : reinterpret_cast<double*>(place_sums(start));
  if (head_sums != nullptr) stream->zero(memory, start.used());

  for (const auto& [first, last] : ranges) {
    Layout layout(memory);
    place_sums(layout);
    Pass pass(config_, weights_, plan, activations, tree, first, last, head_sums);
    pass.place(layout, stream->shares_host_memory());
    pass.run(*stream);
  }
  if (tree.has_value()) {
    for (const auto& [first, same] : tree->repeated()) activations.repeat(first, same);
  }
  // Behind all that can fail: a failed run adds nothing.
  if (head_sums != nullptr)
    accumulator->add(*stream, head_sums, std::move(new_sums), request.examples(), request.tokens());
  activations.complete();
}

}  // namespace bertology
