// What the processes of an MPI job tell each other outside of exchanges: who is alive, who has left, and why
// the job ends. These messages travel on an MPI communicator of their own, so they never disturb an exchange.
#pragma once

#include <mpi.h>

#include <chrono>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "runtime/watchdog.h"

// Every MPI call goes through this. An error of MPI ends the job with MPI's own words.
#define MPI_CHECK(call)                                                                            \
  do {                                                                                             \
    const int mpi_check_code = (call);                                                             \
    CHECK(mpi_check_code == MPI_SUCCESS) << #call ": " << ::unipool::MpiErrorText(mpi_check_code); \
  } while (false)

namespace unipool {

std::string MpiErrorText(int code);

// One per process. One thread uses it. REQUIRES: MPI is initialised before and finalised after its life.
class MpiJob {
 public:
  explicit MpiJob(std::chrono::milliseconds timeout);  // collective over all processes
  ~MpiJob();
  MpiJob(const MpiJob&) = delete;
  int rank() const { return rank_; }
  int size() const { return size_; }
  std::chrono::milliseconds timeout() const { return timeout_; }

  // Answers the ranks that ask what this rank does. what_i_do returns the answer: "waits in ...". A waiting
  // rank calls Serve now and then.
  void Serve(const std::function<std::string()>& what_i_do);

  // Ends the job because this rank has waited too long. Asks all ranks what they do, gives them a second to
  // answer, prints one report and aborts. Where several ranks are here at once, the lowest one prints. The
  // caller fills in `report`'s label, waited_seconds and missing.
  [[noreturn]] void EndStuck(StuckReport report);
  // Prints the message and ends all ranks with this exit code.
  [[noreturn]] void End(int exit_code, const std::string& message);

  // Every rank calls this once, when its work is over. `problems` are its packed problems (problem_list.h),
  // empty where it has none. Returns the job's exit code when all ranks have left. Rank 0 has printed the
  // problems by then. Where a rank has a problem and other ranks do not leave, they are most likely waiting
  // for it. Then the job ends with kUserErrorExitCode.
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
  std::deque<Outgoing> outgoing_;  // all messages that were ever sent, a handful
  int rank_ = 0, size_ = 1;
  // The lowest of the ranks that have asked so far, which will report; size_ where no rank has asked.
  int lowest_asker_;
  std::chrono::milliseconds timeout_;
};

}  // namespace unipool
