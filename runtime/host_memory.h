// How much memory this process may have at all: of the machine, of the cgroup that a container or a job gave
// it, and of its address space (ulimit -v).
#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace unipool {

inline constexpr int64_t kNoMemoryLimit = std::numeric_limits<int64_t>::max();

struct MemoryLimit {
  int64_t bytes = kNoMemoryLimit;
  std::string name;  // "this host's RAM and swap", as the end of a sentence
};

// What all processes of this host share: the smaller of RAM with swap, and the cgroup's limit.
MemoryLimit HostMemoryLimit();
// This process alone: its address space.
MemoryLimit ProcessMemoryLimit();

// What a failed allocation tells its user: what this process holds, and what it may have.
std::string OutOfMemoryText();

// For tests. `root` holds proc/ and sys/fs/cgroup/ as the machine's "/" does.
MemoryLimit HostMemoryLimit(const std::string& root);

}  // namespace unipool
