#include "runtime/traffic_recorder.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>

#include "runtime/arrival_times.h"
#include "runtime/errors.h"

namespace unipool {

int64_t TrafficClock::Now() const {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Of(now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec);
}

int64_t TrafficClock::Of(int64_t monotonic_ns) const {
  const int64_t ns = monotonic_ns + offset_ns;
  return drift == 0 ? ns : ns + static_cast<int64_t>(drift * static_cast<double>(ns));
}

class TrafficRecorder::Recorded : public Communicator {
 public:
  Recorded(TrafficRecorder& recorder, Communicator& carrier, std::unique_ptr<Communicator> owned, int index,
           std::shared_ptr<StartBoard> board)
      : Communicator(carrier.rank(), carrier.size()),
        recorder_(recorder),
        carrier_(carrier),
        owned_(std::move(owned)),
        index_(index),
        board_(std::move(board)),
        told_(carrier.Told()),
        arrival_times_(dynamic_cast<const ArrivalTimes*>(&carrier)) {
    for (UnderWay& x : under_way_) x.peers.reserve(size_);
  }

  DeviceContext* OfDevice() const override { return carrier_.OfDevice(); }
  Ticket Start(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
               const ExchangeLabel& label) override;
  void Wait(Ticket ticket) override;
  const ToldTimes* Told() const override { return told_; }
  std::unique_ptr<Communicator> Split(int color, int key) override { return carrier_.Split(color, key); }
  [[noreturn]] void Abort(int exit_code, const std::string& message) override {
    carrier_.Abort(exit_code, message);
    std::abort();  // never reached; the compiler does not see that
  }
  void BeginFileWork(const char* what) override { carrier_.BeginFileWork(what); }
  void EndFileWork() override { carrier_.EndFileWork(); }
  bool SomeoneAtFiles() override { return carrier_.SomeoneAtFiles(); }

 protected:
  void* Staging(int64_t bytes) override { return StagingOf(carrier_, bytes); }
  void SumParts(const Tensor& own, const void* parts, int64_t stride) override {
    SumPartsOf(carrier_, own, parts, stride);
  }
  int64_t SumRoundBytes() const override { return SumRoundBytesOf(carrier_); }
  int64_t GatherRoundBytes() const override { return GatherRoundBytesOf(carrier_); }

 private:
  struct UnderWay {
    Ticket carrier_ticket = 0;
    int64_t step = -1;   // -1: not recorded
    int64_t kept = -1;   // index in TrafficKeep
    int64_t timed = -1;  // number in DeviceTimes
    int64_t start_ns = 0;
    int operation = 0, lane = -1, layer = -1;
    TalliedExchange tallied;
    std::vector<PeerStart> peers;
  };
  int WorldRank(int member) const { return recorder_.communicators_[index_].members[member]; }
  void BeginRecord(UnderWay& x, std::span<const SendBlock> send, std::span<const RecvBlock> recv,
                   const ExchangeLabel& label);
  void CountBytes(UnderWay& x, std::span<const SendBlock> send, std::span<const RecvBlock> recv,
                  const ExchangeLabel& label);
  void CountRows(const UnderWay& x, const ExchangeLabel& label);
  void KeepRecord(UnderWay& x, std::span<const SendBlock> send, std::span<const RecvBlock> recv,
                  const ExchangeLabel& label);
  void EndRecord(UnderWay& x, int64_t wait_enter_ns, int64_t wait_leave_ns, Ticket ticket);
  void SplitBlocked(UnderWay& x, int64_t wait_enter_ns, int64_t wait_leave_ns, Ticket ticket);
  void FinishKept(const UnderWay& x, int64_t wait_enter_ns, int64_t wait_leave_ns);
  void KeepArrivals(const UnderWay& x);

  TrafficRecorder& recorder_;
  Communicator& carrier_;
  const std::unique_ptr<Communicator> owned_;
  const int index_;
  const std::shared_ptr<StartBoard> board_;
  const ToldTimes* const told_;
  const ArrivalTimes* const arrival_times_;  // null: the carrier does not see them
  std::array<UnderWay, kMaxUnderWay> under_way_;
  Ticket next_ = 0;
  int num_under_way_ = 0;
};

Communicator::Ticket TrafficRecorder::Recorded::Start(std::span<const SendBlock> send,
                                                      std::span<const RecvBlock> recv,
                                                      const ExchangeLabel& label) {
  const Ticket ticket = next_++;
  UnderWay& x = under_way_[ticket % kMaxUnderWay];
  x.step = recorder_.step_;
  if (x.step < 0) {
    if (board_ && recorder_.options_.sums_steps) board_->Write(rank_, ticket, recorder_.options_.clock.Now());
    x.carrier_ticket = carrier_.Start(send, recv, label);
    ++num_under_way_;
    return ticket;
  }
  BeginRecord(x, send, recv, label);
  DeviceTimes* const times = x.kept >= 0 && OnDevice() ? recorder_.device_times_.get() : nullptr;
  x.timed = times ? times->BeforeStart() : -1;
  const TrafficClock& clock = recorder_.options_.clock;
  x.start_ns = clock.Now();
  if (board_) board_->Write(rank_, ticket, x.start_ns);
  x.carrier_ticket = carrier_.Start(send, recv, label);
  const int64_t done_ns = clock.Now();
  if (x.timed >= 0) times->AfterStart(x.timed);
  x.tallied.start_ns = told_ ? 0 : done_ns - x.start_ns;
  if (x.kept >= 0) {
    ExchangeRecord& record = recorder_.keep_.record(x.kept);
    record.sequence = ticket;
    record.start_ns = x.start_ns;
    record.start_done_ns = done_ns;
  }
  ++num_under_way_;
  return ticket;
}

void TrafficRecorder::Recorded::BeginRecord(UnderWay& x, std::span<const SendBlock> send,
                                            std::span<const RecvBlock> recv, const ExchangeLabel& label) {
  x.operation = recorder_.tally_.IndexOf(index_, label.operation);
  x.lane = label.lane;
  x.layer = label.layer;
  x.tallied = {};
  x.tallied.has_times = !OnDevice() && next_ > 1;
  CountBytes(x, send, recv, label);
  if (label.to_owners) CountRows(x, label);
  x.kept = -1;
  if (recorder_.keep_.is_on()) KeepRecord(x, send, recv, label);
}

void TrafficRecorder::Recorded::CountBytes(UnderWay& x, std::span<const SendBlock> send,
                                           std::span<const RecvBlock> recv, const ExchangeLabel& label) {
  const TrafficOptions& options = recorder_.options_;
  const int node = options.node_of_rank[options.rank];
  TalliedExchange& tallied = x.tallied;
  x.peers.clear();
  tallied.bytes_self = send[rank_].bytes + label.kept_bytes;
  recorder_.tally_.AddBytesTo(x.operation, options.rank, tallied.bytes_self);
  for (int p = 0; p < size_; ++p) {
    const int64_t out = send[p].bytes, in = recv[p].bytes;
    if (p == rank_ || (out == 0 && in == 0)) continue;
    const int peer = WorldRank(p);
    (options.node_of_rank[peer] == node ? tallied.bytes_intra : tallied.bytes_inter) += out;
    tallied.bytes_received += in;
    x.peers.push_back({.peer = p, .start_ns = -1, .sends = in > 0});
    recorder_.tally_.AddBytesTo(x.operation, peer, out);
  }
  ++recorder_.num_records_;
  recorder_.num_peers_ += static_cast<int64_t>(x.peers.size());
}

void TrafficRecorder::Recorded::CountRows(const UnderWay& x, const ExchangeLabel& label) {
  const int64_t index = label.lane * int64_t{recorder_.sizes_.num_slots} + label.slot;
  if (label.slot < 0 || label.slot >= recorder_.sizes_.num_slots || label.row_bytes == 0) return;
  recorder_.rows_received_[index] += (x.tallied.bytes_received + x.tallied.bytes_self) / label.row_bytes;
}

void TrafficRecorder::Recorded::KeepRecord(UnderWay& x, std::span<const SendBlock> send,
                                           std::span<const RecvBlock> recv, const ExchangeLabel& label) {
  ExchangeRecord record;
  record.head.flags = static_cast<uint16_t>((next_ == 1 ? ExchangeRecord::kFirstUse : 0) |
                                            (OnDevice() ? ExchangeRecord::kOnDevice : 0));
  record.step = x.step;
  record.communicator = index_;
  record.operation = x.operation;
  if (label.slot >= 0) {
    record.slot_time = label.slot / recorder_.sizes_.slots_per_time;
    record.slot_index = label.slot % recorder_.sizes_.slots_per_time;
  }
  record.lane = label.lane;
  record.stage = label.stage;
  record.layer = label.layer;
  record.microbatch = label.microbatch;
  record.under_way = num_under_way_;
  record.bytes_self = x.tallied.bytes_self;
  record.row_bytes = label.row_bytes;
  x.kept = recorder_.keep_.Add(record, static_cast<int64_t>(x.peers.size()));
  if (x.kept < 0) return recorder_.tally_.AddDropped();
  for (const PeerStart& peer : x.peers) {
    recorder_.keep_.AddPeer(
        {.peer = peer.peer, .bytes_to = send[peer.peer].bytes, .bytes_from = recv[peer.peer].bytes});
  }
}

void TrafficRecorder::Recorded::Wait(Ticket ticket) {
  UnderWay& x = under_way_[ticket % kMaxUnderWay];
  --num_under_way_;
  if (x.step < 0) return carrier_.Wait(x.carrier_ticket);
  const bool is_timed = x.timed >= 0 && x.step == recorder_.step_;
  if (is_timed) recorder_.device_times_->BeforeWait(x.timed);
  const TrafficClock& clock = recorder_.options_.clock;
  const int64_t enter_ns = clock.Now();
  carrier_.Wait(x.carrier_ticket);
  const int64_t leave_ns = clock.Now();
  if (is_timed) {
    recorder_.device_times_->AfterWait(x.timed);
    recorder_.timed_.push_back({x.kept, x.timed});
  }
  EndRecord(x, enter_ns, leave_ns, ticket);
}

void TrafficRecorder::Recorded::EndRecord(UnderWay& x, int64_t wait_enter_ns, int64_t wait_leave_ns,
                                          Ticket ticket) {
  if (told_) {
    wait_enter_ns = told_->wait_enter_ns;
    wait_leave_ns = told_->wait_leave_ns;
  }
  x.tallied.blocked_ns = wait_leave_ns - wait_enter_ns;
  SplitBlocked(x, wait_enter_ns, wait_leave_ns, ticket);
  if (ticket == 0) recorder_.tally_.AddFirstUse();
  recorder_.tally_.Add(x.operation, x.lane, x.layer, x.tallied);
  if (x.kept >= 0 && x.step == recorder_.step_) FinishKept(x, wait_enter_ns, wait_leave_ns);
}

void TrafficRecorder::Recorded::SplitBlocked(UnderWay& x, int64_t wait_enter_ns, int64_t wait_leave_ns,
                                             Ticket ticket) {
  TalliedExchange& tallied = x.tallied;
  if (told_) {
    tallied.is_split = true;
    tallied.idle_ns = told_->idle_ns;
    tallied.sender = told_->cause;
    tallied.wire_ns = told_->wire_ns;
  } else if (board_ && !OnDevice()) {
    tallied.is_split = true;
    for (PeerStart& peer : x.peers) peer.start_ns = board_->Read(peer.peer, ticket);
    const WaitSplit split = SplitWait(wait_enter_ns, wait_leave_ns, x.peers);
    tallied.idle_ns = split.idle_ns;
    tallied.idle_receiver_ns = split.idle_receiver_ns;
    tallied.sender = split.sender < 0 ? -1 : WorldRank(split.sender);
    tallied.receiver = split.receiver < 0 ? -1 : WorldRank(split.receiver);
  }
}

void TrafficRecorder::Recorded::FinishKept(const UnderWay& x, int64_t wait_enter_ns, int64_t wait_leave_ns) {
  ExchangeRecord& record = recorder_.keep_.record(x.kept);
  record.wait_enter_ns = wait_enter_ns;
  record.wait_leave_ns = wait_leave_ns;
  if (arrival_times_) KeepArrivals(x);
  if (told_) record.start_ns = record.start_done_ns = told_->start_ns;
  if (!x.tallied.is_split) return;
  record.idle_ns = x.tallied.idle_ns;
  record.idle_receiver_ns = x.tallied.idle_receiver_ns;
  record.wire_ns = x.tallied.wire_ns;
  record.cause = x.tallied.idle_receiver_ns > x.tallied.idle_ns ? x.tallied.receiver : x.tallied.sender;
}

void TrafficRecorder::Recorded::KeepArrivals(const UnderWay& x) {
  const std::span<const int64_t> arrivals = arrival_times_->Arrivals();
  for (PeerBytes& peer : recorder_.keep_.peers(x.kept)) {
    if (arrivals[peer.peer] <= 0) continue;
    const int64_t after_ns = recorder_.options_.clock.Of(arrivals[peer.peer]) - x.start_ns;
    peer.arrived_us = static_cast<int32_t>(std::clamp<int64_t>(after_ns / 1000, 0, INT32_MAX));
  }
}

TrafficRecorder::TrafficRecorder(TrafficOptions options)
    : options_(std::move(options)), tally_(static_cast<int>(options_.node_of_rank.size())) {
  CHECK(options_.rank >= 0 && options_.rank < world()) << options_.rank;
}

TrafficRecorder::~TrafficRecorder() = default;

std::unique_ptr<Communicator> TrafficRecorder::Record(std::unique_ptr<Communicator> communicator,
                                                      const std::string& name,
                                                      const std::vector<int>& members,
                                                      const std::string& carrier) {
  CHECK_EQ(static_cast<int>(members.size()), communicator->size()) << name;
  CHECK_EQ(members[communicator->rank()], options_.rank) << name;
  communicators_.push_back({.name = name,
                            .members = members,
                            .on_device = communicator->OnDevice(),
                            .carrier = carrier.empty() ? options_.carrier : carrier});
  if (communicator->OnDevice() && !device_times_)
    device_times_ = std::make_unique<DeviceTimes>(*communicator->OfDevice());
  const int index = static_cast<int>(communicators_.size()) - 1;
  auto board = options_.board && !communicator->OnDevice() ? options_.board->Of(name, members) : nullptr;
  Communicator& used = *communicator;
  return std::make_unique<Recorded>(*this, used, std::move(communicator), index, std::move(board));
}

std::unique_ptr<Communicator> TrafficRecorder::RecordWorld(Communicator& world, const std::string& name) {
  std::vector<int> members(world.size());
  std::iota(members.begin(), members.end(), 0);
  communicators_.push_back(
      {.name = name, .members = members, .on_device = false, .carrier = options_.carrier});
  const int index = static_cast<int>(communicators_.size()) - 1;
  auto board = options_.board ? options_.board->Of(name, members) : nullptr;
  return std::make_unique<Recorded>(*this, world, nullptr, index, std::move(board));
}

std::unique_ptr<Communicator> TrafficRecorder::RecordPart(std::unique_ptr<Communicator> communicator,
                                                          const std::string& name) {
  std::vector<int> members(communicator->size());
  const std::vector<SendBlock> send(members.size(), {&options_.rank, sizeof(int)});
  std::vector<RecvBlock> recv;
  for (int& member : members) recv.push_back({&member, sizeof(int)});
  communicator->Exchange(send, recv, {.operation = "names of ranks"});
  return Record(std::move(communicator), name, members);
}

void TrafficRecorder::SetSizes(const TrafficSizes& sizes) {
  CHECK_EQ(step_, -1);
  sizes_ = sizes;
  tally_.SetLayers(sizes.layers);
  rows_received_.assign(2 * sizes.num_slots, 0);
}

void TrafficRecorder::SetSplit(int64_t record, const WaitSplit& split) {
  ExchangeRecord& r = keep_.record(record);
  r.idle_ns = split.idle_ns;
  r.idle_receiver_ns = split.idle_receiver_ns;
  r.cause = split.idle_receiver_ns > split.idle_ns ? split.receiver : split.sender;
  if ((r.head.flags & ExchangeRecord::kFirstUse) == 0) tally_.AddSplit(r.operation, r.lane, r.layer, split);
}

void TrafficRecorder::KeepExchanges(int64_t num_records, int64_t num_peers) {
  keep_.Reserve(num_records, num_peers);
  timed_.reserve(num_records);
  if (device_times_) device_times_->Reserve(num_records);
}

DeviceAnchor TrafficRecorder::device_anchor() const {
  return device_times_ ? device_times_->anchor() : DeviceAnchor{};
}

void TrafficRecorder::BeginStep(int64_t step) {
  CHECK_EQ(step_, -1) << "a step is recorded already";
  CHECK_GE(step, 0);
  step_ = step;
  num_records_ = num_peers_ = 0;
  keep_.Clear();
  std::fill(rows_received_.begin(), rows_received_.end(), 0);
  timed_.clear();
  if (device_times_) device_times_->BeginStep([this] { return options_.clock.Now(); });
}

void TrafficRecorder::EndStep() {
  step_ = -1;
  if (device_times_) device_times_->EndStep();
  for (const auto& [kept, timed] : timed_) {
    const DeviceExchangeTimes times = device_times_->Read(timed);
    ExchangeRecord& record = keep_.record(kept);
    record.device_begin_ns = times.begin_ns;
    record.device_end_ns = times.end_ns;
    record.device_blocked_begin_ns = times.blocked_begin_ns;
    record.device_blocked_end_ns = times.blocked_end_ns;
  }
  most_records_ = std::max(most_records_, num_records_);
  most_peers_ = std::max(most_peers_, num_peers_);
}

}  // namespace unipool
