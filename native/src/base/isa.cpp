#include "base/isa.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bertology {
namespace {

Isa widest_of_processor() {
#if defined(__x86_64__)
  // The compiler's probe also checks that the operating system saves the wide registers.
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd")) {
    const bool tiles = __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16");
    return tiles ? Isa::kAmx : Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

/// Asks for the registers of tiles, which Linux gives to those processes that do; why not, or
/// nothing. From then on the process needs larger alternate stacks for signals.
std::string request_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) return "";
  return text("the system refuses amx: ", std::strerror(errno));
#else
  return "the system has no amx";
#endif
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
  const Isa widest = widest_of_processor();
  const char* forced = std::getenv("BERTOLOGY_ISA");
  if (forced == nullptr || *forced == '\0') {
    if (widest < Isa::kAmx) return {widest, "the widest that this processor has"};
    const std::string problem = request_tiles();
    if (problem.empty()) return {widest, "the widest that this processor has"};
    return {Isa::kAvx512, problem};
  }
  for (const Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512, Isa::kAmx}) {
    if (std::strcmp(forced, name_of(isa)) != 0) continue;
    if (isa > widest) {
      fail(BERTOLOGY_UNSUPPORTED, "BERTOLOGY_ISA=", forced, ": this processor has ",
           name_of(widest), " at most");
    }
    const std::string problem = isa == Isa::kAmx ? request_tiles() : "";
    if (!problem.empty()) fail(BERTOLOGY_UNSUPPORTED, "BERTOLOGY_ISA=", forced, ": ", problem);
    return {isa, "BERTOLOGY_ISA"};
  }
  fail(BERTOLOGY_INVALID_ARGUMENT, "BERTOLOGY_ISA=", forced,
       ": expected baseline, avx2, avx512 or amx");
}

}  // namespace bertology
