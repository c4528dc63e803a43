// What products by packed matrices have in common.
#pragma once

#include <cstdint>

namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE {
namespace {

constexpr int64_t kLine = 64;

/// Memory that is wanted soon, fetched to the second-level cache bit by bit while something else is
/// computed. A processor's own prefetching begins with the first access: without this it waits for
/// memory at the beginning of every block.
class Ahead {
 public:
  Ahead(const void* from, int64_t bytes, int64_t steps)
      : at_(static_cast<const char*>(from)),
        end_(at_ + bytes),
        lines_((bytes + kLine * steps - 1) / (kLine * steps)) {}

  void step() {
    for (int64_t i = 0; i < lines_ && at_ < end_; ++i, at_ += kLine) __builtin_prefetch(at_, 0, 2);
  }

 private:
  const char* at_;
  const char* end_;
  int64_t lines_;  // a step
};

/// What is added to the sums of a tile. At the end: they are smaller until then, and lose less.
enum class Rest { kNone, kBias, kResult };

}  // namespace
}  // namespace bertology::cpu::BERTOLOGY_ISA_NAMESPACE
