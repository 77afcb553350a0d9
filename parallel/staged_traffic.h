// All exchanges of device memory of one rank that travel through pinned host memory, over all its
// communicators, in the order of their starts.
//
//   Start   The communication queue waits for all work of the compute queue so far (within an
//           EarlyStart for less). Then it copies the blocks that leave into pinned memory, and records the
//           event `copied` behind them.
//   post    Once `copied` is done, the host communicator starts the exchange between pinned memories. Whoever
//           comes by posts what is ready: every Start and Wait of the rank's communicators, of device and of
//           host memory (HostGate), and every wait of the host for an event.
//   Wait    Posts this exchange and all that were started before it, waiting for their `copied`. Waits for
//           the wire. Lets the blocks that came be copied to the device, and the compute queue wait for that.
//
// Why no ranks wait for each other in a circle:
//   1. All ranks start their exchanges in one total order over all communicators, of device and host memory.
//   2. Work in a device's queues never waits for another rank, since copies to the device are enqueued only
//      when the data is here. So the host's waits for `copied` end by themselves.
//   3. So a rank is held up by others only in Wait of one exchange X, until every rank of X has posted X.
//   4. Let rank p be one that has not posted X. Either p computes, which ends, or p itself waits for some Y.
//   5. p has posted Y and everything that it started before Y. X is not among these. So X comes after Y in
//      the total order.
//   6. Along a chain of ranks that wait for each other the exchanges get earlier and earlier. A circle would
//      have to come back to X, so there is none.
// Example, 2 ranks: rank 0 waits for combine 7, because rank 1 has not posted it. Rank 1 waits for dispatch
// 5. Rank 0 has posted dispatch 5, since its Wait of 7 posted 5 before. So rank 1 goes on and posts 7.
//
// Step 5 holds for host memory too: Wait of a host communicator posts what was started before (HostGate).
// Suppose it did not, and rank 0 waits for a row count of rank 1 while it keeps back rows. If rank 1 needs
// these rows before it can count, both wait for ever.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "parallel/device_communicator.h"
#include "parallel/pinned_pool.h"

namespace unipool {

struct StagedOptions {
  std::chrono::milliseconds timeout{300'000};  // as WorldOptions
  // Of sums and AllGatherParts. Equal on all ranks.
  int64_t round_bytes = Communicator::kDeviceSumRoundBytes;
};

class StagedTraffic {
 public:
  using Ticket = Communicator::Ticket;
  // When the host has waited for its own device for `timeout`, the job ends through `world` and says so. All
  // must outlive it.
  StagedTraffic(const CommunicationDevice& device, Communicator& world, MemoryMeter& host_memory,
                const StagedOptions& options = {});
  ~StagedTraffic();  // REQUIRES: nothing is under way, unless an exception is
  StagedTraffic(const StagedTraffic&) = delete;

  // As Communicator::Start and Wait, for device memory of the ranks of `host`. Nobody else uses `host`.
  Ticket Start(Communicator& host, std::span<const SendBlock> send, std::span<const RecvBlock> recv,
               const ExchangeLabel& label);
  void Wait(Ticket ticket);

  // The place in the order of all starts of the exchange that starts now.
  int64_t NextNumber() { return next_number_++; }
  // Posts what is ready, in order. Does not wait.
  void PostReady();
  // Posts everything that was started up to this number. Waits for the rank's own device.
  void PostThrough(int64_t number);

  const CommunicationDevice& device() const { return device_; }
  int64_t round_bytes() const { return round_bytes_; }
  int64_t pinned_bytes() const { return pool_.allocated_bytes(); }

 private:
  struct Exchange {
    Ticket ticket = -1;  // -1: free
    int64_t number = 0;
    Communicator* host = nullptr;
    ExchangeLabel label;
    bool sends = false, receives = false;  // to and from other ranks
    bool copies = false;                   // `copied` is recorded
    bool posted = false, waited = false;
    DeviceContext::Event copied = 0;
    PinnedPool::Piece* piece = nullptr;  // what leaves, then what comes; null if neither
    Ticket host_ticket = 0;
    std::vector<SendBlock> out;  // pinned, by rank
    std::vector<RecvBlock> in;   // pinned
    std::vector<RecvBlock> to;   // where `in` goes on the device
  };
  Exchange& TakeExchange(int size);
  void PlaceBlocks(Exchange& x, int rank, std::span<const SendBlock> send, std::span<const RecvBlock> recv);
  void CopyOut(Exchange& x, int rank, std::span<const SendBlock> send, std::span<const RecvBlock> recv);
  void PostFirst();
  void CopyIn(Exchange& x);
  void Release(Exchange& x);

  CommunicationDevice device_;
  const int64_t round_bytes_;
  PinnedPool pool_;
  std::vector<std::unique_ptr<Exchange>> exchanges_;
  std::vector<Exchange*> free_;
  std::vector<Exchange*> pending_;  // not yet posted, in order of start
  DeviceContext::Event computed_;   // all work of the compute queue so far
  int64_t next_number_ = 0;
  Ticket next_ticket_ = 0;
  int watch_ = 0, poll_ = 0;
};

}  // namespace unipool
