#include "bertology/activations.h"

#include <algorithm>
#include <cstring>

#include "base/arena.h"
#include "base/error.h"

namespace bertology {

void Activations::prepare(const Config& config, const std::vector<int64_t>& head_counts) {
  clear();
  const int64_t layers = config.num_hidden_layers;
  const int64_t examples = request.examples();
  masks_ = request.masks;
  pair_offsets_.assign(1, 0);
  for (size_t b = 0; b + 1 < request.offsets.size(); ++b) {
    const int64_t length = request.offsets[b + 1] - request.offsets[b];
    pair_offsets_.push_back(pair_offsets_.back() + length * length);
  }
  Layout layout;
  for (int32_t capture = 0; capture < BERTOLOGY_CAPTURE_COUNT; ++capture) {
    const CaptureKind& kind = kind_of(capture);
    std::vector<Placed>& places = places_[static_cast<size_t>(capture)];
    places.assign(static_cast<size_t>(kind.extra_layers < 0 ? 1 : layers + kind.extra_layers),
                  Placed());
    for (size_t l = 0; l < places.size(); ++l) {
      if (!request.wants(capture, static_cast<int32_t>(l))) continue;
      Placed& at = places[l];
      const int64_t heads = l < head_counts.size() ? head_counts[l] : 0;
      switch (capture) {
        case BERTOLOGY_LOGITS:
          at = {0, 0, 0, {config.num_labels}, 1};
          break;
        case BERTOLOGY_TOKEN_LOGITS:
          at = {0, 0, 0, {config.vocab_size}, 1};
          break;
        case BERTOLOGY_LOSS:
        case BERTOLOGY_TOKEN_LOSSES:
        case BERTOLOGY_TOKEN_PREDICTIONS:
          at = {0, 0, 0, {}, 0};
          break;
        case BERTOLOGY_HEAD_GRADIENTS:
        case BERTOLOGY_TOKEN_HEAD_GRADIENTS:
          at = {0, 0, 0, {layers, config.num_attention_heads}, 2};
          break;
        case BERTOLOGY_HEAD_OUTPUTS:
        case BERTOLOGY_HEAD_OUTPUT_GRADIENTS:
          at = {0, 0, 0, {heads, config.head_dim()}, 2};
          break;
        case BERTOLOGY_ATTENTIONS:
        case BERTOLOGY_ATTENTION_ENTROPIES:
        case BERTOLOGY_ATTENTION_GRADIENTS:
          at = {0, 0, 0, {heads}, 1};
          break;
        default:
          at = {0, 0, 0, {config.hidden_size}, 1};
          break;  // states and the pooler's output
      }
      at.unit = 1;
      for (int i = 0; i < at.rank; ++i) at.unit *= at.shape[static_cast<size_t>(i)];
      at.offset = layout.used();
      at.stride = start(kind, at, examples) - at.offset;
      layout.floats(std::max(masks_, 1) * at.stride);
    }
  }
  const size_t bytes = static_cast<size_t>(layout.used()) * sizeof(float);
  if (bytes > memory_.bytes()) {
    Mapping grown(bytes + bytes / 4, "the captured activations");
    pinned_.reset();
    memory_.discard();
    if (memory_.bytes() > 0) retired_.push_back(std::move(memory_));
    memory_ = std::move(grown);
  }
  if (pinned_ == nullptr && bytes > 0)
    pinned_ = backend_->pin(memory_.data(), static_cast<int64_t>(memory_.bytes()));
}

void Activations::discard() {
  clear();
  request.accumulator.reset();
  pinned_.reset();
  memory_.discard();
}

const Activations::Placed& Activations::placed(int32_t capture, int32_t layer) const {
  const std::vector<Placed>& places = places_[static_cast<size_t>(capture)];
  const size_t index = kind_of(capture).extra_layers < 0 ? 0 : static_cast<size_t>(layer);
  return places[index];
}

int64_t Activations::start(const CaptureKind& kind, const Placed& at, int64_t example) const {
  const size_t b = static_cast<size_t>(example);
  switch (kind.extent) {
    case Extent::kExample:
      return at.offset + example * at.unit;
    case Extent::kPair:
      return at.offset + pair_offsets_[b] * at.unit;
    default:
      return at.offset + request.offsets[b] * at.unit;
  }
}

float* Activations::data(int32_t capture, int32_t layer, int64_t example, int32_t mask) const {
  const Placed& at = placed(capture, layer);
  if (at.offset < 0) return nullptr;
  return static_cast<float*>(memory_.data()) + start(kind_of(capture), at, example) +
         mask * at.stride;
}

void Activations::repeat(int32_t from_mask, int32_t to_mask) {
  for (const std::vector<Placed>& places : places_) {
    for (const Placed& at : places) {
      if (at.offset < 0) continue;
      float* first = static_cast<float*>(memory_.data()) + at.offset;
      std::memcpy(first + to_mask * at.stride, first + from_mask * at.stride,
                  static_cast<size_t>(at.stride) * sizeof(float));
    }
  }
}

int64_t Activations::count(int32_t capture, int32_t layer, int64_t first, int64_t last) const {
  const Placed& at = placed(capture, layer);
  return start(kind_of(capture), at, last) - start(kind_of(capture), at, first);
}

void Activations::view(int32_t capture, int32_t layer, int32_t example, int64_t* out) const {
  const CaptureKind& kind = kind_of(capture);
  check_argument(out != nullptr, "view: no memory to write to");
  check_argument(complete_, "the activations hold no results: run a model first");
  const int64_t layers = static_cast<int64_t>(places_[static_cast<size_t>(capture)].size());
  check_argument(kind.extra_layers < 0 || (layer >= 0 && layer < layers), "capture ", kind.name,
                 ": layer ", layer, " does not exist: there are layers 0 to ", layers - 1);
  const int64_t examples = request.examples();
  const int64_t all = examples * std::max(masks_, 1);
  if (example < -1 || example >= all) {
    fail(BERTOLOGY_INVALID_ARGUMENT, "example ", example, " does not exist: the ",
         masks_ > 0 ? text("sweep has, of ", masks_, " masks,") : text("batch has"),
         " examples 0 to ", all - 1);
  }
  const Placed& at = placed(capture, layer);
  check_argument(at.offset >= 0, "capture ", kind.name,
                 kind.extra_layers < 0 ? text() : text(" of layer ", layer), " was not asked for");
  const bool whole = example < 0;
  const int64_t first = whole ? 0 : example % examples;
  const int64_t last = whole ? examples : first + 1;
  const int64_t length =
      request.offsets[static_cast<size_t>(last)] - request.offsets[static_cast<size_t>(first)];
  out[0] = start(kind, at, first) + (whole ? 0 : example / examples * at.stride);
  out[1] = whole ? std::max(masks_, 1) * at.stride : start(kind, at, last) - start(kind, at, first);
  int64_t* shape = out + 3;
  int64_t rank = 0;
  if (whole && masks_ > 0) shape[rank++] = masks_;
  switch (kind.extent) {
    case Extent::kExample:
      if (whole) shape[rank++] = examples;
      for (int i = 0; i < at.rank; ++i) shape[rank++] = at.shape[static_cast<size_t>(i)];
      break;
    case Extent::kToken:
      shape[rank++] = length;
      for (int i = 0; i < at.rank; ++i) shape[rank++] = at.shape[static_cast<size_t>(i)];
      break;
    default:
      if (whole) {
        shape[rank++] = out[1];
        break;
      }
      shape[rank++] = at.shape[0];
      shape[rank++] = length;
      if (kind.extent == Extent::kPair) shape[rank++] = length;
      break;
  }
  for (int64_t i = rank; i < 3; ++i) shape[i] = 1;
  out[2] = rank;
}

void Activations::memory(int64_t* out) const {
  check_argument(out != nullptr, "memory: no memory to write to");
  out[0] = static_cast<int64_t>(reinterpret_cast<intptr_t>(memory_.data()));
  out[1] = static_cast<int64_t>(memory_.bytes());
}

}  // namespace bertology
