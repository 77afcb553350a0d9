#include "parallel/nccl_communicator.h"

#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>

#include "runtime/watchdog.h"

namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kFirstExchanges = 64;  // so many exchanges back are remembered for the watchdog at least
constexpr int64_t kIndexBits = 12;   // of a ticket; the rest counts
constexpr Communicator::Ticket kNothing = 0;          // of an exchange without blocks
constexpr std::chrono::milliseconds kGuardLooks{20};  // so often, at a call that may wait for other ranks
constexpr ExchangeLabel kMaking{.operation = "making NCCL's communicator", .step = -1, .slot = -1};
constexpr ExchangeLabel kConnecting{.operation = "connecting ranks by NCCL", .step = -1, .slot = -1};
constexpr ExchangeLabel kEnding{.operation = "ending NCCL's communicator", .step = -1, .slot = -1};

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

NcclTraffic::NcclTraffic(std::unique_ptr<NcclApi> nccl, const CommunicationDevice& device,
                         Communicator& world, std::chrono::milliseconds timeout)
    : nccl_(std::move(nccl)),
      device_(device),
      world_(world),
      patience_(timeout),
      greetings_(Buffer::Allocate(device.memory, MemoryKind::kExchange, 2 * world.size())),
      computed_(device.context.MakeEvent()) {
  resting_.reserve(kFirstExchanges);
  for (int i = 0; i < kFirstExchanges; ++i) resting_.push_back(&AddExchange());
  std::string id = world.rank() == 0 ? nccl_->UniqueId() : "";
  id = world.AllGatherText(id, kMaking)[0];
  RunGuarded(WithAllOthers(kMaking), [&] { nccl_->Init(id, world.rank(), world.size()); });
  watch_ = device.context.AddWatch(
      [this](const ExchangeLabel& label, double waited_seconds) { Watch(label, waited_seconds); });
  if (world.size() > 1) Connect();
}

NcclTraffic::~NcclTraffic() {
  if (std::uncaught_exceptions() > 0) {
    nccl_->Abort();  // others may never come
  } else {
    device_.context.Record(computed_, DeviceQueue::kCommunication);
    device_.context.WaitOnHost(computed_, kEnding);
    RunGuarded(WithAllOthers(kEnding), [&] { nccl_->Finalize(); });
  }
  device_.context.RemoveWatch(watch_);
}

std::vector<int> NcclTraffic::Others() const {
  std::vector<int> others;
  for (int p = 0; p < world_.size(); ++p) {
    if (p != world_.rank()) others.push_back(p);
  }
  return others;
}

NcclTraffic::Exchange NcclTraffic::WithAllOthers(const ExchangeLabel& label) const {
  Exchange x;
  x.label = label;
  x.peers = Others();
  return x;
}

// One byte between every pair of ranks, in both directions, until it has arrived.
void NcclTraffic::Connect() {
  std::vector<int> everyone(world_.size());
  std::iota(everyone.begin(), everyone.end(), 0);
  std::vector<SendBlock> send;
  std::vector<RecvBlock> recv;
  char* bytes = static_cast<char*>(greetings_.data());
  for (const int p : everyone) {
    send.push_back({bytes + 2 * p, 1});
    recv.push_back({bytes + 2 * p + 1, 1});
  }
  Exchange& x = TakeExchange();
  x.label = kConnecting;
  x.peers = Others();
  RunGuarded(x, [&] { Launch(everyone, world_.rank(), send, recv); });
  device_.context.Record(x.done, DeviceQueue::kCommunication);
  device_.context.WaitOnHost(x.done, kConnecting);
  x.waited = true;
  resting_.push_back(&x);
}

NcclTraffic::Exchange& NcclTraffic::AddExchange() {
  CHECK_LT(exchanges_.size(), size_t{1} << kIndexBits) << "exchanges under way";
  Exchange& x = *exchanges_.emplace_back(std::make_unique<Exchange>());
  x.done = device_.context.MakeEvent();
  x.ticket = static_cast<Ticket>(exchanges_.size() - 1);
  x.peers.reserve(world_.size());
  return x;
}

// The one that was waited for longest ago, so that the watchdog remembers as many as it can.
NcclTraffic::Exchange& NcclTraffic::TakeExchange() {
  if (resting_.empty()) {
    resting_.reserve(exchanges_.size() + 1);
    resting_.push_back(&AddExchange());
  }
  Exchange& x = *resting_.front();
  resting_.erase(resting_.begin());
  x.ticket = (++next_ << kIndexBits) | (x.ticket & ((Ticket{1} << kIndexBits) - 1));
  x.waited = false;
  x.peers.clear();
  return x;
}

NcclTraffic::Ticket NcclTraffic::Start(std::span<const int> members, int rank,
                                       std::span<const SendBlock> send, std::span<const RecvBlock> recv,
                                       const ExchangeLabel& label) {
  CHECK_EQ(send.size(), members.size()) << Describe(label);
  CHECK_EQ(recv.size(), members.size()) << Describe(label);
  CHECK_EQ(send[rank].bytes, recv[rank].bytes) << "own block of " << Describe(label);
  const auto moves = [&](size_t p) { return send[p].bytes > 0 || recv[p].bytes > 0; };
  bool any = false;
  for (size_t p = 0; p < members.size(); ++p) any |= moves(p);
  if (!any) return kNothing;

  Exchange& x = TakeExchange();
  x.label = label;
  for (size_t p = 0; p < members.size(); ++p) {
    if (moves(p) && static_cast<int>(p) != rank) x.peers.push_back(members[p]);
  }
  DeviceContext& device = device_.context;
  device.AwaitStart(computed_);
  if (!x.peers.empty()) {
    Launch(members, rank, send, recv);
    if (nccl_->HasFailed()) EndFailed(&x);
  }
  if (send[rank].bytes > 0) {
    device.Copy(DeviceQueue::kCommunication, recv[rank].data, send[rank].data, send[rank].bytes);
  }
  device.Record(x.done, DeviceQueue::kCommunication);
  return x.ticket;
}

void NcclTraffic::Launch(std::span<const int> members, int rank, std::span<const SendBlock> send,
                         std::span<const RecvBlock> recv) {
  void* queue = device_.context.queue(DeviceQueue::kCommunication);
  const int size = static_cast<int>(members.size());
  nccl_->GroupStart();
  for (int i = 1; i < size; ++i) {
    const int to = (rank + i) % size, from = (rank - i + size) % size;
    if (send[to].bytes > 0) nccl_->Send(send[to].data, send[to].bytes, members[to], queue);
    if (recv[from].bytes > 0) nccl_->Recv(recv[from].data, recv[from].bytes, members[from], queue);
  }
  nccl_->GroupEnd();
}

// A call that waits for other ranks has no end of its own, so a second thread ends the job for it. The two
// never use `world_` at the same time: this one goes on only when the other has come to its end.
void NcclTraffic::RunGuarded(const Exchange& x, const std::function<void()>& call) {
  const auto begin = Clock::now();
  std::mutex mutex;
  std::condition_variable returned;
  bool has_returned = false;
  std::thread guard([&] {
    PatientClock waited(begin);
    std::unique_lock lock(mutex);
    while (!returned.wait_for(lock, kGuardLooks, [&] { return has_returned; })) {
      if (patience_.IsOver(waited.Look(Clock::now()), [&] { return world_.SomeoneAtFiles(); })) {
        EndStuck(x, SecondsSince(begin));
      }
    }
  });
  call();
  {
    const std::lock_guard lock(mutex);
    has_returned = true;
  }
  returned.notify_one();
  guard.join();
  if (nccl_->HasFailed()) EndFailed(&x);
}

void NcclTraffic::Wait(Ticket ticket) {
  if (ticket == kNothing) return;
  const auto index = static_cast<size_t>(ticket & ((Ticket{1} << kIndexBits) - 1));
  CHECK(ticket > 0 && index < exchanges_.size()) << ticket;
  Exchange& x = *exchanges_[index];
  CHECK(x.ticket == ticket && !x.waited) << "this exchange is not under way: " << ticket;
  device_.context.AwaitEvent(DeviceQueue::kCompute, x.done);
  x.waited = true;
  resting_.push_back(&x);
}

// By order of start, over all that are remembered.
const NcclTraffic::Exchange* NcclTraffic::OldestNotDone() {
  const Exchange* oldest = nullptr;
  for (const auto& x : exchanges_) {
    if (device_.context.IsDone(x->done)) continue;
    if (!oldest || x->ticket < oldest->ticket) oldest = x.get();
  }
  return oldest;
}

void NcclTraffic::Watch(const ExchangeLabel& label, double waited_seconds) {
  if (nccl_->HasFailed()) EndFailed(OldestNotDone());
  if (!patience_.IsOver(waited_seconds, [&] { return world_.SomeoneAtFiles(); })) return;
  if (const Exchange* x = OldestNotDone()) EndStuck(*x, waited_seconds);
  End(kStuckExitCode, Format("stuck: rank %d has waited %.1f s for its device in %s. The job ends.",
                             world_.rank(), waited_seconds, Describe(label).c_str()));
}

void NcclTraffic::EndStuck(const Exchange& x, double waited_seconds) {
  End(kStuckExitCode,
      StuckMessage(
          {.rank = world_.rank(), .label = x.label, .waited_seconds = waited_seconds, .missing = x.peers}));
}

void NcclTraffic::EndFailed(const Exchange* x) {
  const std::string where =
      x ? Format(" in %s, between it and %s", Describe(x->label).c_str(), NameRanks(x->peers).c_str()) : "";
  End(kStuckExitCode, Format("NCCL failed on rank %d%s: %s. The job ends.", world_.rank(), where.c_str(),
                             nccl_->ErrorText().c_str()));
}

void NcclTraffic::End(int exit_code, const std::string& message) {
  world_.Abort(exit_code, message);
  std::abort();  // never reached
}

namespace {

class NcclCommunicator : public DeviceCommunicator {
 public:
  NcclCommunicator(Communicator& host, int world_rank, std::shared_ptr<NcclTraffic> traffic)
      : DeviceCommunicator(host.rank(), host.size(), traffic->device()), traffic_(std::move(traffic)) {
    for (const std::string& member : host.AllGatherText(std::to_string(world_rank), kMaking)) {
      members_.push_back(std::stoi(member));
    }
  }
  Ticket Start(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
               const ExchangeLabel& label) override {
    return traffic_->Start(members_, rank_, send, recv, label);
  }
  void Wait(Ticket ticket) override { traffic_->Wait(ticket); }
  [[noreturn]] void Abort(int exit_code, const std::string& message) override {
    traffic_->End(exit_code, message);
  }

 protected:
  int64_t SumRoundBytes() const override { return kDeviceSumRoundBytes; }

 private:
  std::shared_ptr<NcclTraffic> traffic_;
  std::vector<int> members_;  // ranks of the job
};

}  // namespace

std::unique_ptr<Communicator> MakeNcclCommunicator(Communicator& host, int world_rank,
                                                   std::shared_ptr<NcclTraffic> traffic) {
  return std::make_unique<NcclCommunicator>(host, world_rank, std::move(traffic));
}

}  // namespace unipool
