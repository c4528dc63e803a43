#include "api/guard.h"
#include "api/handles.h"

using namespace bertology;

extern "C" {

int bertology_activations_create(bertology_device* device, bertology_activations** activations) {
  return guarded([&] {
    const bertology_device& opened = checked(device, "device");
    check_argument(activations != nullptr, "activations is null");
    *activations = new bertology_activations{bertology::Activations(opened.backend)};
  });
}

void bertology_activations_free(bertology_activations* activations) { delete activations; }

int bertology_activations_discard(bertology_activations* activations) {
  return guarded([&] { checked(activations, "activations").activations.discard(); });
}

int bertology_activations_set_batch(bertology_activations* activations, int32_t examples,
                                    const int64_t* offsets, const int32_t* input_ids,
                                    const int32_t* token_type_ids) {
  return guarded([&] {
    Activations& target = checked(activations, "activations").activations;
    target.clear();
    target.request.set_batch(examples, offsets, input_ids, token_type_ids);
  });
}

int bertology_activations_set_labels(bertology_activations* activations, int32_t loss,
                                     const int32_t* labels, int64_t count) {
  return guarded([&] {
    checked(activations, "activations").activations.request.set_labels(loss, labels, count);
  });
}

int bertology_activations_set_targets(bertology_activations* activations, const float* targets,
                                      int64_t count) {
  return guarded(
      [&] { checked(activations, "activations").activations.request.set_targets(targets, count); });
}

int bertology_activations_set_head_mask(bertology_activations* activations, const float* head_mask,
                                        int64_t count, int32_t masked_gradients) {
  return guarded([&] {
    checked(activations, "activations")
        .activations.request.set_head_mask(head_mask, count, masked_gradients != 0);
  });
}

int bertology_activations_set_head_masks(bertology_activations* activations,
                                         const float* head_masks, int32_t masks, int64_t count) {
  return guarded([&] {
    checked(activations, "activations")
        .activations.request.set_head_masks(head_masks, masks, count);
  });
}

int bertology_activations_capture(bertology_activations* activations, int32_t capture,
                                  const int32_t* layers, int32_t count) {
  return guarded([&] {
    checked(activations, "activations").activations.request.add_capture(capture, layers, count);
  });
}

int bertology_activations_tensor(bertology_activations* activations, int32_t capture, int32_t layer,
                                 int32_t example, int64_t* view) {
  return guarded(
      [&] { checked(activations, "activations").activations.view(capture, layer, example, view); });
}

int bertology_activations_memory(bertology_activations* activations, int64_t* memory) {
  return guarded([&] { checked(activations, "activations").activations.memory(memory); });
}

}  // extern "C"
