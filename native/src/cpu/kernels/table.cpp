#include "cpu/kernels/table.h"

#include "cpu/kernels/kernels.h"

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {

const Kernels& table() {
  static constexpr Kernels kernels = {
    embedding_forward,
    layer_norm_forward,
    layer_norm_backward,
    activate,
    activation_backward,
    attention_forward,
    attention_forward_scratch,
    attention_backward,
    attention_backward_scratch,
    cross_entropy,
    add_scaled,
    dot,
    packed_floats,
    pack,
    unpack,
    multiply,
#if defined(__AVX512F__)
    tiled_elements,
    pack_tiles,
    unpack_tiles,
    multiply_tiles,
#else
    nullptr,
    nullptr,
    nullptr,
    nullptr,
#endif
    to_bfloat16,
  };
  return kernels;
}

}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
