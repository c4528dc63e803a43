#include "model/host_rows.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <sstream>

#include "base/dtype.h"
#include "base/error.h"

namespace bertology {
namespace {

std::string shape_text(const int64_t* shape, size_t rank) {
  std::ostringstream out;
  out << '[';
  for (size_t i = 0; i < rank; ++i) out << (i > 0 ? ", " : "") << shape[i];
  out << ']';
  return out.str();
}

/// Not 0 for infinities and NaN. Without a branch, so that loops over it are vectors.
uint32_t not_finite(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return (bits & 0x7f800000u) == 0x7f800000u;
}

/// Calls good(first, last) for ranges of rows on the backend's threads; whether all said yes.
template <class Good>
bool all_rows(Backend& backend, int64_t rows, int64_t columns, const Good& good) {
  constexpr int64_t kTaskElements = 1 << 17;
  const int64_t step = std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, columns));
  std::atomic<bool> all{true};
  backend.on_host((rows + step - 1) / step, [&](int64_t task) {
    if (!good(task * step, std::min(rows, (task + 1) * step))) all = false;
  });
  return all;
}

}  // namespace

HostRows::HostRows(Backend& backend, const std::string& name, const bertology_tensor& tensor,
                   const std::vector<int64_t>& shape)
    : rows_(shape[0]), columns_(shape.size() == 2 ? shape[1] : 1) {
  check_argument(tensor.dtype == BERTOLOGY_FLOAT32 || tensor.dtype == BERTOLOGY_FLOAT16 ||
                     tensor.dtype == BERTOLOGY_BFLOAT16,
                 "parameter ", name, ": dtype ", tensor.dtype,
                 ", expected float32, float16 or bfloat16");
  check_argument(tensor.rank == 1 || tensor.rank == 2, "parameter ", name, ": rank ", tensor.rank,
                 ", expected 1 or 2");
  const size_t rank = static_cast<size_t>(tensor.rank);
  check_argument(rank == shape.size() && std::equal(shape.begin(), shape.end(), tensor.shape),
                 "parameter ", name, ": shape ", shape_text(tensor.shape, rank), ", expected ",
                 shape_text(shape.data(), shape.size()));
  check_argument(count() == 0 || tensor.data != nullptr, "parameter ", name, ": no data");
  if (!read(backend, tensor)) fail_not_finite(name, rank);
}

/// Whether all values are finite.
bool HostRows::read(Backend& backend, const bertology_tensor& tensor) {
  if (tensor.dtype == BERTOLOGY_FLOAT16) return copy<uint16_t>(backend, tensor, float16_to_float);
  if (tensor.dtype == BERTOLOGY_BFLOAT16) return copy<uint16_t>(backend, tensor, bfloat16_to_float);
  const bool dense =
      (columns_ == 1 || tensor.strides[1] == 1) && (rows_ == 1 || tensor.strides[0] == columns_);
  if (!dense) return copy<float>(backend, tensor, [](float value) { return value; });
  data_ = static_cast<const float*>(tensor.data);
  return all_rows(backend, rows_, columns_, [&](int64_t first, int64_t last) {
    uint32_t bad = 0;
    for (int64_t i = first * columns_; i < last * columns_; ++i) bad |= not_finite(data_[i]);
    return bad == 0;
  });
}

/// Some columns at a time, so that a transposed tensor is read from the cache.
template <class Stored, class Convert>
bool HostRows::copy(Backend& backend, const bertology_tensor& tensor, const Convert& convert) {
  constexpr int64_t kColumns = 64;
  copy_.reset(new float[static_cast<size_t>(count())]);
  data_ = copy_.get();
  const Stored* data = static_cast<const Stored*>(tensor.data);
  const int64_t row_stride = tensor.strides[0];
  const int64_t column_stride = tensor.rank == 2 ? tensor.strides[1] : 0;
  const int64_t step = column_stride > 1 ? kColumns : columns_;
  return all_rows(backend, rows_, columns_, [&](int64_t first_row, int64_t last_row) {
    uint32_t bad = 0;
    for (int64_t first = 0; first < columns_; first += step) {
      const int64_t last = std::min(columns_, first + step);
      for (int64_t r = first_row; r < last_row; ++r) {
        const Stored* row = data + r * row_stride;
        for (int64_t c = first; c < last; ++c) {
          const float value = convert(row[c * column_stride]);
          bad |= not_finite(value);
          copy_[static_cast<size_t>(r * columns_ + c)] = value;
        }
      }
    }
    return bad == 0;
  });
}

void HostRows::fail_not_finite(const std::string& name, size_t rank) const {
  const float* bad =
      std::find_if(data_, data_ + count(), [](float value) { return !std::isfinite(value); });
  const int64_t index = bad - data_;
  const int64_t place[2] = {index / columns_, index % columns_};
  fail(BERTOLOGY_INVALID_ARGUMENT, "parameter ", name, ": element ", shape_text(place, rank),
       " is ", *bad, ", expected a finite number");
}

}  // namespace bertology
