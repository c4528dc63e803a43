// Every C function goes through one guard: no exception leaves the library, every failure leaves a
// text.
#pragma once

#include <new>
#include <string>

#include "base/error.h"

namespace bertology {

/// Remembers the text for bertology_last_error() and returns the status.
int set_last_error(bertology_status status, const char* text) noexcept;

template <class Body>
int guarded(const Body& body) noexcept {
  try {
    body();
    return BERTOLOGY_OK;
  } catch (const Error& error) {
    return set_last_error(error.status(), error.what());
  } catch (const std::bad_alloc&) {
    return set_last_error(BERTOLOGY_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return set_last_error(BERTOLOGY_INTERNAL_ERROR, error.what());
  } catch (...) {
    return set_last_error(BERTOLOGY_INTERNAL_ERROR, "an unknown exception");
  }
}

/// The object behind a handle.
template <class T>
T& checked(T* handle, const char* name) {
  check_argument(handle != nullptr, name, " is null");
  return *handle;
}

}  // namespace bertology
