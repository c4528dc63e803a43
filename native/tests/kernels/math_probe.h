// The elementary functions of each instruction set, for the test.
#pragma once

#include <cstdint>

namespace bertology::cpu {

struct MathProbe {
  void (*exponential)(const float* x, float* y, int64_t count);
  void (*normal_distribution)(const float* x, float* y, int64_t count);
  void (*hyperbolic_tangent)(const float* x, float* y, int64_t count);
};

namespace baseline {
MathProbe math_probe();
}
namespace avx2 {
MathProbe math_probe();
}
namespace avx512 {
MathProbe math_probe();
}

}  // namespace bertology::cpu
