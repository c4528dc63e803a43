// Runs one operation once, in BERT-base's shape, and prints the least that it could move and
// compute: what counters of the device are held against (see cuda_report.py).
//
//   bertology_operation_counts DEVICE OPERATION DTYPE EXAMPLES LENGTH
//
// prints {"bytes": ..., "flops": ...}. Without arguments it lists the operations.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "api/devices.h"
#include "base/error.h"
#include "bertology/operations.h"

namespace bertology {
namespace {

bertology_config bert_base() {
  bertology_config config = {};
  config.num_hidden_layers = 12;
  config.num_attention_heads = 12;
  config.hidden_size = 768;
  config.intermediate_size = 3072;
  config.vocab_size = 30522;
  config.max_position_embeddings = 512;
  config.type_vocab_size = 2;
  config.layer_norm_eps = 1e-12f;
  return config;
}

DType dtype_of(const std::string& name) {
  for (const DType dtype : {BERTOLOGY_FLOAT32, BERTOLOGY_FLOAT16, BERTOLOGY_BFLOAT16}) {
    if (name == name_of(dtype)) return dtype;
  }
  fail(BERTOLOGY_INVALID_ARGUMENT, "dtype: \"", name, "\"");
}

int32_t operation_of(const std::string& name) {
  for (int32_t operation = 0; operation < BERTOLOGY_OPERATION_COUNT; ++operation) {
    if (name == operation_name(operation)) return operation;
  }
  fail(BERTOLOGY_INVALID_ARGUMENT, "operation: \"", name, "\"");
}

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
