// A thread that lets MPI move data while the rank's own thread computes.
#pragma once

#include <mpi.h>

#include <atomic>
#include <thread>

#include "runtime/world.h"

namespace unipool {

// Whether a job wants the thread, from the launcher's words alone: MPI must know before it starts.
bool WantsProgressThread(ProgressThread choice);

// From construction to destruction calls MPI every half millisecond, on a communicator of its own.
// REQUIRES: MPI was initialised with MPI_THREAD_MULTIPLE. Both ends are collective over all processes.
class MpiProgress {
 public:
  MpiProgress();
  ~MpiProgress();
  MpiProgress(const MpiProgress&) = delete;

 private:
  void Run();
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

}  // namespace unipool
