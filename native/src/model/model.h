// A model on a device: its weights, what may be done to them, and runs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/shared_mutex.h"
#include "bertology/activations.h"
#include "model/config.h"
#include "model/weights.h"

namespace bertology {

class Model {
 public:
  Model(std::shared_ptr<Backend> backend, const bertology_config& config);

  void set_parameter(const std::string& name, const bertology_tensor& value);
  void set_classifier_shape(int32_t num_labels, int32_t pooling);
  void size(int64_t* parameters, int64_t* bytes) const;
  std::vector<int32_t> heads(int32_t layer) const;

  // pruning.cpp
  void prune_heads(int32_t count, const int32_t* layers, const int32_t* heads);
  void restore_heads(int32_t count, const int32_t* layers, const int32_t* heads,
                     int32_t layer_count, const int32_t* tensor_layers,
                     const bertology_tensor* tensors);

  /// Runs what the activations ask for.
  void run(Activations& activations) const;

 private:
  void check_runnable(const Request& request) const;
  void check_pruned_heads(const std::vector<float>& masks) const;

  Config config_;
  Weights weights_;
  std::string broken_;  // why the model cannot be run any more; empty: it can
  /// Runs share it; whoever changes the model holds it alone.
  mutable FairSharedMutex mutex_;
};

}  // namespace bertology
