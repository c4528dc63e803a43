#include "base/isa.h"

#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace bertology {
namespace {

Isa widest_supported() {
#if defined(__x86_64__)
  // The compiler's probe also checks that the operating system saves the wide registers.
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd")) {
    return Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

}  // namespace

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "baseline";
  }
}

IsaChoice choose_isa() {
  const Isa widest = widest_supported();
  const char* forced = std::getenv("BERTOLOGY_ISA");
  if (forced == nullptr || *forced == '\0') return {widest, "the widest that this processor has"};
  for (const Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512}) {
    if (std::strcmp(forced, name_of(isa)) != 0) continue;
    if (isa > widest) {
      fail(BERTOLOGY_UNSUPPORTED, "BERTOLOGY_ISA=", forced, ": this processor has ",
           name_of(widest), " at most");
    }
    return {isa, "BERTOLOGY_ISA"};
  }
  fail(BERTOLOGY_INVALID_ARGUMENT, "BERTOLOGY_ISA=", forced, ": expected baseline, avx2 or avx512");
}

}  // namespace bertology
