// A shared mutex that whoever wants it alone gets, however many share it without a pause.
#pragma once

#include <mutex>
#include <shared_mutex>

namespace bertology {

/// std::shared_mutex lets new sharers in before one who waits to have it alone, so that a busy
/// model could never be changed. Here both wait at the same gate. For std::shared_lock and
/// std::unique_lock.
class FairSharedMutex {
 public:
  void lock() {
    const std::lock_guard<std::mutex> at_gate(gate_);
    mutex_.lock();
  }
  void unlock() { mutex_.unlock(); }
  void lock_shared() {
    const std::lock_guard<std::mutex> at_gate(gate_);
    mutex_.lock_shared();
  }
  void unlock_shared() { mutex_.unlock_shared(); }

 private:
  std::mutex gate_;
  std::shared_mutex mutex_;
};

}  // namespace bertology
