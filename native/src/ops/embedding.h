// Sum of word, position and segment embeddings, normalised where the model normalises it.
#pragma once

#include <cstdint>

namespace bertology {

class Stream;

struct EmbeddingForward {
  int64_t tokens = 0;
  int64_t width = 0;
  const int32_t* input_ids = nullptr;       // [tokens], device, checked by the caller
  const int32_t* position_ids = nullptr;    // [tokens]
  const int32_t* token_type_ids = nullptr;  // [tokens]
  const float* word = nullptr;              // [vocab_size, width]
  const float* position = nullptr;          // [max_position_embeddings, width]
  const float* token_type = nullptr;        // [type_vocab_size, width], null for none
  const float* gamma = nullptr;             // [width], null: the sum is not normalised
  const float* beta = nullptr;              // [width]
  float eps = 0;
  float* output = nullptr;  // [tokens, width]
};

void embedding_forward(Stream& stream, const EmbeddingForward& op);

}  // namespace bertology
