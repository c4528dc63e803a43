// What the opaque handles of the C header are.
#pragma once

#include <memory>

#include "bertology/accumulator.h"
#include "bertology/activations.h"
#include "model/model.h"
#include "ops/backend.h"

struct bertology_device {
  std::shared_ptr<bertology::Backend> backend;
};

struct bertology_model {
  bertology::Model model;
};

struct bertology_accumulator {
  std::shared_ptr<bertology::Accumulator> accumulator;  // shared with runs that add to it
};

struct bertology_activations {
  bertology::Activations activations;
};
