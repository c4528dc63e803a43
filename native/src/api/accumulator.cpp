#include "api/guard.h"
#include "api/handles.h"

using namespace bertology;

extern "C" {

int bertology_accumulator_create(bertology_device* device, int32_t layers, int32_t heads,
                                 bertology_accumulator** accumulator) {
  return guarded([&] {
    check_argument(accumulator != nullptr, "accumulator is null");
    *accumulator = new bertology_accumulator{
        std::make_shared<Accumulator>(checked(device, "device").backend, layers, heads)};
  });
}

void bertology_accumulator_free(bertology_accumulator* accumulator) { delete accumulator; }

int bertology_accumulator_reset(bertology_accumulator* accumulator) {
  return guarded([&] { checked(accumulator, "accumulator").accumulator->reset(); });
}

int bertology_accumulator_read(bertology_accumulator* accumulator, double* sums, int64_t count,
                               int64_t* examples, int64_t* tokens) {
  return guarded([&] {
    checked(accumulator, "accumulator").accumulator->read(sums, count, examples, tokens);
  });
}

int bertology_activations_set_accumulator(bertology_activations* activations,
                                          bertology_accumulator* accumulator) {
  return guarded([&] {
    checked(activations, "activations").activations.request.accumulator =
        accumulator == nullptr ? nullptr : accumulator->accumulator;
  });
}

}  // extern "C"
