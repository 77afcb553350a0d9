// What the processes of an MPI job tell each other outside of exchanges: who is alive, who has left, and why
// the job ends. All of it travels on a communicator of its own, so it never disturbs an exchange.
#pragma once

#include <mpi.h>

#include <chrono>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "runtime/watchdog.h"

// Every MPI call goes through this: an error of the library ends the job with its words.
#define MPI_CHECK(call)                                                                            \
  do {                                                                                             \
    const int mpi_check_code = (call);                                                             \
    CHECK(mpi_check_code == MPI_SUCCESS) << #call ": " << ::unipool::MpiErrorText(mpi_check_code); \
  } while (false)

namespace unipool {

std::string MpiErrorText(int code);

// One per process. REQUIRES: MPI is initialised before and finalised after its life. Used by one thread.
class MpiJob {
 public:
  explicit MpiJob(std::chrono::milliseconds timeout);  // collective over all processes
  ~MpiJob();
  MpiJob(const MpiJob&) = delete;
  int rank() const { return rank_; }
  int size() const { return size_; }
  std::chrono::milliseconds timeout() const { return timeout_; }

  // Answers those who ask what this rank does ("waits in ..."). A waiting rank calls it now and then.
  void Serve(const std::function<std::string()>& what_i_do);

  // Ends the job: asks all ranks what they do, gives them a second to answer, prints one report (of the
  // lowest rank that is at this point) and aborts. `report` has label, waited_seconds and missing.
  [[noreturn]] void EndStuck(StuckReport report);
  // Prints the message and ends all ranks with this exit code.
  [[noreturn]] void End(int exit_code, const std::string& message);

  // Called once, by every rank, when its work is over, with its packed problems (problem_list.h; empty:
  // none). Returns the exit code when all ranks have left; rank 0 has then printed the problems. When a rank
  // has a problem and others do not leave, they are most likely waiting for it: the job ends with the exit
  // code of a wrong input.
  int Leave(const std::string& problems);

 private:
  struct Message {
    int source, tag;
    std::string text;
  };
  bool Poll(Message* message);
  void Send(int to, int tag, std::string text);

  struct Outgoing {
    std::string text;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  MPI_Comm control_ = MPI_COMM_NULL;
  std::deque<Outgoing> outgoing_;  // all that was ever sent: a handful
  int rank_ = 0, size_ = 1;
  int lowest_asker_;  // among the ranks that have asked so far, and so will report; size_ if none has
  std::chrono::milliseconds timeout_;
};

}  // namespace unipool
