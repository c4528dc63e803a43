// Memory straight from the system: page aligned, zero-filled, given back at once when freed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bertology {

/// Bytes that this process can still take before its container or machine runs out, as far as the
/// system tells.
int64_t available_memory();

/// An anonymous mapping. Construction fails with BERTOLOGY_OUT_OF_MEMORY, naming `what`, when the
/// bytes are not there; a later page fault would kill the process instead.
class Mapping {
 public:
  Mapping() = default;
  Mapping(size_t bytes, const char* what);
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

  /// Gives the pages back to the system but keeps the addresses: they read zero.
  void discard();

  /// Gives back what lies behind the first `bytes`. Cannot fail.
  void shrink(size_t bytes) noexcept;

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace bertology
