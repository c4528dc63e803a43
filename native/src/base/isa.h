// Which vector instructions the CPU kernels use.
#pragma once

#include <string>

namespace bertology {

/// Each has what those before it have. AMX is AVX-512 and tiles, which multiply bfloat16.
enum class Isa { kBaseline = 0, kAvx2 = 1, kAvx512 = 2, kAmx = 3 };

/// "baseline", "avx2", "avx512" or "amx".
const char* name_of(Isa isa);

struct IsaChoice {
  Isa isa;
  std::string why;
};

/// The widest set that the processor and the operating system support, or the one that the
/// environment variable BERTOLOGY_ISA names. Throws if that one is unknown or not supported.
IsaChoice choose_isa();

}  // namespace bertology
