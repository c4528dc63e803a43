// The functions of Kernels, as one instruction set has them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/kernels/packed.h"
#include "ops/activation.h"
#include "ops/attention.h"
#include "ops/embedding.h"
#include "ops/layer_norm.h"
#include "ops/loss.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {

void embedding_forward(const EmbeddingForward& op, int64_t begin, int64_t end);
void layer_norm_forward(const LayerNormForward& op, int64_t begin, int64_t end);
void layer_norm_backward(const LayerNormBackward& op, int64_t begin, int64_t end);
void activate(Activation activation, const float* input, float* output, int64_t count);
void activation_backward(Activation activation, const float* preactivation, float* gradient,
                         int64_t count);
void attention_forward(const AttentionForward& op, int64_t sequence, int64_t head, float* scratch);
int64_t attention_forward_scratch(int64_t keys, int64_t head_dim);
void attention_backward(const AttentionBackward& op, int64_t sequence, int64_t head,
                        float* scratch);
int64_t attention_backward_scratch(int64_t keys, int64_t head_dim);
void cross_entropy(const CrossEntropy& op, int64_t begin, int64_t end);
void add_scaled(const float* input, float scale, float* output, int64_t count);
float dot(const float* a, const float* b, int64_t count);
int64_t packed_floats(int64_t depth, int64_t columns);
void pack(const PlainMatrix& plain, float* packed);
void unpack(const float* packed, const PlainMatrix& plain);
void multiply(const PackedProduct<float>& op);
#if defined(__AVX512F__)
int64_t tiled_elements(int64_t depth, int64_t columns);
void pack_tiles(const PlainMatrix& plain, uint16_t* packed);
void unpack_tiles(const uint16_t* packed, const PlainMatrix& plain);
void multiply_tiles(const PackedProduct<uint16_t>& op);
#endif
void to_bfloat16(const float* input, uint16_t* output, int64_t count);

}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
