// A thread that lets MPI move data while the rank's own thread computes.
#pragma once

#include <mpi.h>

#include <atomic>
#include <thread>

#include "runtime/world.h"

namespace unipool {

// Whether a job wants the thread. Only what the launcher put into the environment decides kAuto, since MPI
// must know before it starts.
bool WantsProgressThread(ProgressThread choice);

// Calls MPI every half millisecond, from construction to destruction, on an MPI communicator of its own.
// Construction and destruction are collective over all processes. REQUIRES: MPI was initialised with
// MPI_THREAD_MULTIPLE.
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
