#include "base/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"

namespace bertology {
namespace {

// Small mappings are not worth reading /proc for.
constexpr size_t kCheckedBytes = size_t{16} << 20;
constexpr size_t kHugePage = size_t{2} << 20;

size_t whole_pages(size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

bool read_number(const char* path, int64_t* value) {
  std::ifstream in(path);
  return static_cast<bool>(in >> *value);  // "max" is not a number: no limit
}

// What the control group of this process still allows; its file cache counts as free, it can be
// dropped.
int64_t cgroup_memory() {
  int64_t limit = 0;
  int64_t used = 0;
  const char* stat = nullptr;
  const char* cache_key = nullptr;
  if (read_number("/sys/fs/cgroup/memory.max", &limit) &&
      read_number("/sys/fs/cgroup/memory.current", &used)) {
    stat = "/sys/fs/cgroup/memory.stat";
    cache_key = "inactive_file";
  } else if (read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", &limit) &&
             read_number("/sys/fs/cgroup/memory/memory.usage_in_bytes", &used)) {
    stat = "/sys/fs/cgroup/memory/memory.stat";
    cache_key = "total_inactive_file";
  } else {
    return std::numeric_limits<int64_t>::max();
  }
  std::ifstream in(stat);
  std::string key;
  int64_t value = 0;
  while (in >> key >> value) {
    if (key == cache_key) used -= value;
  }
  return std::max<int64_t>(0, limit - used);
}

int64_t machine_memory() {
  std::ifstream in("/proc/meminfo");
  std::string key, unit;
  int64_t kilobytes = 0;
  while (in >> key >> kilobytes) {
    if (key == "MemAvailable:") return kilobytes * 1024;
    std::getline(in, unit);
  }
  return std::numeric_limits<int64_t>::max();
}

}  // namespace

int64_t available_memory() { return std::min(cgroup_memory(), machine_memory()); }

Mapping::Mapping(size_t bytes, const char* what) {
  if (bytes == 0) return;
  const size_t whole = whole_pages(bytes);
  if (whole >= kCheckedBytes) {
    const int64_t available = available_memory();
    if (static_cast<int64_t>(whole) > available) {
      fail(BERTOLOGY_OUT_OF_MEMORY, "out of memory: ", what, " needs ", whole, " bytes, ",
           available, " are available");
    }
  }
  void* data = mmap(nullptr, whole, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    fail(BERTOLOGY_OUT_OF_MEMORY, "out of memory: the system refused ", whole, " bytes for ", what);
  }
  if (whole >= kHugePage) madvise(data, whole, MADV_HUGEPAGE);  // a hint: fewer TLB misses
  data_ = data;
  bytes_ = whole;
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

void Mapping::discard() {
  if (data_ != nullptr) madvise(data_, bytes_, MADV_DONTNEED);
}

void Mapping::shrink(size_t bytes) noexcept {
  const size_t keep = whole_pages(bytes);
  if (keep >= bytes_) return;
  munmap(static_cast<char*>(data_) + keep, bytes_ - keep);
  bytes_ = keep;
  if (keep == 0) data_ = nullptr;
}

}  // namespace bertology
