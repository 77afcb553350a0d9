#include "runtime/emulated_communicator.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "runtime/errors.h"
#include "runtime/exchange_timing.h"

namespace unipool {

namespace {

// What a sender tells about a block before it gives the block to the carrier.
struct Notice {
  int group = 0;
  int64_t ticket = 0;
  SentBlock block;
};

}  // namespace

class EmulatedWire {
 public:
  EmulatedWire(int num_ranks, const ClusterDescription& cluster) : cluster(cluster), inboxes_(num_ranks) {}

  void Post(int to, const Notice& notice) {
    std::lock_guard lock(inboxes_[to].mutex);
    inboxes_[to].notices.push_back(notice);
  }
  // Moves the blocks of one exchange to `found`.
  void Collect(int rank, int group, int64_t ticket, std::vector<SentBlock>& found) {
    found.clear();
    std::lock_guard lock(inboxes_[rank].mutex);
    std::vector<Notice>& all = inboxes_[rank].notices;
    const auto is_other = [&](const Notice& n) { return n.group != group || n.ticket != ticket; };
    const auto rest = std::stable_partition(all.begin(), all.end(), is_other);
    std::for_each(rest, all.end(), [&](const Notice& notice) { found.push_back(notice.block); });
    all.erase(rest, all.end());
  }
  // The same number for all members of one part of one split.
  int GroupNumber(int parent, int split, int color) {
    std::lock_guard lock(mutex_);
    return groups_.try_emplace({parent, split, color}, static_cast<int>(groups_.size()) + 1).first->second;
  }

  const ClusterDescription cluster;

 private:
  struct alignas(64) Inbox {
    std::mutex mutex;
    std::vector<Notice> notices;
  };
  std::vector<Inbox> inboxes_;
  std::mutex mutex_;
  std::map<std::array<int, 3>, int> groups_;
};

namespace {

class RankState : public EmulatedRank {
 public:
  RankState(int rank, std::shared_ptr<EmulatedWire> wire, std::function<double()> cpu_seconds)
      : rank(rank), wire(std::move(wire)), clock(this->wire->cluster.compute_scale, std::move(cpu_seconds)) {}
  void Work(double seconds) override { clock.Add(seconds); }
  double Now() override {
    clock.Stop();
    clock.Continue();
    return clock.now();
  }
  EmulationReport Report() override {
    EmulationReport report{.virtual_seconds = Now() - reset_now_};
    report.compute_seconds = clock.compute_seconds() - reset_compute_;
    for (const auto& [operation, cost] : costs_) {
      report.operations.emplace_back(operation, cost);
      report.total.Add(cost);
    }
    return report;
  }
  void ResetReport() override {
    reset_now_ = Now();
    reset_compute_ = clock.compute_seconds();
    for (auto& entry : costs_) entry.second = {};
  }

  EmulatedCost& Cost(const char* operation) {
    for (auto& [name, cost] : costs_) {
      if (name == operation || std::strcmp(name, operation) == 0) return cost;
    }
    return costs_.emplace_back(operation, EmulatedCost{}).second;
  }
  const int rank;
  const std::shared_ptr<EmulatedWire> wire;
  VirtualClock clock;
  RankLinks links;

 private:
  std::vector<std::pair<const char*, EmulatedCost>> costs_;
  double reset_now_ = 0, reset_compute_ = 0;
};

class EmulatedCommunicator : public Communicator {
 public:
  EmulatedCommunicator(std::shared_ptr<RankState> state, std::unique_ptr<Communicator> carrier, int group);
  Ticket Start(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
               const ExchangeLabel& label) override;
  void Wait(Ticket ticket) override;
  std::unique_ptr<Communicator> Split(int color, int key) override;
  [[noreturn]] void Abort(int exit_code, const std::string& message) override {
    carrier_->Abort(exit_code, message);
    std::abort();  // not reached
  }
  void BeginFileWork(const char* what) override { carrier_->BeginFileWork(what); }
  void EndFileWork() override { carrier_->EndFileWork(); }
  bool SomeoneAtFiles() override { return carrier_->SomeoneAtFiles(); }
  const ToldTimes* Told() const override { return &told_; }

 private:
  struct UnderWay {
    Ticket carrier_ticket = 0;
    const char* operation = "";
    ExchangeStart start;
  };
  const ClusterDescription& cluster() const { return state_->wire->cluster; }
  void SendBlockTo(int p, int64_t bytes, Ticket ticket, UnderWay& x);
  double SecondsAlone(std::span<const SendBlock> send, std::span<const RecvBlock> recv) const;

  const std::shared_ptr<RankState> state_;
  const std::unique_ptr<Communicator> carrier_;
  const int group_;
  int num_splits_ = 0;
  std::vector<int> job_ranks_;  // of the members
  std::array<UnderWay, kMaxUnderWay> under_way_;
  std::vector<SentBlock> arriving_;
  Ticket next_ = 0;
  ToldTimes told_;
};

int64_t Nanoseconds(double seconds) {
  return std::llround(1e9 * seconds);
}

EmulatedCommunicator::EmulatedCommunicator(std::shared_ptr<RankState> state,
                                           std::unique_ptr<Communicator> carrier, int group)
    : Communicator(carrier->rank(), carrier->size()),
      state_(std::move(state)),
      carrier_(std::move(carrier)),
      group_(group),
      job_ranks_(size_) {
  const std::vector<SendBlock> send(size_, {&state_->rank, sizeof(int)});
  std::vector<RecvBlock> recv;
  for (int& rank : job_ranks_) recv.push_back({&rank, sizeof(int)});
  carrier_->Exchange(send, recv, {.operation = "split"});
}

double EmulatedCommunicator::SecondsAlone(std::span<const SendBlock> send,
                                          std::span<const RecvBlock> recv) const {
  double out[kNumWireKinds] = {}, in[kNumWireKinds] = {};
  for (int p = 0; p < size_; ++p) {
    if (p == rank_) continue;
    const WireKind kind = WireBetween(cluster(), state_->rank, job_ranks_[p]);
    out[kind] += static_cast<double>(send[p].bytes);
    in[kind] += static_cast<double>(recv[p].bytes);
  }
  return AloneSeconds(cluster(), out, in);
}

void EmulatedCommunicator::SendBlockTo(int p, int64_t bytes, Ticket ticket, UnderWay& x) {
  const SentBlock block = unipool::Send(cluster(), state_->links, state_->rank, job_ranks_[p],
                                        static_cast<double>(bytes), size_ - 1, x.start);
  state_->Cost(x.operation).bytes_sent += static_cast<double>(bytes);
  state_->wire->Post(job_ranks_[p], {.group = group_, .ticket = ticket, .block = block});
}

Communicator::Ticket EmulatedCommunicator::Start(std::span<const SendBlock> send,
                                                 std::span<const RecvBlock> recv,
                                                 const ExchangeLabel& label) {
  state_->clock.Stop();
  CHECK_EQ(static_cast<int>(send.size()), size_);
  CHECK_EQ(static_cast<int>(recv.size()), size_);
  const double now = state_->clock.now();
  UnderWay x{.operation = label.operation,
             .start = {.started = now, .all_left = now, .wire_seconds = SecondsAlone(send, recv)}};
  state_->Cost(x.operation).num_exchanges += 1;
  for (int i = 1; i < size_; ++i) {
    const int p = (rank_ + i) % size_;
    if (send[p].bytes > 0) SendBlockTo(p, send[p].bytes, next_, x);
  }
  // Whoever has received the block also sees the notice, which was posted before.
  x.carrier_ticket = carrier_->Start(send, recv, label);
  under_way_[next_ % kMaxUnderWay] = x;
  state_->clock.Continue();
  return next_++;
}

void EmulatedCommunicator::Wait(Ticket ticket) {
  VirtualClock& clock = state_->clock;
  clock.Stop();
  const UnderWay& x = under_way_[ticket % kMaxUnderWay];
  carrier_->Wait(x.carrier_ticket);
  state_->wire->Collect(state_->rank, group_, ticket, arriving_);
  const auto [complete, last_started, last] =
      Receive(cluster(), state_->links, state_->rank, arriving_, x.start, clock.now());
  EmulatedCost& cost = state_->Cost(x.operation);
  const double waited = std::max(0.0, complete - clock.now());
  const double idle = std::clamp(last_started - clock.now(), 0.0, waited);
  cost.idle_seconds += idle;
  cost.exposed_seconds += waited - idle;
  cost.hidden_seconds += std::max(0.0, x.start.wire_seconds - (waited - idle));
  told_ = {.start_ns = Nanoseconds(x.start.started),
           .wait_enter_ns = Nanoseconds(clock.now()),
           .wait_leave_ns = Nanoseconds(clock.now() + waited),
           .idle_ns = Nanoseconds(idle),
           .wire_ns = Nanoseconds(x.start.wire_seconds),
           .cause = idle > 0 ? last : -1};
  clock.AdvanceTo(complete);
  clock.Continue();
}

std::unique_ptr<Communicator> EmulatedCommunicator::Split(int color, int key) {
  state_->clock.Stop();
  std::unique_ptr<Communicator> part = carrier_->Split(color, key);
  const int group = state_->wire->GroupNumber(group_, num_splits_++, color);
  auto result = std::make_unique<EmulatedCommunicator>(state_, std::move(part), group);
  state_->clock.Continue();
  return result;
}

}  // namespace

std::shared_ptr<EmulatedWire> MakeEmulatedWire(int num_ranks, const ClusterDescription& cluster) {
  return std::make_shared<EmulatedWire>(num_ranks, cluster);
}

EmulatedWorld Emulate(std::unique_ptr<Communicator> carrier, std::shared_ptr<EmulatedWire> wire,
                      std::function<double()> cpu_seconds) {
  auto state = std::make_shared<RankState>(carrier->rank(), std::move(wire), std::move(cpu_seconds));
  auto communicator = std::make_unique<EmulatedCommunicator>(state, std::move(carrier), 0);
  state->clock.Continue();
  return {.rank = std::move(state), .communicator = std::move(communicator)};
}

}  // namespace unipool
