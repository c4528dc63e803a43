// Runs one operation once, in BERT-base's shape, and prints the least that it could move and
// compute: what counters of the device are held against (see cuda_report.py).
//
//   bertology_operation_counts DEVICE OPERATION DTYPE EXAMPLES LENGTH
//
// prints {"bytes": ..., "flops": ...}: every operand read once, every result written once, the
// arithmetic of products. Without arguments it lists the operations.
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "api/devices.h"
#include "base/error.h"
#include "operations.h"

namespace bertology {
namespace {

int run(int argc, char** argv) {
  if (argc != 6) {
    for (const auto& [name, body] : operations()) std::printf("%s\n", name.c_str());
    return argc == 1 ? 0 : 2;
  }
  const auto operation = operations().find(argv[2]);
  check_argument(operation != operations().end(), "operation: \"", argv[2], "\"");
  const char* library = std::getenv("BERTOLOGY_CUDA_LIBRARY");
  if (library != nullptr) set_cuda_library(library);
  Bench bench(open_device(argv[1], 0), dtype_of(argv[3]), std::atoll(argv[4]), std::atoll(argv[5]));
  const Operation ready = operation->second(bench);
  ready.run();
  bench.stream().synchronize();
  const Least least = ready.least;
  std::printf("{\"bytes\": %lld, \"flops\": %lld}\n", static_cast<long long>(least.bytes),
              static_cast<long long>(least.flops));
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
