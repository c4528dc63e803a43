#include "cpu/kernels/kernels.h"

namespace bertology::cpu {

// Each is defined in table.cpp, compiled for its instruction set.
namespace baseline {
const Kernels& table();
}
#if defined(__x86_64__)
namespace avx2 {
const Kernels& table();
}
namespace avx512 {
const Kernels& table();
}
#endif

const Kernels& kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAmx:
    case Isa::kAvx512:
      return avx512::table();
    case Isa::kAvx2:
      return avx2::table();
#endif
    default:
      return baseline::table();
  }
}

}  // namespace bertology::cpu
