#include "model/slice.h"

namespace bertology {

std::vector<std::pair<int64_t, int64_t>> slice_ranges(const Request& request, int64_t tokens) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  const std::vector<int64_t>& offsets = request.offsets;
  int64_t first = 0;
  for (int64_t b = 1; b <= request.examples(); ++b) {
    const bool end = b == request.examples();
    if (end || offsets[static_cast<size_t>(b) + 1] - offsets[static_cast<size_t>(first)] > tokens) {
      ranges.emplace_back(first, b);
      first = b;
    }
  }
  return ranges;
}

Slice::Slice(const Config& config, const Plan& plan, Activations& activations, int64_t first,
             int64_t last)
    : activations_(activations), first_(first), last_(last) {
  const Request& request = activations.request;
  const int64_t* batch_offsets = request.offsets.data() + first;
  const int64_t first_token = batch_offsets[0];
  const bool labels_tokens = request.predicts_tokens();

  offsets_.push_back(0);
  pair_offsets_.push_back(0);
  row_offsets_.push_back(0);
  predicted_offsets_.push_back(0);
  for (int64_t b = 0; b < examples(); ++b) {
    const int64_t start = batch_offsets[b] - first_token;
    const int64_t length = batch_offsets[b + 1] - batch_offsets[b];
    const int64_t pooled = config.pooling == BERTOLOGY_LAST ? length - 1 : 0;
    int64_t labelled = 0;
    for (int64_t i = 0; i < length; ++i) {
      position_ids_.push_back(static_cast<int32_t>(i));
      const int32_t label = labels_tokens ? request.token_label(first + b, batch_offsets[b] + i)
                                          : static_cast<int32_t>(BERTOLOGY_IGNORED_LABEL);
      const bool has_label = label != BERTOLOGY_IGNORED_LABEL;
      labelled += has_label;
      const int64_t row = static_cast<int64_t>(row_index_.size());
      if (!plan.some_rows || (plan.predicts ? has_label : i == pooled))
        row_index_.push_back(start + i);
      if (!plan.predicts || !(plan.predicts_all || has_label)) continue;
      predicted_.push_back(row);
      if (labels_tokens) token_labels_.push_back(label);
    }
    labelled_.push_back(labelled);
    offsets_.push_back(start + length);
    pair_offsets_.push_back(pair_offsets_.back() + length * length);
    row_offsets_.push_back(static_cast<int64_t>(row_index_.size()));
    predicted_offsets_.push_back(predicted());
    if (labels_tokens)
      token_weights_.resize(predicted_.size(), 1.0f / static_cast<float>(labelled));
  }
  tokens = {examples(), offsets_.data(), pair_offsets_.data(), nullptr, nullptr};
  rows = {examples(), row_offsets_.data(), pair_offsets_.data(), nullptr, nullptr};

  const int64_t token_count = tokens.rows();
  const int64_t row_count = rows.rows();
  mirror(offsets_.data(), examples() + 1, &tokens.device_offsets);
  mirror(pair_offsets_.data(), examples() + 1, &tokens.device_pair_offsets);
  mirror(row_offsets_.data(), examples() + 1, &rows.device_offsets);
  mirror(pair_offsets_.data(), examples() + 1, &rows.device_pair_offsets);
  mirror(request.input_ids.data() + first_token, token_count, &input_ids);
  mirror(request.token_type_ids.data() + first_token, token_count, &token_type_ids);
  mirror(position_ids_.data(), token_count, &position_ids);
  mirror(row_index_.data(), row_count, &row_index);
  if (request.loss == BERTOLOGY_CLASSIFICATION)
    mirror(request.labels.data() + first, examples(), &labels);
  if (request.loss == BERTOLOGY_REGRESSION)
    mirror(request.targets.data() + first, examples(), &targets);
  mirror(predicted_.data(), predicted(), &predicted_rows);
  if (labels_tokens) {
    mirror(token_labels_.data(), predicted(), &token_labels);
    mirror(token_weights_.data(), predicted(), &token_weights);
  }
  const size_t layers = static_cast<size_t>(config.num_hidden_layers) + 1;
  capture_copies_.assign(BERTOLOGY_CAPTURE_COUNT, std::vector<float*>(layers, nullptr));
}

template <class T>
void Slice::mirror(const T* host, int64_t count, const T** device) {
  *device = host;
  mirrored_.push_back(
      {host, count * static_cast<int64_t>(sizeof(T)), reinterpret_cast<const void**>(device)});
}

/// Calls use(capture, layer) for all that is captured.
template <class Use>
void Slice::each_capture(const Use& use) const {
  for (int32_t capture = 0; capture < BERTOLOGY_CAPTURE_COUNT; ++capture) {
    const int32_t extra_layers = kind_of(capture).extra_layers;
    const int32_t layers =
        static_cast<int32_t>(capture_copies_[static_cast<size_t>(capture)].size()) - 1;
    for (int32_t l = 0; l < (extra_layers < 0 ? 1 : layers + extra_layers); ++l) {
      if (captures(capture, l)) use(capture, l);
    }
  }
}

void Slice::place(Layout& layout, bool shares_host_memory) {
  shares_host_memory_ = shares_host_memory;
  if (shares_host_memory) return;
  for (Mirrored& array : mirrored_) {
    array.copy = layout.floats((array.bytes + static_cast<int64_t>(sizeof(float)) - 1) /
                               static_cast<int64_t>(sizeof(float)));
  }
  each_capture([&](int32_t capture, int32_t l) {
    capture_copies_[static_cast<size_t>(capture)][static_cast<size_t>(l)] =
        layout.floats(activations_.count(capture, l, first_, last_));
  });
}

void Slice::upload(Stream& stream) {
  if (shares_host_memory_) return;
  for (const Mirrored& array : mirrored_) {
    stream.to_device(array.copy, array.host, array.bytes);
    *array.device = array.copy;
  }
}

int64_t Slice::staged_bytes(const Stream& stream) const {
  if (shares_host_memory_) return 0;
  int64_t bytes = staged_result_bytes(stream);
  for (const Mirrored& array : mirrored_) bytes += stream.staged_bytes(array.host, array.bytes);
  return bytes;
}

int64_t Slice::staged_result_bytes(const Stream& stream) const {
  if (shares_host_memory_) return 0;
  int64_t bytes = 0;
  each_capture([&](int32_t capture, int32_t l) {
    bytes += stream.staged_bytes(result(capture, l), bytes_of(capture, l));
  });
  return bytes;
}

float* Slice::target(int32_t capture, int32_t layer, float* otherwise) const {
  if (!captures(capture, layer)) return otherwise;
  if (shares_host_memory_) return result(capture, layer);
  return capture_copies_[static_cast<size_t>(capture)][static_cast<size_t>(layer)];
}

void Slice::publish(Stream& stream, int32_t capture, int32_t layer) const {
  if (shares_host_memory_ || !captures(capture, layer)) return;
  stream.to_host(result(capture, layer), target(capture, layer, nullptr), bytes_of(capture, layer));
}

}  // namespace bertology
