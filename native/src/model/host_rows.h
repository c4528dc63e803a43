// Values that the host hands over, checked.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bertology.h"
#include "ops/backend.h"

namespace bertology {

/// Dense float32 rows in host memory: those of a tensor where they are, if it has such, else a
/// copy.
class HostRows {
 public:
  /// Checks the tensor's shape and that every value is finite, on the backend's threads.
  HostRows(Backend& backend, const std::string& name, const bertology_tensor& tensor,
           const std::vector<int64_t>& shape);

  const float* data() const { return data_; }
  int64_t count() const { return rows_ * columns_; }

 private:
  bool read(Backend& backend, const bertology_tensor& tensor);
  template <class Stored, class Convert>
  bool copy(Backend& backend, const bertology_tensor& tensor, const Convert& convert);
  [[noreturn]] void fail_not_finite(const std::string& name, size_t rank) const;

  int64_t rows_;
  int64_t columns_;
  std::unique_ptr<float[]> copy_;
  const float* data_ = nullptr;
};

}  // namespace bertology
