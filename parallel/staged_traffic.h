// All exchanges of device memory of one rank that travel through pinned host memory, over all its
// communicators, in order of their starts.
//
//   Start   the communication queue waits for all work of the compute queue so far and copies the blocks that
//           leave into pinned memory; the event `copied` is behind that
//   post    once `copied` is done, the host communicator starts the exchange between pinned memories. Whoever
//           comes by posts what is ready: every Start and Wait of the rank's communicators, device and host
//           (HostGate), and every wait of the host for an event
//   Wait    posts this exchange and all that were started before it, waiting for their `copied`; waits for
//           the wire; lets the blocks that came be copied to the device, and the compute queue wait for that
//
// Why no ranks wait for each other in a circle. All ranks start their exchanges in one total order, over all
// communicators, those of the host included. Work in the queues of a device never waits for another rank:
// copies to the device are enqueued when the data is here. So the host's waits for `copied` end by
// themselves, and a rank is held up by others only in a host communicator's wait for one exchange X, for
// which it waits until some rank p has posted X. If p has not, p computes, which ends, or is held up in its
// own wait for some Y. By then p had posted everything that it started before Y, and Y itself; so X comes
// after Y in the total order. Along a chain of ranks that wait for each other the exchanges only get earlier:
// it has an end. That is why a host communicator's wait must post what was started before, too (HostGate): a
// rank that waits for a row count, and keeps back rows that another needs before it can send its count, would
// close the circle.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "parallel/device_communicator.h"
#include "parallel/pinned_pool.h"

namespace unipool {

struct StagedOptions {
  std::chrono::milliseconds timeout{300'000};                // as WorldOptions
  int64_t round_bytes = Communicator::kDeviceSumRoundBytes;  // of sums and AllGatherParts; equal on all ranks
};

class StagedTraffic {
 public:
  using Ticket = Communicator::Ticket;
  // After `timeout` in which the host waited for its own device the job ends through `world`, saying so. All
  // must outlive it.
  StagedTraffic(const CommunicationDevice& device, Communicator& world, MemoryMeter& host_memory,
                const StagedOptions& options = {});
  ~StagedTraffic();  // REQUIRES: nothing is under way, unless an exception is
  StagedTraffic(const StagedTraffic&) = delete;

  // As Communicator's, for device memory of the ranks of `host`, which nobody else uses.
  Ticket Start(Communicator& host, std::span<const SendBlock> send, std::span<const RecvBlock> recv,
               const ExchangeLabel& label);
  void Wait(Ticket ticket);

  // The place of what starts now in the order of all starts.
  int64_t NextNumber() { return next_number_++; }
  // Posts what is ready. Does not wait.
  void PostReady();
  // Posts everything that was started up to this number; waits for the own device.
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
