// What the processes of an MPI job tell each other outside of exchanges: who is alive, who has left, and why
// the job ends. These messages travel on an MPI communicator of their own, so they never disturb an exchange.
#pragma once

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
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

// One per process. One thread uses it. While that thread is at file work, and only then, a thread of the
// job's own answers in its place. REQUIRES: MPI is initialised before its life, with MPI_THREAD_SERIALIZED,
// and finalised after it.
class MpiJob {
 public:
  explicit MpiJob(const WatchdogLimits& limits, JobEndHook on_end = {});  // collective over all processes
  ~MpiJob();
  MpiJob(const MpiJob&) = delete;
  int rank() const { return rank_; }
  int size() const { return size_; }
  const WatchdogLimits& limits() const { return limits_; }
  const std::vector<std::string>& hosts() const { return hosts_; }  // of each rank

  // As Communicator's.
  void BeginFileWork(const char* what);
  void EndFileWork();
  bool SomeoneAtFiles();
  bool is_at_files() const { return num_file_works_ > 0; }

  // Answers the ranks that ask what this rank does. what_i_do returns the answer: "waits in ...". A waiting
  // rank calls Serve now and then.
  void Serve(const std::function<std::string()>& what_i_do);

  // Ends the job because this rank has waited too long. Asks all ranks what they do, gives them a second to
  // answer, prints one report and aborts. Where several ranks are here at once, the lowest one prints. The
  // caller fills in `report`'s label, waited_seconds and missing.
  [[noreturn]] void EndStuck(StuckReport report);
  // Prints the reason and ends all ranks with this exit code.
  [[noreturn]] void End(const JobEnd& end);

  // Every rank calls this once, when its work is over. `problems` are its packed problems (problem_list.h),
  // empty where it has none. Returns the job's exit code when all ranks have left. Rank 0 has printed the
  // problems by then. Where a rank has a problem and other ranks do not leave, they are most likely waiting
  // for it. Then the job ends with the problem's exit code.
  int Leave(const std::string& problems);

 private:
  struct Message {
    int source, tag;
    std::string text;
  };
  bool Poll(Message* message, int tag);  // MPI_ANY_TAG: of any
  void Send(int to, int tag, std::string text);
  void AnswerPing(int to);
  void Attend();  // the body of attendant_

  struct Outgoing {
    std::string text;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  MPI_Comm control_ = MPI_COMM_NULL;
  std::deque<Outgoing> outgoing_;  // all messages that were ever sent, a handful
  int rank_ = 0, size_ = 1;
  // The lowest of the ranks that have asked so far, which will report; size_ where no rank has asked.
  int lowest_asker_;
  WatchdogLimits limits_;
  JobEndHook on_end_;
  std::vector<std::string> hosts_;

  // The rank's own thread holds it but while it is at file work. Who holds it may call MPI.
  std::mutex may_call_mpi_;
  std::atomic<bool> ends_{false};
  int num_file_works_ = 0;           // nested; of the outermost, written before the mutex is let go:
  const char* file_work_ = nullptr;  // null: none
  std::chrono::steady_clock::time_point file_work_since_;
  std::thread attendant_;
};

}  // namespace unipool
