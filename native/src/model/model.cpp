#include "model/model.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "bertology/accumulator.h"
#include "model/encoder.h"
#include "model/task_heads.h"

namespace bertology {

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
  if (request.head_mask.empty()) return;
  for (size_t l = 0; l < weights_.layers.size(); ++l) {
    const std::vector<int32_t>& heads = weights_.layers[l].heads;
    for (int32_t head = 0; head < config_.num_attention_heads; ++head) {
      const size_t index =
          l * static_cast<size_t>(config_.num_attention_heads) + static_cast<size_t>(head);
      check_argument(request.head_mask[index] == 1.0f ||
                         std::find(heads.begin(), heads.end(), head) != heads.end(),
                     "head ", head, " of layer ", l, " is pruned: it cannot be masked");
    }
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
  const auto place = [&](Slice& slice, Encoder& encoder, TaskHeads& heads, float* memory) {
    Layout layout(memory);
    place_sums(layout);
    slice.place(layout, stream->shares_host_memory());
    encoder.place(layout);
    heads.place(layout);
    return layout.used();
  };
  Room room;
  room.width = std::max({3 * config_.hidden_size, config_.intermediate_size, config_.num_labels,
                         plan.predicts ? config_.vocab_size : 0});
  room.heads = config_.num_attention_heads;
  room.dtype = static_cast<DType>(config_.dtype);
  for (const auto& [first, last] : ranges) {
    Slice slice(config_, plan, activations, first, last);
    Encoder encoder(config_, weights_, plan, request, slice, nullptr);
    TaskHeads heads(config_, weights_, plan, request, slice);
    room.floats = std::max(room.floats, place(slice, encoder, heads, nullptr));
    room.rows = std::max(room.rows, slice.tokens.rows());
    room.staged = std::max(room.staged, slice.staged_bytes(*stream) + heads.staged_bytes(*stream));
  }
  float* memory = stream->reserve(room);
  Layout start(memory);
  double* head_sums =
      accumulator == nullptr ? nullptr : reinterpret_cast<double*>(place_sums(start));
  if (head_sums != nullptr) stream->zero(memory, start.used());

  for (const auto& [first, last] : ranges) {
    Slice slice(config_, plan, activations, first, last);
    Encoder encoder(config_, weights_, plan, request, slice, head_sums);
    TaskHeads heads(config_, weights_, plan, request, slice);
    place(slice, encoder, heads, memory);
    slice.upload(*stream);
    const float* states = encoder.forward(*stream);
    heads.forward(*stream, states);
    if (plan.backward) encoder.backward(*stream, heads.backward(*stream));
    stream->synchronize();  // the slice's host arrays end here
    heads.finish();
  }
  // Behind all that can fail: a failed run adds nothing.
  if (head_sums != nullptr)
    accumulator->add(*stream, head_sums, std::move(new_sums), request.examples(), request.tokens());
  activations.complete();
}

}  // namespace bertology
