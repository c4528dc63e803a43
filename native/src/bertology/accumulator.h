// Fused gradient accumulation: sums of the heads' gradients over many runs, on the device.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "bertology.h"
#include "ops/backend.h"

namespace bertology {

class Accumulator {
 public:
  Accumulator(std::shared_ptr<Backend> backend, int32_t layers, int32_t heads);

  const Backend& backend() const { return *backend_; }
  int32_t layers() const { return layers_; }
  int32_t heads() const { return heads_; }
  /// Numbers that it and each run's own sums have: [layers, heads, kHeadSums].
  int64_t count() const { return int64_t{layers_} * heads_ * kHeadSums; }

  void reset();

  /// Memory for a run that will add, to be taken before it starts.
  std::unique_ptr<DeviceMemory> room();
  /// Adds the sums of a run that is queued on the stream, and waits for it. If that fails, nothing
  /// is added. room: what room() gave to the run.
  void add(Stream& stream, const double* run_sums, std::unique_ptr<DeviceMemory> room,
           int64_t examples, int64_t tokens);

  /// See bertology_accumulator_read.
  void read(double* sums, int64_t count, int64_t* examples, int64_t* tokens) const;

 private:
  int64_t bytes() const { return count() * static_cast<int64_t>(sizeof(double)); }
  std::unique_ptr<DeviceMemory> allocate() const;

  std::shared_ptr<Backend> backend_;
  int32_t layers_;
  int32_t heads_;
  mutable std::mutex mutex_;  // held while a run adds
  std::unique_ptr<DeviceMemory> sums_;
  std::unique_ptr<DeviceMemory> replaced_;  // room for the next run, if there is any
  int64_t examples_ = 0;
  int64_t tokens_ = 0;
};

}  // namespace bertology
