#include "base/isa.h"

#include <cstdlib>
#include <cstring>

#include "base/error.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bertology {
namespace {

#if defined(__x86_64__)
/// Whether this process may use tiles: Linux gives their registers to those who ask.
bool may_use_tiles() {
  if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-bf16")) return false;
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

Isa widest_supported() {
#if defined(__x86_64__)
  // The compiler's probe also checks that the operating system saves the wide registers.
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd")) {
    return may_use_tiles() ? Isa::kAmx : Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

}  // namespace

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::kAmx:
      return "amx";
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
  for (const Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512, Isa::kAmx}) {
    if (std::strcmp(forced, name_of(isa)) != 0) continue;
    if (isa > widest) {
      fail(BERTOLOGY_UNSUPPORTED, "BERTOLOGY_ISA=", forced, ": this processor has ",
           name_of(widest), " at most");
    }
    return {isa, "BERTOLOGY_ISA"};
  }
  fail(BERTOLOGY_INVALID_ARGUMENT, "BERTOLOGY_ISA=", forced,
       ": expected baseline, avx2, avx512 or amx");
}

}  // namespace bertology
