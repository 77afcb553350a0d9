#include "runtime/host_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "runtime/format.h"

namespace unipool {
namespace {

// "MemTotal:  16 kB" and "SwapTotal:  4 kB" together.
int64_t MemoryOfMachine(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  int64_t kilobytes = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    int64_t value = 0;
    if (words >> name >> value && (name == "MemTotal:" || name == "SwapTotal:")) kilobytes += value;
  }
  return kilobytes > 0 ? kilobytes * 1024 : kNoMemoryLimit;
}

// The number in a file; no limit for "max" or no such file.
int64_t LimitInFile(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value && value > 0 ? value : kNoMemoryLimit;
}

// The least limit of a group and of all groups above it.
int64_t LimitOfGroups(const std::string& mount, std::string group, const std::string& file) {
  int64_t least = LimitInFile(mount + "/" + file);
  while (group.size() > 1) {
    least = std::min(least, LimitInFile(mount + group + "/" + file));
    group.resize(group.rfind('/'));
  }
  return least;
}

// Lines of proc/self/cgroup are "0::/group" (version 2) and "5:memory:/group" (version 1).
int64_t LimitOfCgroup(const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  std::ifstream file(root + "/proc/self/cgroup");
  int64_t least = kNoMemoryLimit;
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string kinds = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (kinds.empty()) least = std::min(least, LimitOfGroups(mount, group, "memory.max"));
    if (("," + kinds + ",").find(",memory,") != std::string::npos)
      least = std::min(least, LimitOfGroups(mount + "/memory", group, "memory.limit_in_bytes"));
  }
  return least;
}

}  // namespace

MemoryLimit HostMemoryLimit(const std::string& root) {
  const int64_t machine = MemoryOfMachine(root), group = LimitOfCgroup(root);
  if (group < machine) return {group, "the memory limit of this job or container (cgroup)"};
  return {machine, "this host's RAM and swap"};
}

MemoryLimit HostMemoryLimit() {
  return HostMemoryLimit("");
}

MemoryLimit ProcessMemoryLimit() {
  MemoryLimit limit{.name = "the limit of this process's address space (ulimit -v)"};
  rlimit space{};
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
    limit.bytes = static_cast<int64_t>(std::min<rlim_t>(space.rlim_cur, kNoMemoryLimit));
  }
  return limit;
}

std::string OutOfMemoryText() {
  const auto text_of = [](int64_t bytes) {
    return bytes >= 1'000'000'000 ? Format("%.1f GB", 1e-9 * static_cast<double>(bytes))
                                  : Format("%.0f MB", 1e-6 * static_cast<double>(bytes));
  };
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const MemoryLimit host = HostMemoryLimit(), process = ProcessMemoryLimit();
  const MemoryLimit& have = process.bytes < host.bytes ? process : host;
  return Format("out of memory: this process holds %s of address space, and there are %s (%s)",
                text_of(pages * sysconf(_SC_PAGESIZE)).c_str(), text_of(have.bytes).c_str(),
                have.name.c_str());
}

}  // namespace unipool
