// The results of a run: one block of memory, laid out by capture, layer and example, and views into
// it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/memory.h"
#include "bertology/request.h"
#include "model/config.h"
#include "ops/backend.h"

namespace bertology {

class Activations {
 public:
  /// For runs on models of this device.
  explicit Activations(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}

  Request request;

  const Backend& backend() const { return *backend_; }

  /// Lays out the results of `request` and takes memory for them. head_counts: heads that each
  /// layer has.
  void prepare(const Config& config, const std::vector<int64_t>& head_counts);

  /// After the run: the results are there.
  void complete() { complete_ = true; }
  /// Forgets the results; the memory stays.
  void clear() { complete_ = false; }

  /// Gives the memory back but keeps the addresses.
  void discard();

  /// The block of a captured tensor that belongs to example `example` and those behind it, of a
  /// sweep under this mask; null if not captured.
  float* data(int32_t capture, int32_t layer, int64_t example, int32_t mask = 0) const;
  /// Gives a mask of a sweep the results of another.
  void repeat(int32_t from_mask, int32_t to_mask);
  /// Elements of the block of examples [first, last), under one mask.
  int64_t count(int32_t capture, int32_t layer, int64_t first, int64_t last) const;

  /// See bertology_activations_tensor.
  void view(int32_t capture, int32_t layer, int32_t example, int64_t* out) const;
  void memory(int64_t* out) const;

 private:
  struct Placed {
    int64_t offset = -1;                // in floats; -1: not captured
    int64_t unit = 0;                   // elements an example, a token, a pair
    int64_t stride = 0;                 // from one mask of a sweep to the next
    std::array<int64_t, 2> shape = {};  // the sizes that do not depend on the example
    int rank = 0;
  };

  const Placed& placed(int32_t capture, int32_t layer) const;
  int64_t start(const CaptureKind& kind, const Placed& at, int64_t example) const;

  std::shared_ptr<Backend> backend_;
  bool complete_ = false;
  int32_t masks_ = 0;  // of the sweep; 0: it was none
  std::vector<int64_t> pair_offsets_;
  std::array<std::vector<Placed>, BERTOLOGY_CAPTURE_COUNT> places_;
  Mapping memory_;
  std::unique_ptr<PinnedMemory> pinned_;  // goes before the memory that it pins
  std::vector<Mapping>
      retired_;  // outgrown: no pages, but the addresses stay taken while views may exist
};

}  // namespace bertology
