#include "runtime/mpi_job.h"

#include <unistd.h>

#include <algorithm>

#include "runtime/problem_list.h"

namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;
// How long a failed rank waits for others to fail too, and how long a silent rank may take to answer.
constexpr std::chrono::milliseconds kGrace{1000};
constexpr int kAsk = 1, kAnswer = 2, kLeft = 3;  // tags

}  // namespace

std::string MpiErrorText(int code) {
  char text[MPI_MAX_ERROR_STRING] = "unknown error";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return text;
}

MpiJob::MpiJob(std::chrono::milliseconds timeout) : timeout_(timeout) {
  MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &control_));
  MPI_CHECK(MPI_Comm_set_errhandler(control_, MPI_ERRORS_RETURN));
  MPI_CHECK(MPI_Comm_rank(control_, &rank_));
  MPI_CHECK(MPI_Comm_size(control_, &size_));
  lowest_asker_ = size_;
}

MpiJob::~MpiJob() {
  MPI_Comm_free(&control_);
}

bool MpiJob::Poll(Message* message) {
  int found = 0, bytes = 0;
  MPI_Status status;
  MPI_CHECK(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, control_, &found, &status));
  if (!found) return false;
  MPI_CHECK(MPI_Get_count(&status, MPI_BYTE, &bytes));
  *message = {status.MPI_SOURCE, status.MPI_TAG, std::string(bytes, '\0')};
  MPI_CHECK(MPI_Recv(message->text.data(), bytes, MPI_BYTE, message->source, message->tag, control_,
                     MPI_STATUS_IGNORE));
  return true;
}

// Does not wait for the receiver, which may be stopped.
void MpiJob::Send(int to, int tag, std::string text) {
  Outgoing& message = outgoing_.emplace_back();
  message.text = std::move(text);
  MPI_CHECK(MPI_Isend(message.text.data(), static_cast<int>(message.text.size()), MPI_BYTE, to, tag, control_,
                      &message.request));
}

void MpiJob::Serve(const std::function<std::string()>& what_i_do) {
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
    if (!Poll(&message)) {
      usleep(200);
      continue;
    }
    if (message.tag == kAsk) {
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
  End(kStuckExitCode, StuckMessage(report));
}

void MpiJob::End(int exit_code, const std::string& message) {
  PrintErrorLine(message);
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  _exit(exit_code);
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
  while (all.num_left < size_) {
    Message message;
    if (Poll(&message)) {
      if (message.tag == kLeft) all.Note(message.source, message.text);
      continue;  // a rank that asks has been told already that this one has left
    }
    usleep(100);
    const auto now = Clock::now();
    const auto turn = kGrace * (1 + all.Turn(rank_));  // others may speak first, and end the job by it
    if (all.num_failed > 0 && now - all.first_problem > turn) {
      End(kUserErrorExitCode, DescribeProblems(all.problems));
    }
    if (now - all.last > timeout_ + turn) {
      End(kStuckExitCode, "stuck: other ranks have ended, and " + NameRanks(all.Missing()) +
                              " did not follow. The job ends.");
    }
  }
  for (Outgoing& message : outgoing_) MPI_CHECK(MPI_Wait(&message.request, MPI_STATUS_IGNORE));
  if (all.num_failed == 0) return 0;
  if (rank_ == 0) PrintErrorLine(DescribeProblems(all.problems));
  return kUserErrorExitCode;
}

}  // namespace unipool
