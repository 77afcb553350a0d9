#include "runtime/mpi_communicator.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "runtime/arrival_times.h"

namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kNumTags = 32768;  // the least that MPI guarantees
constexpr std::chrono::milliseconds kServeEvery{20};

class MpiCommunicator : public Communicator, public ArrivalTimes {
 public:
  MpiCommunicator(MpiJob& job, MPI_Comm comm, int rank, int size, int64_t max_message_bytes);
  ~MpiCommunicator() override;
  Ticket Start(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
               const ExchangeLabel& label) override;
  void Wait(Ticket ticket) override;
  std::unique_ptr<Communicator> Split(int color, int key) override;
  [[noreturn]] void Abort(int exit_code, const std::string& message) override {
    job_.End({.exit_code = exit_code, .reason = message});
  }
  std::span<const int64_t> Arrivals() const override { return arrivals_; }
  void BeginFileWork(const char* what) override { job_.BeginFileWork(what); }
  void EndFileWork() override { job_.EndFileWork(); }
  bool SomeoneAtFiles() override { return job_.SomeoneAtFiles(); }

 private:
  struct Piece {
    int peer = 0;
    int bytes = 0;
    bool is_receive = false;
  };
  struct UnderWay {
    Ticket ticket = -1;  // -1: free
    ExchangeLabel label;
    std::vector<MPI_Request> requests;  // null once done
    std::vector<Piece> pieces;          // of the requests
    std::vector<int64_t> arrivals;      // ArrivalTimes
    int num_open = 0;
  };
  template <class Post>
  void PostPieces(UnderWay& x, int peer, int64_t bytes, bool is_receive, Post&& post);
  void Progress(UnderWay& x);
  void WaitLonger(UnderWay& x);
  [[noreturn]] void EndStuck(const UnderWay& x, double waited_seconds);
  void CheckPiece(const UnderWay& x, const Piece& piece, const MPI_Status& status, bool has_error) const;
  std::vector<int> Missing(const UnderWay& x) const;

  MpiJob& job_;
  MPI_Comm comm_;
  const int64_t max_message_bytes_;
  std::vector<int> job_ranks_;  // of the members
  std::array<UnderWay, kMaxUnderWay> under_way_;
  std::span<const int64_t> arrivals_;  // of the exchange that was waited for last
  std::vector<int> finished_;          // of one call of MPI_Testsome
  std::vector<MPI_Status> statuses_;   // of one call of MPI_Testsome
  Ticket next_ = 0;
};

std::vector<int> JobRanks(MPI_Comm comm, int size) {
  std::vector<int> members(size), job_ranks(size);
  for (int p = 0; p < size; ++p) members[p] = p;
  MPI_Group group, all;
  MPI_CHECK(MPI_Comm_group(comm, &group));
  MPI_CHECK(MPI_Comm_group(MPI_COMM_WORLD, &all));
  MPI_CHECK(MPI_Group_translate_ranks(group, size, members.data(), all, job_ranks.data()));
  MPI_CHECK(MPI_Group_free(&group));
  MPI_CHECK(MPI_Group_free(&all));
  return job_ranks;
}

MpiCommunicator::MpiCommunicator(MpiJob& job, MPI_Comm comm, int rank, int size, int64_t max_message_bytes)
    : Communicator(rank, size),
      job_(job),
      comm_(comm),
      max_message_bytes_(max_message_bytes),
      job_ranks_(JobRanks(comm, size)) {
  MPI_CHECK(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
  for (UnderWay& x : under_way_) {
    x.requests.reserve(2 * size);
    x.pieces.reserve(2 * size);
    x.arrivals.resize(size);
  }
  finished_.resize(2 * size);
  statuses_.resize(2 * size);
}

MpiCommunicator::~MpiCommunicator() {
  MPI_Comm_free(&comm_);
}

template <class Post>
void MpiCommunicator::PostPieces(UnderWay& x, int peer, int64_t bytes, bool is_receive, Post&& post) {
  for (int64_t done = 0; done < bytes;) {
    const int piece = static_cast<int>(std::min(bytes - done, max_message_bytes_));
    x.requests.push_back(MPI_REQUEST_NULL);
    x.pieces.push_back({peer, piece, is_receive});
    MPI_CHECK(post(done, piece, &x.requests.back()));
    done += piece;
  }
}

Communicator::Ticket MpiCommunicator::Start(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
                                            const ExchangeLabel& label) {
  CHECK_EQ(static_cast<int>(send.size()), size_) << Describe(label);
  CHECK_EQ(static_cast<int>(recv.size()), size_) << Describe(label);
  CHECK_EQ(send[rank_].bytes, recv[rank_].bytes) << "own block of " << Describe(label);
  CHECK(!job_.is_at_files()) << Describe(label) << " in the midst of file work";
  const Ticket ticket = next_++;
  UnderWay& x = under_way_[ticket % kMaxUnderWay];
  CHECK_EQ(x.ticket, -1) << "more than " << kMaxUnderWay << " exchanges under way in " << Describe(label)
                         << "; the oldest is " << Describe(x.label);
  x.ticket = ticket;
  x.label = label;
  x.requests.clear();
  x.pieces.clear();
  std::fill(x.arrivals.begin(), x.arrivals.end(), 0);
  const int tag = static_cast<int>(ticket % kNumTags);
  for (int i = 1; i < size_; ++i) {
    const int p = (rank_ - i + size_) % size_;
    char* data = static_cast<char*>(recv[p].data);
    PostPieces(x, p, recv[p].bytes, true, [&](int64_t offset, int bytes, MPI_Request* request) {
      return MPI_Irecv(data + offset, bytes, MPI_BYTE, p, tag, comm_, request);
    });
  }
  for (int i = 1; i < size_; ++i) {
    const int p = (rank_ + i) % size_;
    const char* data = static_cast<const char*>(send[p].data);
    PostPieces(x, p, send[p].bytes, false, [&](int64_t offset, int bytes, MPI_Request* request) {
      return MPI_Isend(data + offset, bytes, MPI_BYTE, p, tag, comm_, request);
    });
  }
  x.num_open = static_cast<int>(x.requests.size());
  if (x.requests.size() > finished_.size()) {
    finished_.resize(x.requests.size());
    statuses_.resize(x.requests.size());
  }
  if (recv[rank_].bytes > 0) std::memcpy(recv[rank_].data, send[rank_].data, recv[rank_].bytes);
  Progress(x);
  return ticket;
}

void MpiCommunicator::Progress(UnderWay& x) {
  if (x.num_open == 0) return;
  int count = 0;
  const int code = MPI_Testsome(static_cast<int>(x.requests.size()), x.requests.data(), &count,
                                finished_.data(), statuses_.data());
  CHECK(code == MPI_SUCCESS || code == MPI_ERR_IN_STATUS) << Describe(x.label) << ": " << MpiErrorText(code);
  const int64_t now = count > 0 ? Clock::now().time_since_epoch() / std::chrono::nanoseconds(1) : 0;
  for (int i = 0; i < count; ++i) {
    const Piece& piece = x.pieces[finished_[i]];
    CheckPiece(x, piece, statuses_[i], code == MPI_ERR_IN_STATUS);
    if (piece.is_receive) x.arrivals[piece.peer] = now;
  }
  x.num_open -= count;
}

void MpiCommunicator::CheckPiece(const UnderWay& x, const Piece& piece, const MPI_Status& status,
                                 bool has_error) const {
  int bytes = piece.bytes;
  if (piece.is_receive) MPI_CHECK(MPI_Get_count(&status, MPI_BYTE, &bytes));
  const int code = has_error ? status.MPI_ERROR : MPI_SUCCESS;
  CHECK(bytes == piece.bytes && code == MPI_SUCCESS)
      << "rank " << job_ranks_[piece.peer] << " sends " << bytes << " bytes and rank " << job_.rank()
      << " expects " << piece.bytes << " bytes in " << Describe(x.label) << ": " << MpiErrorText(code);
}

void MpiCommunicator::Wait(Ticket ticket) {
  CHECK(ticket >= 0) << ticket;
  UnderWay& x = under_way_[ticket % kMaxUnderWay];
  CHECK_EQ(x.ticket, ticket) << "this exchange is not under way";
  Progress(x);
  if (x.num_open > 0) WaitLonger(x);
  x.ticket = -1;
  arrivals_ = x.arrivals;
}

// Waits, and now and then tells others that it does. Ends the job when it has waited for too long.
void MpiCommunicator::WaitLonger(UnderWay& x) {
  const auto begin = Clock::now();
  PatientClock waited(begin, PatientClock::SliceOf(job_.limits().exchange));
  Patience patience(job_.limits().exchange);
  auto served = begin;
  for (;;) {
    Progress(x);
    if (x.num_open == 0) return;
    for (UnderWay& other : under_way_) {  // the times at which its blocks come are to be seen
      if (other.ticket > x.ticket) Progress(other);
    }
    const auto now = Clock::now();
    if (now - served >= kServeEvery) {
      served = now;
      job_.Serve([&] { return "waits in " + Describe(x.label) + " for " + NameRanks(Missing(x)); });
      if (patience.IsOver(waited.Look(now), [&] { return SomeoneAtFiles(); })) {
        EndStuck(x, std::chrono::duration<double>(now - begin).count());
      }
    }
    sched_yield();
  }
}

void MpiCommunicator::EndStuck(const UnderWay& x, double waited_seconds) {
  StuckReport report;
  report.label = x.label;
  report.waited_seconds = waited_seconds;
  report.missing = Missing(x);
  job_.EndStuck(std::move(report));
}

// In ranks of the job.
std::vector<int> MpiCommunicator::Missing(const UnderWay& x) const {
  std::vector<int> missing;
  for (size_t i = 0; i < x.requests.size(); ++i) {
    if (x.requests[i] != MPI_REQUEST_NULL) missing.push_back(job_ranks_[x.pieces[i].peer]);
  }
  std::sort(missing.begin(), missing.end());
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  return missing;
}

std::unique_ptr<Communicator> MpiCommunicator::Split(int color, int key) {
  Barrier({.operation = "split", .step = -1, .slot = -1});  // the watchdog does not look into the call below
  MPI_Comm part;
  MPI_CHECK(MPI_Comm_split(comm_, color, key, &part));
  int rank = 0, size = 1;
  MPI_CHECK(MPI_Comm_rank(part, &rank));
  MPI_CHECK(MPI_Comm_size(part, &size));
  return std::make_unique<MpiCommunicator>(job_, part, rank, size, max_message_bytes_);
}

}  // namespace

std::unique_ptr<Communicator> MakeMpiCommunicator(MpiJob& job, int64_t max_message_bytes) {
  CHECK(max_message_bytes > 0 && max_message_bytes <= (int64_t{1} << 30)) << max_message_bytes;
  MPI_Comm comm;
  MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &comm));
  return std::make_unique<MpiCommunicator>(job, comm, job.rank(), job.size(), max_message_bytes);
}

}  // namespace unipool
