// When a rank has waited too long, and what it says then. The communicators of threads and of MPI fill in
// what they know, and the words and the patience are the same.
//
// A wait counts only while the job really runs. What passes between two looks counts for one second at most,
// so a job that was suspended with all its ranks goes on where it stood. A rank at file work
// (Communicator::BeginFileWork) is not stuck: a rank that waits goes on waiting as long as one is.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "runtime/exchange_label.h"

namespace unipool {

// The time of a wait, summed in slices of at most a second.
class PatientClock {
 public:
  using Clock = std::chrono::steady_clock;
  // longest_slice: for waits whose limit is short.
  explicit PatientClock(Clock::time_point begin, std::chrono::milliseconds longest_slice = kLongestSlice)
      : last_(begin), longest_slice_(longest_slice) {}
  // A slice that suits a limit: an eighth of it, a second at most, a millisecond at least.
  static std::chrono::milliseconds SliceOf(std::chrono::milliseconds limit);
  // Called often; returns seconds() after it.
  double Look(Clock::time_point now);
  double seconds() const { return seconds_; }

  static constexpr std::chrono::milliseconds kLongestSlice{1000};

 private:
  Clock::time_point last_;
  std::chrono::milliseconds longest_slice_;
  double seconds_ = 0;
};

// Decides when a wait was too long.
class Patience {
 public:
  explicit Patience(std::chrono::milliseconds limit);  // 0: never
  // waited_seconds grows from call to call; a smaller one than before begins a new wait. someone_at_files is
  // asked when the limit has passed: while it answers yes the wait is excused, is asked again after an eighth
  // of the limit, and gets the whole limit once more from the first no on.
  bool IsOver(double waited_seconds, const std::function<bool()>& someone_at_files);

 private:
  const double limit_seconds_;
  double deadline_, last_ = 0;
  bool excused_ = false;
};

// The limits of a job; 0: none.
struct WatchdogLimits {
  std::chrono::milliseconds exchange{300'000};  // of a wait for other ranks
  std::chrono::milliseconds files{3'600'000};   // of one file work
  bool AllowsFileWork(std::chrono::steady_clock::duration done) const {
    return files.count() == 0 || done < files;
  }
};
// "is at file work: WHAT, for 4.2 s"
std::string FileWorkText(const char* what, std::chrono::steady_clock::duration done);

// "'dispatch forward', step 7, slot 3"; parts that are -1 are left out.
std::string Describe(const ExchangeLabel& label);
// "rank 3" or "ranks 1, 4".
std::string NameRanks(const std::vector<int>& ranks);
// The hosts of these ranks, each once, in order: "node17" or "node17, node18". hosts[r] is rank r's.
std::string NameHosts(const std::vector<int>& ranks, const std::vector<std::string>& hosts);
// Of this machine, as gethostname says.
std::string HostName();

struct StuckReport {
  int rank = 0;  // the rank that tells; all numbers here are ranks of the whole job
  ExchangeLabel label;
  double waited_seconds = 0;
  std::vector<int> missing;  // ranks whose part of this exchange has not come
  std::vector<int> silent;   // ranks that are in no exchange at all, the likely cause
  // What the other ranks do: "rank 1 waits in 'loss', step 7 for rank 2", a victim too; "rank 3 has left".
  std::vector<std::string> others;
  std::vector<std::string> hosts;  // of each rank; empty: not told
};
// "stuck: rank 0 has waited 300.0 s in 'dispatch', step 4 for ranks 1, 2; ... The job ends."
std::string StuckMessage(const StuckReport& report);

// How a job ended before its work was done, for whoever keeps a record of it.
struct JobEnd {
  int exit_code = 0;
  std::string reason;                 // what was printed of it
  std::vector<std::string> suspects;  // hosts of ranks that gave no sign of life
};
using JobEndHook = std::function<void(const JobEnd&)>;
// The hosts of report.silent, each once.
std::vector<std::string> SuspectsOf(const StuckReport& report);

// Writes a line to the standard error stream in one piece, so that lines of several ranks do not mix. Flushes
// the standard output first.
void PrintErrorLine(const std::string& line);

}  // namespace unipool
