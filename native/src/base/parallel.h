// A pool of threads that any number of callers share.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace bertology {

/// Processors that this process may use: its affinity mask, cut to the control group's quota. `why`
/// says which.
int usable_processors(std::string* why);

class ThreadPool {
 public:
  /// `body(task, worker)`: worker is in [0, threads()), and no two threads have the same one within
  /// a call.
  using Body = std::function<void(int64_t task, int worker)>;

  /// `on_start` runs once in every thread of the pool. Fails with BERTOLOGY_OUT_OF_MEMORY if the
  /// system has no more threads.
  ThreadPool(int threads, std::function<void()> on_start);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Runs `body` for every task in [0, tasks), in ascending order of start, and returns when all
  /// have ended. The caller works too. Calls from several threads share the pool. The first
  /// exception of a task is thrown here, after the tasks already started have ended; the others are
  /// not started.
  void run(int64_t tasks, const Body& body);

 private:
  struct Job;

  void stop();
  void work();
  static void take_part(Job& job);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Job*> jobs_;          // with tasks left, oldest first
  std::atomic<int64_t> posted_{0};  // jobs ever posted, for workers that spin
  bool stopping_ = false;
};

}  // namespace bertology
