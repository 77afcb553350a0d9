// MPI moves data only while it is called. Two ways to call it while a rank computes.
#pragma once

#include <mpi.h>

#include <atomic>
#include <thread>

#include "runtime/poll_point.h"

namespace unipool {

// A communicator on which nothing is ever sent. Construction and destruction are collective over all
// processes.
class MpiCaller {
 public:
  MpiCaller();
  ~MpiCaller();
  MpiCaller(const MpiCaller&) = delete;
  // Lets MPI attend to all that is under way.
  void Call() const;

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
};

// The thread that made it calls MPI between parts of its kernels (poll_point.h).
class MpiPolls {
 public:
  MpiPolls();

 private:
  MpiCaller caller_;
  ThreadPoll poll_;
};

// A thread calls MPI, from construction to destruction. For ranks whose kernels run elsewhere. REQUIRES: MPI
// was initialised with MPI_THREAD_MULTIPLE.
class MpiProgress {
 public:
  MpiProgress();
  ~MpiProgress();

 private:
  void Run();
  MpiCaller caller_;
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

// Lets whole blocks of up to a MiB leave with the call that sends them. By itself Open MPI's TCP sends
// 64 KiB, and the rest when sender and receiver have both been called again. What the environment says stays.
// To be called before MPI starts.
void SetLargeMpiSends();

}  // namespace unipool
