// What killed MPI jobs of this user leave on this machine: shared memory (4 MB a rank) and folders of the
// launcher. Open MPI's own names alone, of this host and user: vader_segment.* (version 4) and sm_segment.*
// (5) in /dev/shm; ompi.HOST.UID/* and prte.HOST.* in $TMPDIR or /tmp.
#pragma once

#include <cstdint>
#include <string>

namespace unipool {

struct LeftoverPlaces {
  std::string shared_memory = "/dev/shm", temporary, processes = "/proc";  // temporary "": $TMPDIR or /tmp
  int youngest_seconds = 2;  // what has changed since then may belong to a job that just starts
};
struct Leftovers {
  int segments = 0, folders = 0;
  int64_t bytes = 0;  // of the segments
};

// Removes them, but nothing that a living process maps (by device and inode, so whatever its view of the
// file system is), no folder of a living launcher, and nothing at all when a process of this user cannot be
// looked into, but the machine's or container's first, which is no rank. Returns what went. For one process
// of a host, before it starts MPI.
Leftovers RemoveMpiLeftovers(const LeftoverPlaces& places = {});

}  // namespace unipool
