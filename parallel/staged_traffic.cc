#include "parallel/staged_traffic.h"

#include <algorithm>

#include "runtime/watchdog.h"

namespace unipool {
namespace {

constexpr int64_t kBlockAlignment = 256;
constexpr int64_t kIndexBits = 12;  // of a ticket; the rest counts

int64_t Aligned(int64_t bytes) {
  return (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
}

}  // namespace

StagedTraffic::StagedTraffic(const CommunicationDevice& device, Communicator& world, MemoryMeter& host_memory,
                             const StagedOptions& options)
    : device_(device),
      round_bytes_(options.round_bytes),
      pool_(device.context, host_memory),
      computed_(device.context.MakeEvent()) {
  watch_ = device.context.AddWatch([&world, patience = Patience(options.timeout)](
                                       const ExchangeLabel& label, double waited_seconds) mutable {
    if (!patience.IsOver(waited_seconds, [&] { return world.SomeoneAtFiles(); })) return;
    world.Abort(kStuckExitCode, Format("stuck: rank %d has waited %.1f s for its device in %s. The job ends.",
                                       world.rank(), waited_seconds, Describe(label).c_str()));
  });
  poll_ = device.context.AddPoll([this] { PostReady(); });
}

StagedTraffic::~StagedTraffic() {
  device_.context.RemoveWatch(watch_);
  device_.context.RemovePoll(poll_);
  device_.context.Drain();
}

StagedTraffic::Exchange& StagedTraffic::TakeExchange(int size) {
  if (free_.empty()) {
    Exchange& x = *exchanges_.emplace_back(std::make_unique<Exchange>());
    CHECK_LT(exchanges_.size(), size_t{1} << kIndexBits) << "exchanges under way";
    x.copied = device_.context.MakeEvent();
    x.ticket = static_cast<Ticket>(exchanges_.size() - 1);
    free_.reserve(exchanges_.size());
    free_.push_back(&x);
    pending_.reserve(exchanges_.size());
  }
  Exchange& x = *free_.back();
  free_.pop_back();
  constexpr Ticket kIndex = (Ticket{1} << kIndexBits) - 1;
  x.ticket = (++next_ticket_ << kIndexBits) | (x.ticket & kIndex);
  x.number = NextNumber();
  x.sends = x.receives = x.copies = x.posted = x.waited = false;
  x.piece = nullptr;
  x.out.assign(size, {});
  x.in.assign(size, {});
  x.to.assign(size, {});
  return x;
}

// Finds room in pinned memory for the blocks of other ranks.
void StagedTraffic::PlaceBlocks(Exchange& x, int rank, std::span<const SendBlock> send,
                                std::span<const RecvBlock> recv) {
  const int size = static_cast<int>(send.size());
  int64_t bytes = 0;
  for (int p = 0; p < size; ++p) {
    if (p != rank) bytes += Aligned(send[p].bytes) + Aligned(recv[p].bytes);
  }
  if (bytes == 0) return;
  x.piece = &pool_.Take(bytes, x.label);
  char* next = x.piece->data;
  for (int p = 0; p < size; ++p) {
    if (p == rank) continue;
    x.out[p] = {.data = next, .bytes = send[p].bytes};
    next += Aligned(send[p].bytes);
    x.sends |= send[p].bytes > 0;
  }
  for (int p = 0; p < size; ++p) {
    if (p == rank) continue;
    x.in[p] = {.data = next, .bytes = recv[p].bytes};
    x.to[p] = recv[p];
    next += Aligned(recv[p].bytes);
    x.receives |= recv[p].bytes > 0;
  }
}

// Everything that this exchange touches on the device comes after what the compute queue has been given, also
// the memory that is received into.
void StagedTraffic::CopyOut(Exchange& x, int rank, std::span<const SendBlock> send,
                            std::span<const RecvBlock> recv) {
  const bool own = send[rank].bytes > 0;
  if (!own && !x.piece) return;
  DeviceContext& device = device_.context;
  device.AwaitStart(computed_);
  for (size_t p = 0; p < send.size(); ++p) {
    if (x.out[p].bytes == 0) continue;
    device.Copy(DeviceQueue::kCommunication, const_cast<void*>(x.out[p].data), send[p].data, send[p].bytes);
  }
  if (own) device.Copy(DeviceQueue::kCommunication, recv[rank].data, send[rank].data, send[rank].bytes);
  x.copies = own || x.sends;
  if (x.copies) device.Record(x.copied, DeviceQueue::kCommunication);
}

StagedTraffic::Ticket StagedTraffic::Start(Communicator& host, std::span<const SendBlock> send,
                                           std::span<const RecvBlock> recv, const ExchangeLabel& label) {
  CHECK_EQ(static_cast<int>(send.size()), host.size()) << Describe(label);
  CHECK_EQ(static_cast<int>(recv.size()), host.size()) << Describe(label);
  const int rank = host.rank();
  CHECK_EQ(send[rank].bytes, recv[rank].bytes) << "own block of " << Describe(label);
  Exchange& x = TakeExchange(host.size());
  x.host = &host;
  x.label = label;
  PlaceBlocks(x, rank, send, recv);
  CopyOut(x, rank, send, recv);
  pending_.push_back(&x);
  PostReady();
  return x.ticket;
}

void StagedTraffic::PostFirst() {
  Exchange& x = *pending_.front();
  pending_.erase(pending_.begin());
  x.posted = true;
  x.host_ticket = x.host->Start(x.out, x.in, x.label);
  if (x.waited) Release(x);
}

void StagedTraffic::PostReady() {
  while (!pending_.empty()) {
    const Exchange& x = *pending_.front();
    if (x.sends && !device_.context.IsDone(x.copied)) return;
    PostFirst();
  }
}

void StagedTraffic::PostThrough(int64_t number) {
  while (!pending_.empty() && pending_.front()->number <= number) {
    const Exchange& x = *pending_.front();
    if (x.sends) device_.context.WaitOnHost(x.copied, x.label);  // whose polls post, too
    PostReady();
  }
}

void StagedTraffic::Wait(Ticket ticket) {
  CHECK(ticket >= 0) << ticket;
  const auto index = static_cast<size_t>(ticket & ((Ticket{1} << kIndexBits) - 1));
  CHECK_LT(index, exchanges_.size());
  Exchange& x = *exchanges_[index];
  CHECK(x.ticket == ticket && !x.waited) << "this exchange is not under way: " << ticket;
  if (x.copies) device_.context.AwaitEvent(DeviceQueue::kCompute, x.copied);
  if (x.sends || x.receives) {
    PostThrough(x.number);
    x.host->Wait(x.host_ticket);
    CopyIn(x);
  }  // else it waits for nobody, and is posted when its turn comes
  x.waited = true;
  if (x.posted) Release(x);
}

// What came goes to the device beside the compute queue, unless blocks of a later exchange are still to be
// copied out there, after work that the compute queue has not yet done: then what came would wait for that
// work twice.
void StagedTraffic::CopyIn(Exchange& x) {
  if (!x.receives) return;
  DeviceContext& device = device_.context;
  const DeviceQueue queue = pending_.empty() ? DeviceQueue::kCommunication : DeviceQueue::kCompute;
  for (size_t p = 0; p < x.in.size(); ++p) {
    if (x.in[p].bytes > 0) device.Copy(queue, x.to[p].data, x.in[p].data, x.in[p].bytes);
  }
  device.Record(x.piece->read, queue);
  if (queue != DeviceQueue::kCompute) device.AwaitEvent(DeviceQueue::kCompute, x.piece->read);
}

// REQUIRES: posted, and waited for here.
void StagedTraffic::Release(Exchange& x) {
  if (x.piece) {
    pool_.Give(*x.piece);
  } else {
    x.host->Wait(x.host_ticket);  // without blocks: at once
  }
  x.piece = nullptr;
  free_.push_back(&x);
}

}  // namespace unipool
