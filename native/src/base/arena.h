// One block of memory for a run, laid out before the run starts.
#pragma once

#include <cstdint>

#include "base/memory.h"

namespace bertology {

/// Lays buffers out behind one another. Run once without memory it measures, run again with memory
/// it places: the code that describes the buffers is the same, so size and places cannot disagree.
class Layout {
 public:
  explicit Layout(float* memory = nullptr) : memory_(memory) {}

  /// Room for `count` floats, aligned to a cache line. Null while measuring.
  float* floats(int64_t count) {
    float* place = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (count + kAlignment - 1) / kAlignment * kAlignment;
    return place;
  }

  /// Floats laid out so far.
  int64_t used() const { return used_; }

 private:
  static constexpr int64_t kAlignment = 64 / sizeof(float);
  float* memory_;
  int64_t used_ = 0;
};

/// Memory that only grows, kept from run to run.
class Arena {
 public:
  /// At least `count` floats; what was there before is lost.
  float* reserve(int64_t count, const char* what) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(float);
    if (bytes > memory_.bytes()) {
      memory_ = Mapping();  // the old block is given back before the new one is taken
      memory_ = Mapping(bytes, what);
    }
    return static_cast<float*>(memory_.data());
  }

  size_t bytes() const { return memory_.bytes(); }

 private:
  Mapping memory_;
};

}  // namespace bertology
