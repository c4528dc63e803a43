// The one exception type of the core. The C functions turn it into a status code and a text.
#pragma once

#include <exception>
#include <sstream>
#include <string>
#include <utility>

#include "bertology.h"

namespace bertology {

class Error : public std::exception {
 public:
  Error(bertology_status status, std::string text) : status_(status), text_(std::move(text)) {}

  bertology_status status() const { return status_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  bertology_status status_;
  std::string text_;
};

/// Joins its arguments into one text.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  static_cast<void>((out << ... << parts));
  return out.str();
}

template <class... Parts>
[[noreturn]] void fail(bertology_status status, const Parts&... parts) {
  throw Error(status, text(parts...));
}

/// The caller's arguments: what was wrong, the value, and what was expected.
template <class... Parts>
void check_argument(bool ok, const Parts&... parts) {
  if (!ok) fail(BERTOLOGY_INVALID_ARGUMENT, parts...);
}

/// What only a fault of this library can break.
template <class... Parts>
void check_internal(bool ok, const Parts&... parts) {
  if (!ok) fail(BERTOLOGY_INTERNAL_ERROR, parts...);
}

}  // namespace bertology
