#include "base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <fstream>
#include <system_error>

#include "base/error.h"

namespace bertology {
namespace {

// How long a worker looks for the next job before it sleeps: the operations of a pass follow one
// another within microseconds, a sleep costs tens of them.
constexpr int kSpins = 2000;

inline void pause_processor() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Processors by the control group's quota, 0 if there is none.
double cgroup_processors() {
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  double quota = 0;
  double period = 0;
  if (v2 >> quota >> period && period > 0) return quota / period;
  std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (v1_quota >> quota && v1_period >> period && quota > 0 && period > 0) return quota / period;
  return 0;
}

}  // namespace

int usable_processors(std::string* why) {
  cpu_set_t set;
  CPU_ZERO(&set);
  int processors = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof set, &set) == 0) processors = CPU_COUNT(&set);
  processors = std::max(1, processors);
  *why = text(processors, " processors in the affinity mask");
  const double quota = cgroup_processors();
  if (quota > 0 && quota < processors) {
    processors = std::max(1, static_cast<int>(std::ceil(quota)));
    *why = text("control group quota of ", quota, " processors");
  }
  return processors;
}

struct ThreadPool::Job {
  Job(int64_t tasks, const Body& body, int limit) : tasks(tasks), body(body), limit(limit) {}

  const int64_t tasks;
  const Body& body;
  const int limit;               // threads that may take part
  std::atomic<int64_t> next{0};  // first task that nobody has taken
  std::atomic<int> joined{0};    // threads that ever took part
  std::atomic<int> active{0};    // threads that take part now
  std::atomic<bool> failed{false};
  std::exception_ptr error;  // of the thread that set `failed`
};

ThreadPool::ThreadPool(int threads, std::function<void()> on_start) {
  workers_.reserve(static_cast<size_t>(std::max(0, threads - 1)));
  try {
    for (int i = 1; i < threads; ++i) {
      workers_.emplace_back([this, on_start] {
        on_start();
        work();
      });
    }
  } catch (const std::system_error& error) {
    const size_t started = workers_.size();
    stop();
    fail(BERTOLOGY_OUT_OF_MEMORY, "thread ", started + 2, " of ", threads,
         " could not be started: ", error.what());
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::take_part(Job& job) {
  const int worker = job.joined.fetch_add(1, std::memory_order_relaxed);
  if (worker >= job.limit) return;
  for (;;) {
    const int64_t task = job.next.fetch_add(1, std::memory_order_relaxed);
    if (task >= job.tasks) return;
    try {
      job.body(task, worker);
    } catch (...) {
      if (!job.failed.exchange(true)) job.error = std::current_exception();
      job.next.store(job.tasks, std::memory_order_relaxed);
      return;
    }
  }
}

void ThreadPool::run(int64_t tasks, const Body& body) {
  if (tasks <= 0) return;
  if (tasks == 1 || workers_.empty()) {
    for (int64_t task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
  Job job(tasks, body, threads());
  {
    std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(&job);
    ++posted_;
  }
  changed_.notify_all();
  take_part(job);
  {
    // No worker finds the job from here on; those that did are counted in `active`.
    std::lock_guard<std::mutex> lock(mutex_);
    jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
  }
  for (int spins = 0; job.active.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpins) {
      pause_processor();
    } else {
      std::this_thread::yield();
    }
  }
  if (job.error) std::rethrow_exception(job.error);
}

void ThreadPool::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    const auto open = std::find_if(jobs_.begin(), jobs_.end(), [](const Job* job) {
      return job->next.load(std::memory_order_relaxed) < job->tasks &&
             job->joined.load(std::memory_order_relaxed) < job->limit;
    });
    if (open != jobs_.end()) {
      Job& job = **open;
      job.active.fetch_add(1, std::memory_order_relaxed);
      lock.unlock();
      take_part(job);
      job.active.fetch_sub(1, std::memory_order_release);  // the job may be gone after this
      lock.lock();
      continue;
    }
    if (stopping_) return;
    const int64_t seen = posted_;
    lock.unlock();
    for (int i = 0; i < kSpins && posted_.load(std::memory_order_relaxed) == seen; ++i) {
      pause_processor();
    }
    lock.lock();
    changed_.wait(lock, [&] { return posted_ != seen || stopping_; });
  }
}

}  // namespace bertology
