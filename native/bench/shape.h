// What the measurements of single operations have in common: BERT-base's shape, and names.
#pragma once

#include <string>

#include "base/error.h"
#include "bertology/operations.h"

namespace bertology {

inline bertology_config bert_base() {
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

inline DType dtype_of(const std::string& name) {
  for (const DType dtype : {BERTOLOGY_FLOAT32, BERTOLOGY_FLOAT16, BERTOLOGY_BFLOAT16}) {
    if (name == name_of(dtype)) return dtype;
  }
  fail(BERTOLOGY_INVALID_ARGUMENT, "dtype: \"", name, "\"");
}

inline int32_t operation_of(const std::string& name) {
  for (int32_t operation = 0; operation < BERTOLOGY_OPERATION_COUNT; ++operation) {
    if (name == operation_name(operation)) return operation;
  }
  fail(BERTOLOGY_INVALID_ARGUMENT, "operation: \"", name, "\"");
}

}  // namespace bertology
