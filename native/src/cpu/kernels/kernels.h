// The vector kernels of the CPU, compiled once for each instruction set.
//
// Each function takes an operation and the part of it to do, so that the caller decides how work
// spreads over threads.
#pragma once

#include <cstdint>

#include "base/isa.h"
#include "cpu/kernels/packed.h"
#include "ops/activation.h"
#include "ops/attention.h"
#include "ops/embedding.h"
#include "ops/layer_norm.h"
#include "ops/loss.h"

namespace bertology::cpu {

struct Kernels {
  void (*embedding_forward)(const EmbeddingForward& op, int64_t begin, int64_t end);
  void (*layer_norm_forward)(const LayerNormForward& op, int64_t begin, int64_t end);
  void (*layer_norm_backward)(const LayerNormBackward& op, int64_t begin, int64_t end);

  /// output[i] = activation(input[i]); may be the same memory
  void (*activate)(Activation activation, const float* input, float* output, int64_t count);
  /// gradient[i] *= activation'(preactivation[i])
  void (*activation_backward)(Activation activation, const float* preactivation, float* gradient,
                              int64_t count);

  /// One head of one sequence. scratch: attention_forward_scratch floats, aligned to a cache line.
  void (*attention_forward)(const AttentionForward& op, int64_t sequence, int64_t head,
                            float* scratch);
  int64_t (*attention_forward_scratch)(int64_t keys, int64_t head_dim);
  void (*attention_backward)(const AttentionBackward& op, int64_t sequence, int64_t head,
                             float* scratch);
  int64_t (*attention_backward_scratch)(int64_t keys, int64_t head_dim);

  void (*cross_entropy)(const CrossEntropy& op, int64_t begin, int64_t end);

  /// output[i] += scale input[i]
  void (*add_scaled)(const float* input, float scale, float* output, int64_t count);
  float (*dot)(const float* a, const float* b, int64_t count);

  /// Products by matrices packed in blocks of columns: how many floats one takes, from plain and
  /// back, and the product.
  int64_t (*packed_floats)(int64_t depth, int64_t columns);
  void (*pack)(const PlainMatrix& plain, float* packed);
  void (*unpack)(const float* packed, const PlainMatrix& plain);
  void (*multiply)(const PackedProduct<float>& op);

  /// The same of bfloat16 by the processor's tiles (AMX); null where kernels are compiled for
  /// less than AVX-512, and only to be called with Isa::kAmx.
  int64_t (*tiled_elements)(int64_t depth, int64_t columns);
  void (*pack_tiles)(const PlainMatrix& plain, uint16_t* packed);
  void (*unpack_tiles)(const uint16_t* packed, const PlainMatrix& plain);
  void (*multiply_tiles)(const PackedProduct<uint16_t>& op);

  /// Rounds to nearest even.
  void (*to_bfloat16)(const float* input, uint16_t* output, int64_t count);
};

const Kernels& kernels(Isa isa);

}  // namespace bertology::cpu
