// Device memory from GPU to GPU by NCCL's grouped sends and receives of exact sizes, one GPU per rank.
//
// All communicators of a rank share one NCCL communicator of the whole job, and launch on the rank's
// communication queue. A group's exchange names its members by their ranks in the job. All ranks start their
// exchanges in one total order over all communicators. So what a pair of ranks sends and receives matches in
// order, and no two launches can wait for each other.
//
// The host waits for other ranks only while the communicator is made and ended. NCCL connects two ranks in
// their first exchange, so the making includes an exchange of one byte between all pairs. A launch then takes
// as long as NCCL's own work on the host. Calls that may wait run under a guard: a thread that ends the job
// with kStuckExitCode when they take longer than `timeout`.
// Work that does not get done is seen when the host waits for the device (DeviceContext::WaitOnHost). After
// `timeout` the job ends with kStuckExitCode and names the oldest exchange that is not done and the ranks
// between which it is. After an error of NCCL the job ends at once, with NCCL's words.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "parallel/device_communicator.h"
#include "parallel/nccl_api.h"
#include "runtime/watchdog.h"

namespace unipool {

// One rank's exchanges, over all its communicators.
class NcclTraffic {
 public:
  using Ticket = Communicator::Ticket;
  // Collective over `world`, all ranks of the job in host memory: makes the NCCL communicator and connects
  // all pairs of ranks. All must outlive it. `world` may be used from the guard's thread until this returns,
  // and in the destructor, never beside the calling thread.
  NcclTraffic(std::unique_ptr<NcclApi> nccl, const CommunicationDevice& device, Communicator& world,
              std::chrono::milliseconds timeout);
  ~NcclTraffic();  // waits for the device, unless an exception is under way
  NcclTraffic(const NcclTraffic&) = delete;

  // As Communicator::Start and Wait. Block p is for rank members[p] of the job. Block `rank` is this rank's
  // own.
  Ticket Start(std::span<const int> members, int rank, std::span<const SendBlock> send,
               std::span<const RecvBlock> recv, const ExchangeLabel& label);
  void Wait(Ticket ticket);
  const CommunicationDevice& device() const { return device_; }
  [[noreturn]] void End(int exit_code, const std::string& message);

 private:
  struct Exchange {
    Ticket ticket = 0;
    bool waited = true;
    DeviceContext::Event done = 0;
    ExchangeLabel label;
    std::vector<int> peers;  // ranks of the job with which it exchanges blocks, in the order of the members
  };
  Exchange& AddExchange();
  Exchange& TakeExchange();
  void Launch(std::span<const int> members, int rank, std::span<const SendBlock> send,
              std::span<const RecvBlock> recv);
  void Connect();
  std::vector<int> Others() const;                           // all ranks of the job but this one
  Exchange WithAllOthers(const ExchangeLabel& label) const;  // for a call that waits for all of them
  void RunGuarded(const Exchange& x, const std::function<void()>& call);
  void Watch(const ExchangeLabel& label, double waited_seconds);
  const Exchange* OldestNotDone();
  [[noreturn]] void EndStuck(const Exchange& x, double waited_seconds);
  [[noreturn]] void EndFailed(const Exchange* x);

  std::unique_ptr<NcclApi> nccl_;
  CommunicationDevice device_;
  Communicator& world_;
  Patience patience_;
  Buffer greetings_;  // a byte to each rank and a byte from each, for Connect
  std::vector<std::unique_ptr<Exchange>> exchanges_;
  std::vector<Exchange*> resting_;  // waited for, the one that rests longest first
  DeviceContext::Event computed_;   // all work of the compute queue so far
  Ticket next_ = 0;
  int watch_ = 0;
};

// A communicator of device memory between the ranks of `host`. Collective: `host` carries their ranks in the
// job. `host` is not used afterwards.
std::unique_ptr<Communicator> MakeNcclCommunicator(Communicator& host, int world_rank,
                                                   std::shared_ptr<NcclTraffic> traffic);

}  // namespace unipool
