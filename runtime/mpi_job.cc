#include "runtime/mpi_job.h"

#include <unistd.h>

#include <algorithm>

#include "runtime/problem_list.h"

namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;
// How long a failed rank waits for others to fail too, and how long a silent rank may take to answer.
constexpr std::chrono::milliseconds kGrace{1000};
// How often the attendant looks whether its rank is at file work.
constexpr std::chrono::milliseconds kAttendEvery{100};
// Tags. A ping asks whether the rank is at file work, within its limit.
constexpr int kAsk = 1, kAnswer = 2, kLeft = 3, kPing = 4, kAtFiles = 5, kNotAtFiles = 6;

}  // namespace

std::string MpiErrorText(int code) {
  char text[MPI_MAX_ERROR_STRING] = "unknown error";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return text;
}

MpiJob::MpiJob(const WatchdogLimits& limits, JobEndHook on_end)
    : limits_(limits), on_end_(std::move(on_end)) {
  MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &control_));
  MPI_CHECK(MPI_Comm_set_errhandler(control_, MPI_ERRORS_RETURN));
  MPI_CHECK(MPI_Comm_rank(control_, &rank_));
  MPI_CHECK(MPI_Comm_size(control_, &size_));
  lowest_asker_ = size_;
  constexpr int kNameBytes = 256;
  char name[kNameBytes] = "";
  HostName().copy(name, kNameBytes - 1);
  std::vector<char> names(int64_t{size_} * kNameBytes);
  MPI_CHECK(MPI_Allgather(name, kNameBytes, MPI_BYTE, names.data(), kNameBytes, MPI_BYTE, control_));
  for (int p = 0; p < size_; ++p) hosts_.push_back(&names[int64_t{p} * kNameBytes]);
  may_call_mpi_.lock();
  attendant_ = std::thread([this] { Attend(); });
}

MpiJob::~MpiJob() {
  ends_.store(true);
  may_call_mpi_.unlock();
  attendant_.join();
  MPI_Comm_free(&control_);
}

void MpiJob::BeginFileWork(const char* what) {
  if (num_file_works_++ > 0) return;
  file_work_ = what;
  file_work_since_ = Clock::now();
  may_call_mpi_.unlock();
}

void MpiJob::EndFileWork() {
  if (--num_file_works_ > 0) return;
  may_call_mpi_.lock();
  file_work_ = nullptr;
}

void MpiJob::Attend() {
  while (!ends_.load()) {
    std::this_thread::sleep_for(kAttendEvery);
    const std::unique_lock lock(may_call_mpi_, std::try_to_lock);
    if (!lock.owns_lock() || !file_work_) continue;
    Serve([&] { return FileWorkText(file_work_, Clock::now() - file_work_since_); });
  }
}

bool MpiJob::Poll(Message* message, int tag) {
  int found = 0, bytes = 0;
  MPI_Status status;
  MPI_CHECK(MPI_Iprobe(MPI_ANY_SOURCE, tag, control_, &found, &status));
  if (!found) return false;
  MPI_CHECK(MPI_Get_count(&status, MPI_BYTE, &bytes));
  *message = {status.MPI_SOURCE, status.MPI_TAG, std::string(bytes, '\0')};
  MPI_CHECK(MPI_Recv(message->text.data(), bytes, MPI_BYTE, message->source, message->tag, control_,
                     MPI_STATUS_IGNORE));
  return true;
}

// Does not wait for the receiver, which may be stopped.
void MpiJob::Send(int to, int tag, std::string text) {
  for (int sent = 1; sent && !outgoing_.empty();) {
    MPI_CHECK(MPI_Test(&outgoing_.front().request, &sent, MPI_STATUS_IGNORE));
    if (sent) outgoing_.pop_front();
  }
  Outgoing& message = outgoing_.emplace_back();
  message.text = std::move(text);
  MPI_CHECK(MPI_Isend(message.text.data(), static_cast<int>(message.text.size()), MPI_BYTE, to, tag, control_,
                      &message.request));
}

void MpiJob::AnswerPing(int to) {
  const bool at_files = file_work_ && limits_.AllowsFileWork(Clock::now() - file_work_since_);
  Send(to, at_files ? kAtFiles : kNotAtFiles, "");
}

bool MpiJob::SomeoneAtFiles() {
  Message message;
  while (Poll(&message, kAtFiles) || Poll(&message, kNotAtFiles)) {
  }  // answers that came too late for the question before
  for (int p = 0; p < size_; ++p) {
    if (p != rank_) Send(p, kPing, "");
  }
  const auto deadline = Clock::now() + kGrace;
  for (int answers = 0; answers < size_ - 1 && Clock::now() < deadline;) {
    if (Poll(&message, kPing)) AnswerPing(message.source);
    if (Poll(&message, kAtFiles)) return true;
    if (Poll(&message, kNotAtFiles)) {
      ++answers;
    } else {
      usleep(200);
    }
  }
  return false;
}

void MpiJob::Serve(const std::function<std::string()>& what_i_do) {
  Message message;
  while (Poll(&message, kPing)) AnswerPing(message.source);
  int found = 0;
  MPI_Status status;
  for (;;) {
    MPI_CHECK(MPI_Iprobe(MPI_ANY_SOURCE, kAsk, control_, &found, &status));
    if (!found) return;
    MPI_CHECK(MPI_Recv(nullptr, 0, MPI_BYTE, status.MPI_SOURCE, kAsk, control_, MPI_STATUS_IGNORE));
    lowest_asker_ = std::min(lowest_asker_, status.MPI_SOURCE);
    Send(status.MPI_SOURCE, kAnswer, what_i_do());
  }
}

void MpiJob::EndStuck(StuckReport report) {
  report.rank = rank_;
  report.hosts = hosts_;
  const std::string what_i_do = "waits in " + Describe(report.label) + " for " + NameRanks(report.missing);
  std::vector<std::string> answers(size_);
  int unanswered = size_ - 1;
  for (int p = 0; p < size_; ++p) {
    if (p != rank_) Send(p, kAsk, "");
  }
  auto deadline = Clock::now() + kGrace;
  bool another_reports = false;
  const auto leave_it_to_another = [&] {
    if (!another_reports) deadline += 3 * kGrace;
    another_reports = true;
  };
  if (lowest_asker_ < rank_) leave_it_to_another();
  while ((unanswered > 0 || another_reports) && Clock::now() < deadline) {
    Message message;
    if (!Poll(&message, MPI_ANY_TAG)) {
      usleep(200);
      continue;
    }
    if (message.tag == kPing) {
      AnswerPing(message.source);
    } else if (message.tag == kAtFiles || message.tag == kNotAtFiles) {
      continue;  // came late
    } else if (message.tag == kAsk) {
      Send(message.source, kAnswer, what_i_do);
      if (message.source < rank_) leave_it_to_another();
    } else if (answers[message.source].empty()) {
      answers[message.source] = message.tag == kLeft ? "has left" : message.text;
      --unanswered;
      if (message.tag == kLeft && !message.text.empty()) leave_it_to_another();  // it knows why the job ends
    }
  }
  for (int p = 0; p < size_; ++p) {
    if (p == rank_) continue;
    if (answers[p].empty()) {
      report.silent.push_back(p);
    } else {
      report.others.push_back("rank " + std::to_string(p) + " " + answers[p]);
    }
  }
  End({kStuckExitCode, StuckMessage(report), SuspectsOf(report)});
}

void MpiJob::End(const JobEnd& end) {
  PrintErrorLine(end.reason);
  if (on_end_) on_end_(end);
  MPI_Abort(MPI_COMM_WORLD, end.exit_code);
  _exit(end.exit_code);
}

namespace {

// What one rank knows of the leaving of all.
struct Departures {
  explicit Departures(int size) : left(size), problems(size) {}
  void Note(int rank, std::string packed) {
    ++num_left;
    left[rank] = true;
    if (!packed.empty() && num_failed++ == 0) first_problem = Clock::now();
    problems[rank] = std::move(packed);
    last = Clock::now();
  }
  // Ranks that come before `rank` when one of those that left has to speak: failed ranks first, then by
  // number.
  int Turn(int rank) const {
    int before = 0;
    for (int p = 0; p < static_cast<int>(left.size()); ++p) {
      const bool fails = !problems[p].empty(), i_fail = !problems[rank].empty();
      before += left[p] && (fails != i_fail ? fails : p < rank);
    }
    return before;
  }
  std::vector<int> Missing() const {
    std::vector<int> missing;
    for (size_t p = 0; p < left.size(); ++p) {
      if (!left[p]) missing.push_back(static_cast<int>(p));
    }
    return missing;
  }

  std::vector<bool> left;
  std::vector<std::string> problems;  // packed
  int num_left = 0, num_failed = 0;
  Clock::time_point first_problem, last;
};

}  // namespace

int MpiJob::Leave(const std::string& problems) {
  Departures all(size_);
  all.Note(rank_, problems);
  for (int p = 0; p < size_; ++p) {
    if (p != rank_) Send(p, kLeft, problems);
  }
  PatientClock waited(Clock::now());  // since the last rank left
  while (all.num_left < size_) {
    Message message;
    if (Poll(&message, MPI_ANY_TAG)) {
      if (message.tag == kPing) AnswerPing(message.source);
      if (message.tag != kLeft) continue;  // a rank that asks has been told already that this one has left
      all.Note(message.source, message.text);
      waited = PatientClock(Clock::now());
      continue;
    }
    usleep(100);
    const auto now = Clock::now();
    const auto turn = kGrace * (1 + all.Turn(rank_));  // others may speak first, and end the job by it
    if (all.num_failed > 0 && now - all.first_problem > turn) {
      End({ExitCodeOf(all.problems), DescribeProblems(all.problems)});
    }
    const std::chrono::duration<double> limit = limits_.exchange + turn;
    if (limits_.exchange.count() == 0 || waited.Look(now) < limit.count()) continue;
    waited = PatientClock(now);
    if (SomeoneAtFiles()) continue;
    const std::vector<int> missing = all.Missing();
    End({kStuckExitCode,
         "stuck: other ranks have ended, and " + NameRanks(missing) + " on " + NameHosts(missing, hosts_) +
             " did not follow. The job ends.",
         SuspectsOf({.silent = missing, .hosts = hosts_})});
  }
  for (Outgoing& message : outgoing_) MPI_CHECK(MPI_Wait(&message.request, MPI_STATUS_IGNORE));
  if (all.num_failed == 0) return 0;
  if (rank_ == 0) PrintErrorLine(DescribeProblems(all.problems));
  return ExitCodeOf(all.problems);
}

}  // namespace unipool
