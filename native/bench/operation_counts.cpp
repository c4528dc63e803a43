// Runs one operation once, in BERT-base's shape, and prints the least that it could move and
// compute: what counters of the device are held against (see cuda_report.py).
//
//   bertology_operation_counts DEVICE OPERATION DTYPE EXAMPLES LENGTH
//
// prints {"bytes": ..., "flops": ...}. Without arguments it lists the operations.
#include <cstdio>
#include <cstdlib>

#include "api/devices.h"
#include "shape.h"

namespace bertology {
namespace {

int run(int argc, char** argv) {
  if (argc != 6) {
    for (int32_t operation = 0; operation < BERTOLOGY_OPERATION_COUNT; ++operation) {
      std::printf("%s\n", operation_name(operation));
    }
    return argc == 1 ? 0 : 2;
  }
  const char* library = std::getenv("BERTOLOGY_CUDA_LIBRARY");
  if (library != nullptr) set_cuda_library(library);
  bertology_config config = bert_base();
  config.dtype = dtype_of(argv[3]);
  Operation operation(open_device(argv[1], 0), operation_of(argv[2]), Config(config),
                      std::atoi(argv[4]), std::atoi(argv[5]));
  operation.queue();
  operation.stream().synchronize();
  std::printf("{\"bytes\": %lld, \"flops\": %lld}\n",
              static_cast<long long>(operation.least_bytes()),
              static_cast<long long>(operation.least_flops()));
  return 0;
}

}  // namespace
}  // namespace bertology

int main(int argc, char** argv) {
  try {
    return bertology::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
