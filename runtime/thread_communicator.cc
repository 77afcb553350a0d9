#include "runtime/thread_communicator.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "runtime/thread_job.h"

namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kMaxUnderWay = Communicator::kMaxUnderWay;
constexpr int kSpins = 200;
constexpr std::chrono::microseconds kYieldTime{200};  // then it sleeps
// With a rank that has left, and may be about to end the job for a reason.
constexpr milliseconds kPatience{2000};
constexpr milliseconds kLongestSleep{100};  // also how soon a disagreement about sizes is seen

// What a CHECK shows of a label. A mailbox keeps no more: there are many.
struct Place {
  const char* operation = "";
  int64_t step = -1;
  int slot = -1;
};

std::string Describe(const Place& place) {
  return Describe(ExchangeLabel{.operation = place.operation, .step = place.step, .slot = place.slot});
}

Place PlaceOf(const ExchangeLabel& label) {
  return {.operation = label.operation, .step = label.step, .slot = label.slot};
}

// One block on its way from one rank to another. Numbers are those of exchanges. The transfer is done by
// whichever side comes to wait first once both have started, so a rank that still computes holds nobody up.
struct alignas(64) Mailbox {
  std::atomic<int64_t> sent{-1};     // the sender's half is filled in for this exchange
  std::atomic<int64_t> wanted{-1};   // the receiver's half is filled in for this exchange
  std::atomic<int64_t> claimed{-1};  // one side copies, or has copied, the block of this exchange
  std::atomic<int64_t> done{-1};     // the block of this exchange has been copied
  SendBlock from;
  RecvBlock to;
  Place sender, receiver;
};

// What the members of one communicator share.
struct Group {
  Group(ThreadJob& job, std::vector<RankThread*> members)
      : job(job),
        members(std::move(members)),
        started(this->members.size()),
        boxes(this->members.size() * this->members.size() * kMaxUnderWay) {}
  int size() const { return static_cast<int>(members.size()); }
  Mailbox& Box(int from, int to, int64_t exchange) {
    return boxes[(static_cast<size_t>(from) * size() + to) * kMaxUnderWay + exchange % kMaxUnderWay];
  }

  struct alignas(64) Counter {
    std::atomic<int64_t> value{0};
  };
  ThreadJob& job;
  std::vector<RankThread*> members;
  std::vector<Counter> started;  // exchanges that each member has started
  std::vector<Mailbox> boxes;
  std::mutex mutex;
  // By number of the split and color; guarded by `mutex`.
  std::map<std::pair<int64_t, int>, std::weak_ptr<Group>> splits;
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadJob> job, std::shared_ptr<Group> group, int rank);
  ~ThreadCommunicator() override;
  Ticket Start(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
               const ExchangeLabel& label) override;
  void Wait(Ticket ticket) override;
  std::unique_ptr<Communicator> Split(int color, int key) override;
  [[noreturn]] void Abort(int exit_code, const std::string& message) override {
    job_->End({.exit_code = exit_code, .reason = message});
  }
  void BeginFileWork(const char* what) override;
  void EndFileWork() override;
  bool SomeoneAtFiles() override;

 private:
  struct UnderWay {
    Ticket ticket = -1;  // -1: free
    ExchangeLabel label;
    std::vector<int64_t> in_bytes, out_bytes;  // of each peer; 0 once the block has been copied
  };
  bool Progress(UnderWay& x);
  bool Transfer(const UnderWay& x, int from, int to);
  void CheckPeer(const UnderWay& x, int from, int to);
  void Rest(const UnderWay& x, uint64_t seen);
  void Missing(const UnderWay& x, std::vector<int>& missing) const;
  [[noreturn]] void Stuck(const UnderWay& x, double waited_seconds);
  RankThread& self() const { return *group_->members[rank_]; }
  int JobRank(int member) const { return group_->members[member]->rank; }

  std::shared_ptr<ThreadJob> job_;
  std::shared_ptr<Group> group_;
  std::array<UnderWay, kMaxUnderWay> under_way_;
  Ticket next_ = 0;
  int64_t num_splits_ = 0;
};

ThreadCommunicator::ThreadCommunicator(std::shared_ptr<ThreadJob> job, std::shared_ptr<Group> group, int rank)
    : Communicator(rank, group->size()), job_(std::move(job)), group_(std::move(group)) {
  for (UnderWay& x : under_way_) {
    x.in_bytes.resize(size_);
    x.out_bytes.resize(size_);
  }
  std::lock_guard lock(self().mutex);
  self().waiting_for.reserve(job_->ranks.size());
  ++self().num_communicators;
}

ThreadCommunicator::~ThreadCommunicator() {
  std::lock_guard lock(self().mutex);
  --self().num_communicators;
}

Communicator::Ticket ThreadCommunicator::Start(std::span<const SendBlock> send,
                                               std::span<const RecvBlock> recv, const ExchangeLabel& label) {
  CHECK_EQ(static_cast<int>(send.size()), size_) << Describe(label);
  CHECK_EQ(static_cast<int>(recv.size()), size_) << Describe(label);
  CHECK_EQ(send[rank_].bytes, recv[rank_].bytes) << "own block of " << Describe(label);
  const Ticket ticket = next_++;
  UnderWay& x = under_way_[ticket % kMaxUnderWay];
  CHECK_EQ(x.ticket, -1) << "more than " << kMaxUnderWay << " exchanges under way in " << Describe(label)
                         << "; the oldest is " << Describe(x.label);
  x.ticket = ticket;
  x.label = label;
  for (int p = 0; p < size_; ++p) {
    x.in_bytes[p] = p == rank_ ? 0 : recv[p].bytes;
    x.out_bytes[p] = p == rank_ ? 0 : send[p].bytes;
    if (x.in_bytes[p] > 0) {
      Mailbox& box = group_->Box(p, rank_, ticket);
      box.to = recv[p];
      box.receiver = PlaceOf(label);
      box.wanted.store(ticket, std::memory_order_release);
    }
    if (x.out_bytes[p] > 0) {
      Mailbox& box = group_->Box(rank_, p, ticket);
      box.from = send[p];
      box.sender = PlaceOf(label);
      box.sent.store(ticket, std::memory_order_release);
    }
  }
  group_->started[rank_].value.store(next_, std::memory_order_release);
  for (int p = 0; p < size_; ++p) {
    if (x.in_bytes[p] > 0 || x.out_bytes[p] > 0) group_->members[p]->Ring();
  }
  if (recv[rank_].bytes > 0) std::memcpy(recv[rank_].data, send[rank_].data, recv[rank_].bytes);
  return ticket;
}

// Moves what both sides have started. True when the whole exchange is done on this rank.
bool ThreadCommunicator::Progress(UnderWay& x) {
  bool complete = true;
  for (int i = 1; i < size_; ++i) {
    const int p = (rank_ + i) % size_;
    if (x.in_bytes[p] > 0 && Transfer(x, p, rank_)) x.in_bytes[p] = 0;
    if (x.out_bytes[p] > 0 && Transfer(x, rank_, p)) x.out_bytes[p] = 0;
    complete = complete && x.in_bytes[p] == 0 && x.out_bytes[p] == 0;
  }
  return complete;
}

// True when the block has been copied, by whichever side.
bool ThreadCommunicator::Transfer(const UnderWay& x, int from, int to) {
  Mailbox& box = group_->Box(from, to, x.ticket);
  if (box.done.load(std::memory_order_acquire) == x.ticket) return true;
  if (box.sent.load(std::memory_order_acquire) != x.ticket ||
      box.wanted.load(std::memory_order_acquire) != x.ticket) {
    CheckPeer(x, from, to);
    return false;
  }
  int64_t claimed = box.claimed.load(std::memory_order_relaxed);
  if (claimed == x.ticket ||
      !box.claimed.compare_exchange_strong(claimed, x.ticket, std::memory_order_acq_rel)) {
    return box.done.load(std::memory_order_acquire) == x.ticket;
  }
  CHECK_EQ(box.from.bytes, box.to.bytes)
      << "bytes that rank " << JobRank(from) << " sends in " << Describe(box.sender) << " and rank "
      << JobRank(to) << " expects in " << Describe(box.receiver);
  std::memcpy(box.to.data, box.from.data, box.to.bytes);
  box.done.store(x.ticket, std::memory_order_release);
  group_->members[from == rank_ ? to : from]->Ring();
  return true;
}

// A peer that has started this exchange and left its half of the mailbox empty holds the block to be of 0
// bytes.
void ThreadCommunicator::CheckPeer(const UnderWay& x, int from, int to) {
  const int peer = from == rank_ ? to : from;
  if (group_->started[peer].value.load(std::memory_order_acquire) <= x.ticket) return;
  const Mailbox& box = group_->Box(from, to, x.ticket);
  if ((peer == from ? box.sent : box.wanted).load(std::memory_order_acquire) == x.ticket) return;
  if (box.done.load(std::memory_order_acquire) == x.ticket) return;  // and the peer is far ahead already
  LOG(FATAL) << "rank " << JobRank(from) << " sends " << x.out_bytes[to] << " bytes and rank " << JobRank(to)
             << " expects " << x.in_bytes[from] << " bytes in " << Describe(x.label);
}

void ThreadCommunicator::Wait(Ticket ticket) {
  CHECK(ticket >= 0) << ticket;
  UnderWay& x = under_way_[ticket % kMaxUnderWay];
  CHECK_EQ(x.ticket, ticket) << "this exchange is not under way";
  Clock::time_point begin{};
  PatientClock waited(begin);
  Patience patience(job_->limits.exchange);
  bool rested = false;
  for (int idle = job_->crowded ? kSpins : 0;; ++idle) {
    const uint64_t seen = self().events.load();
    if (Progress(x)) break;
    if (idle < kSpins) {
      __builtin_ia32_pause();
      continue;
    }
    const auto now = Clock::now();
    if (begin == Clock::time_point{}) {
      begin = now;
      waited = PatientClock(begin, PatientClock::SliceOf(job_->limits.exchange));
    }
    if (now - begin < kYieldTime) {
      sched_yield();
      continue;
    }
    if (patience.IsOver(waited.Look(now), [&] { return SomeoneAtFiles(); })) {
      Stuck(x, std::chrono::duration<double>(now - begin).count());
    }
    Rest(x, seen);
    rested = true;
  }
  if (rested) {
    std::lock_guard lock(self().mutex);
    self().waiting = false;
  }
  x.ticket = -1;
}

// Sleeps until something happens, and lets the watchdogs of others know what this rank waits for.
void ThreadCommunicator::Rest(const UnderWay& x, uint64_t seen) {
  {
    std::lock_guard lock(self().mutex);
    self().waiting = true;
    self().waiting_label = x.label;
    Missing(x, self().waiting_for);
  }
  self().Sleep(seen, kLongestSleep);
}

// In ranks of the job.
void ThreadCommunicator::Missing(const UnderWay& x, std::vector<int>& missing) const {
  missing.clear();
  for (int p = 0; p < size_; ++p) {
    if (x.in_bytes[p] > 0 || x.out_bytes[p] > 0) missing.push_back(JobRank(p));
  }
}

void ThreadCommunicator::Stuck(const UnderWay& x, double waited_seconds) {
  StuckReport report;
  report.rank = JobRank(rank_);
  report.label = x.label;
  report.waited_seconds = waited_seconds;
  report.hosts.assign(job_->ranks.size(), HostName());
  Missing(x, report.missing);
  bool some_left = false;
  for (const auto& other : job_->ranks) {
    if (other->rank == JobRank(rank_)) continue;
    std::lock_guard lock(other->mutex);
    if (other->num_communicators == 0) {
      some_left = true;
      report.others.push_back(Format("rank %d has left", other->rank));
    } else if (other->waiting) {
      report.others.push_back(Format("rank %d waits in %s for %s", other->rank,
                                     Describe(other->waiting_label).c_str(),
                                     NameRanks(other->waiting_for).c_str()));
    } else if (other->num_file_works > 0) {
      report.others.push_back(Format("rank %d ", other->rank) +
                              FileWorkText(other->file_work, Clock::now() - other->file_work_since));
    } else {
      report.silent.push_back(other->rank);
    }
  }
  if (some_left) std::this_thread::sleep_for(kPatience);
  job_->End({kStuckExitCode, StuckMessage(report), SuspectsOf(report)});
}

void ThreadCommunicator::BeginFileWork(const char* what) {
  std::lock_guard lock(self().mutex);
  if (self().num_file_works++ > 0) return;
  self().file_work = what;
  self().file_work_since = Clock::now();
}

void ThreadCommunicator::EndFileWork() {
  std::lock_guard lock(self().mutex);
  --self().num_file_works;
}

bool ThreadCommunicator::SomeoneAtFiles() {
  for (const auto& other : job_->ranks) {
    std::lock_guard lock(other->mutex);
    if (other->num_file_works > 0 && job_->limits.AllowsFileWork(Clock::now() - other->file_work_since))
      return true;
  }
  return false;
}

std::unique_ptr<Communicator> ThreadCommunicator::Split(int color, int key) {
  struct Choice {
    int color, key;
  };
  const Choice mine{color, key};
  std::vector<Choice> choices(size_);
  std::vector<SendBlock> send(size_, {&mine, sizeof(mine)});
  std::vector<RecvBlock> recv(size_);
  for (int p = 0; p < size_; ++p) recv[p] = {&choices[p], sizeof(Choice)};
  Exchange(send, recv, {.operation = "split", .step = -1, .slot = -1});

  std::vector<int> chosen;
  for (int p = 0; p < size_; ++p) {
    if (choices[p].color == color) chosen.push_back(p);
  }
  std::stable_sort(chosen.begin(), chosen.end(),
                   [&](int a, int b) { return choices[a].key < choices[b].key; });
  const int new_rank = static_cast<int>(std::find(chosen.begin(), chosen.end(), rank_) - chosen.begin());

  // Whoever comes first makes the group; nobody leaves before all have it.
  std::shared_ptr<Group> group;
  {
    std::lock_guard lock(group_->mutex);
    std::weak_ptr<Group>& shared = group_->splits[{num_splits_, color}];
    group = shared.lock();
    if (!group) {
      std::vector<RankThread*> members;
      for (int p : chosen) members.push_back(group_->members[p]);
      group = std::make_shared<Group>(*job_, std::move(members));
      shared = group;
    }
  }
  ++num_splits_;
  Barrier({.operation = "split", .step = -1, .slot = -1});
  return std::make_unique<ThreadCommunicator>(job_, std::move(group), new_rank);
}

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeThreadCommunicators(int size, const WatchdogLimits& limits,
                                                                   const JobEndHook& on_end) {
  auto job = std::make_shared<ThreadJob>();
  job->limits = limits;
  job->on_end = on_end;
  job->crowded = size > static_cast<int>(std::thread::hardware_concurrency());
  std::vector<RankThread*> members;
  for (int r = 0; r < size; ++r) {
    job->ranks.push_back(std::make_unique<RankThread>(r));
    members.push_back(job->ranks.back().get());
  }
  auto group = std::make_shared<Group>(*job, std::move(members));
  std::vector<std::unique_ptr<Communicator>> all;
  for (int r = 0; r < size; ++r) all.push_back(std::make_unique<ThreadCommunicator>(job, group, r));
  return all;
}

}  // namespace unipool
