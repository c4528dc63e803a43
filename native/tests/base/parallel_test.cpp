#include "base/parallel.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"

namespace bertology {
namespace {

TEST(ParallelTest, RunsEveryTaskOnceWithDistinctWorkers) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads, [] {});
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t tasks : {0, 1, 3, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      std::vector<std::atomic<int>> busy(static_cast<size_t>(threads));
      pool.run(tasks, [&](int64_t task, int worker) {
        ASSERT_LT(worker, threads);
        ASSERT_EQ(busy[static_cast<size_t>(worker)].fetch_add(1), 0)
            << "two threads share a worker's number";
        ++runs[static_cast<size_t>(task)];
        busy[static_cast<size_t>(worker)].fetch_sub(1);
      });
      for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
    }
  }
}

TEST(ParallelTest, CallersShareThePool) {
  ThreadPool pool(3, [] {});
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 300; ++i) {
        pool.run(7, [&](int64_t task, int) { total += task; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total.load(), 4 * 300 * 21);
}

TEST(ParallelTest, ThrowsTheFirstErrorAndGoesOnWorking) {
  ThreadPool pool(3, [] {});
  for (int i = 0; i < 50; ++i) {
    std::atomic<int> running{0};
    EXPECT_THROW(pool.run(1000,
                          [&](int64_t task, int) {
                            ++running;
                            if (task == 10) {
                              --running;
                              throw std::runtime_error("task 10");
                            }
                            --running;
                          }),
                 std::runtime_error);
    EXPECT_EQ(running.load(), 0) << "a task outlived its call";
  }
  std::atomic<int> runs{0};
  pool.run(100, [&](int64_t, int) { ++runs; });
  EXPECT_EQ(runs.load(), 100);
}

TEST(ParallelTest, StartsNoTaskAfterAnError) {
  ThreadPool pool(1, [] {});
  int started = 0;
  EXPECT_THROW(pool.run(1000,
                        [&](int64_t task, int) {
                          ++started;
                          if (task == 10) throw std::runtime_error("task 10");
                        }),
               std::runtime_error);
  EXPECT_EQ(started, 11);
}

TEST(ParallelTest, ThreadsStartWithTheirHook) {
  std::atomic<int> started{0};
  {
    ThreadPool pool(4, [&] { ++started; });
  }
  EXPECT_EQ(started.load(), 3) << "the caller is the fourth";
}

#if !defined(__SANITIZE_ADDRESS__)
/// 0 if a pool of more threads than there is room for says that memory is out.
int open_too_many_threads() {
  rlim_t pages = 0;  // that the process has: more, where a device's runtime is in it
  std::ifstream("/proc/self/statm") >> pages;
  rlimit limit;
  limit.rlim_cur = limit.rlim_max =
      pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (1u << 28);  // stacks of a few threads
  setrlimit(RLIMIT_AS, &limit);
  try {
    ThreadPool pool(4096, [] {});
  } catch (const Error& error) {
    return error.status() == BERTOLOGY_OUT_OF_MEMORY ? 0 : 1;
  }
  return 2;
}

TEST(ParallelDeathTest, SaysSoWhenThereAreNoMoreThreads) {
  EXPECT_EXIT(std::_Exit(open_too_many_threads()), ::testing::ExitedWithCode(0), "");
}
#endif

TEST(ParallelTest, CountsUsableProcessors) {
  std::string why;
  EXPECT_GE(usable_processors(&why), 1);
  EXPECT_FALSE(why.empty());
}

}  // namespace
}  // namespace bertology
