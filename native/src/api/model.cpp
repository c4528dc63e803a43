#include <algorithm>

#include "api/guard.h"
#include "api/handles.h"

using namespace bertology;

extern "C" {

int bertology_model_create(bertology_device* device, const bertology_config* config,
                           bertology_model** model) {
  return guarded([&] {
    check_argument(config != nullptr && model != nullptr,
                   "model_create: config and model must be given");
    *model = new bertology_model{Model(checked(device, "device").backend, *config)};
  });
}

void bertology_model_free(bertology_model* model) { delete model; }

int bertology_model_set_parameter(bertology_model* model, const char* name,
                                  const bertology_tensor* value) {
  return guarded([&] {
    check_argument(name != nullptr && value != nullptr,
                   "set_parameter: name and value must be given");
    checked(model, "model").model.set_parameter(name, *value);
  });
}

int bertology_model_set_classifier_shape(bertology_model* model, int32_t num_labels,
                                         int32_t pooling) {
  return guarded([&] { checked(model, "model").model.set_classifier_shape(num_labels, pooling); });
}

int bertology_model_size(bertology_model* model, int64_t* parameters, int64_t* bytes) {
  return guarded([&] {
    check_argument(parameters != nullptr && bytes != nullptr,
                   "model_size: parameters and bytes must be given");
    checked(model, "model").model.size(parameters, bytes);
  });
}

int bertology_model_prune_heads(bertology_model* model, int32_t count, const int32_t* layers,
                                const int32_t* heads) {
  return guarded([&] { checked(model, "model").model.prune_heads(count, layers, heads); });
}

int bertology_model_restore_heads(bertology_model* model, int32_t count, const int32_t* layers,
                                  const int32_t* heads, int32_t layer_count,
                                  const int32_t* tensor_layers, const bertology_tensor* tensors) {
  return guarded([&] {
    check_argument(
        layer_count >= 0 && (layer_count == 0 || (tensor_layers != nullptr && tensors != nullptr)),
        "restore_heads: tensors of ", layer_count, " layers, but none are given");
    checked(model, "model")
        .model.restore_heads(count, layers, heads, layer_count, tensor_layers, tensors);
  });
}

int bertology_model_heads(bertology_model* model, int32_t layer, int32_t* heads, int32_t* count) {
  return guarded([&] {
    check_argument(heads != nullptr && count != nullptr,
                   "model_heads: heads and count must be given");
    const std::vector<int32_t> present = checked(model, "model").model.heads(layer);
    std::copy(present.begin(), present.end(), heads);
    *count = static_cast<int32_t>(present.size());
  });
}

int bertology_model_run(bertology_model* model, bertology_activations* activations) {
  return guarded(
      [&] { checked(model, "model").model.run(checked(activations, "activations").activations); });
}

}  // extern "C"
