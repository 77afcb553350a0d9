// One primitive moves all data between ranks: an exchange of byte blocks whose sizes both sides know.
// All-to-all, neighbour send/receive, all-reduce, all-gather and broadcast are built on it, so a transport
// (threads, MPI, NCCL, an emulated wire) implements two functions, and every sum has one fixed order (rank 0,
// 1, 2, ...), whatever the transport.
//
// Every rank of a communicator uses it from one thread and starts its exchanges in the same order. Several
// (32 at most) may be under way at once and may be waited for in any order. Nothing waits for ever: after
// `timeout` the waiting rank names the operation and the missing ranks and ends the whole job with
// kStuckExitCode.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/exchange_label.h"
#include "runtime/tensor.h"

namespace unipool {

struct SendBlock {
  const void* data = nullptr;
  int64_t bytes = 0;
};
struct RecvBlock {
  void* data = nullptr;
  int64_t bytes = 0;
};

class Communicator {
 public:
  using Ticket = int64_t;
  virtual ~Communicator() = default;
  int rank() const { return rank_; }
  int size() const { return size_; }
  // Whether the blocks of Start are memory of the rank's device. Such a communicator moves and sums tensors
  // of the device; Barrier, AllReduceMax and AllGatherText, whose values are the host's, are CHECKed not to
  // be asked of it.
  virtual bool OnDevice() const { return false; }

  // Sends send[p] to rank p and fills recv[p] from rank p, for all p. REQUIRES: both spans have size()
  // entries; recv[p].bytes here == send[rank()].bytes on p (CHECKed, both numbers printed, where the
  // transport can see it). A block of 0 bytes costs nothing and waits for nobody. The own block is copied
  // unless it has 0 bytes. The spans are read before Start returns; the memory they name stays untouched
  // until Wait. Does not block.
  virtual Ticket Start(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
                       const ExchangeLabel& label) = 0;
  // Returns when all blocks of that exchange have arrived and the send memory may be written again.
  virtual void Wait(Ticket ticket) = 0;
  void Exchange(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
                const ExchangeLabel& label) {
    Wait(Start(send, recv, label));
  }

  // Ranks of equal color form a communicator, ordered by key. Collective over this one.
  virtual std::unique_ptr<Communicator> Split(int color, int key) = 0;

  // Ends the whole job, all ranks, with this exit code, after printing the message once.
  [[noreturn]] virtual void Abort(int exit_code, const std::string& message) = 0;

  // ---- Built on the exchange. All are collective and blocking; F32, F64, I32 and I64 where numbers are
  // summed. Element i is summed in rank order, on the rank that owns part i of an even partition, then sent
  // back: each rank sends 2 * (size-1)/size * bytes, and the result is bit-identical on every rank, run and
  // transport.
  void AllReduceSum(const Tensor& values, const ExchangeLabel& label);
  // Leaves the sum of part `rank()` of EvenPartition(values.size(), size()) (range.h) in place; the other
  // parts are undefined.
  void ReduceScatterSum(const Tensor& values, const ExchangeLabel& label);
  // The inverse movement: each rank's part of the even partition is spread to all.
  void AllGatherParts(const Tensor& values, const ExchangeLabel& label);
  void Broadcast(void* data, int64_t bytes, int root, const ExchangeLabel& label);
  void Barrier(const ExchangeLabel& label);
  // Texts of all ranks, in rank order.
  std::vector<std::string> AllGatherText(const std::string& text, const ExchangeLabel& label);
  double AllReduceMax(double value, const ExchangeLabel& label);

  // Memory that sums of n elements take on the way, for plans; round_bytes as SumRoundBytes.
  static int64_t SumStagingBytes(int64_t n, int64_t element_bytes, int size, int64_t round_bytes);
  static constexpr int64_t kDeviceSumRoundBytes = int64_t{16} << 20;  // of communicators of device memory

 protected:
  Communicator(int rank, int size) : rank_(rank), size_(size) {}
  // What the sums need of the place where values lie, here the host; a communicator of device memory has its
  // own. Staging: at least `bytes` until the next call that asks for more. SumParts: own[i] = sum over r of
  // x_r[i] in rank order, x_r at parts + r * stride bytes and x_rank `own` itself (kernels/rank_sum.h).
  virtual void* Staging(int64_t bytes);
  virtual void SumParts(const Tensor& own, const void* parts, int64_t stride);
  // Large tensors go round by round: what one round of a sum, or of AllGatherParts, moves at most through
  // this rank each way; equal on all ranks. The host sums in cache, and gathers all at once.
  virtual int64_t SumRoundBytes() const { return int64_t{4} << 20; }
  virtual int64_t GatherRoundBytes() const { return kNoLimit; }
  static constexpr int64_t kNoLimit = INT64_MAX;
  int rank_, size_;

 private:
  void CheckHostValues(const ExchangeLabel& label) const;
  std::vector<SendBlock> send_;  // reused by the functions above, so that steady state allocates nothing
  std::vector<RecvBlock> recv_;
  std::vector<char> staging_;
};

}  // namespace unipool
