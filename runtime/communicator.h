// One primitive moves all data between ranks: an exchange of byte blocks whose sizes both sides know. Start
// begins an exchange and Wait ends it. All-to-all, sends to a neighbour, all-reduce, all-gather and broadcast
// are built on these two. So every sum has one fixed order (rank 0, 1, 2, ...), whichever communicator moves
// the data: that of threads, of MPI, of an emulated cluster, of device memory.
//
// Each rank uses a communicator from one thread. All ranks start their exchanges in the same order. At most
// kMaxUnderWay exchanges may be under way at once, and a rank may wait for them in any order. Nothing waits
// for ever. A rank that has waited for the watchdog's time (WorldOptions) names the operation and the missing
// ranks, and ends the whole job with kStuckExitCode, unless a rank is at file work.
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

class DeviceContext;

struct SendBlock {
  const void* data = nullptr;
  int64_t bytes = 0;
};
struct RecvBlock {
  void* data = nullptr;
  int64_t bytes = 0;
};

// What a communicator knows by itself of the exchange that was waited for last.
struct ToldTimes {
  int64_t start_ns = 0, wait_enter_ns = 0, wait_leave_ns = 0;
  int64_t idle_ns = 0;  // for a peer that had not started
  int64_t wire_ns = 0;  // of the exchange alone
  int cause = -1;       // rank of the job that idle_ns is owed to; -1: none
};

class Communicator {
 public:
  using Ticket = int64_t;
  virtual ~Communicator() = default;
  int rank() const { return rank_; }
  int size() const { return size_; }
  static constexpr int kMaxUnderWay = 32;
  // The rank's device, whose memory the blocks of Start are; null: they are the host's. Such a communicator
  // moves and sums tensors of the device. Barrier, AllReduceMax and AllGatherText have values of the host: a
  // CHECK fails when such a communicator is asked for one.
  virtual DeviceContext* OfDevice() const { return nullptr; }
  bool OnDevice() const { return OfDevice() != nullptr; }

  // Sends send[p] to rank p and fills recv[p] from rank p, for all p. Does not block.
  //   - A block of 0 bytes costs nothing and waits for nobody. The block from a rank to itself is copied.
  //   - The spans are read before Start returns. The memory that they name stays untouched until Wait.
  // REQUIRES: both spans have size() entries. recv[p].bytes on this rank equals send[rank()].bytes on rank p.
  // Where a communicator sees two different sizes, a CHECK prints both.
  virtual Ticket Start(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
                       const ExchangeLabel& label) = 0;
  // Returns when all blocks of this exchange have arrived. From then on the send memory may be written again.
  virtual void Wait(Ticket ticket) = 0;
  void Exchange(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
                const ExchangeLabel& label) {
    Wait(Start(send, recv, label));
  }

  // Null where the communicator knows nothing. Otherwise valid as long as the communicator, and filled in by
  // each Wait.
  virtual const ToldTimes* Told() const { return nullptr; }

  // Work with files may take long on one rank while the others wait for it. Between these two calls this rank
  // is at file work. Waiting ranks do not take it for stuck before the world's limit for files has passed.
  // `what` is a static string, as in "is at file work: WHAT". The calls nest. REQUIRES: no exchange is
  // started or waited for in between, on any communicator of this rank. Communicators of device memory tell
  // nobody.
  virtual void BeginFileWork(const char* /*what*/) {}
  virtual void EndFileWork() {}
  // Whether a rank of the job is at file work and within its limit. It may take a second to find out.
  virtual bool SomeoneAtFiles() { return false; }

  // Ranks of equal color form a communicator, in which they are ordered by key. Collective over this one.
  virtual std::unique_ptr<Communicator> Split(int color, int key) = 0;

  // Prints the message once, and ends all ranks of the job with this exit code.
  [[noreturn]] virtual void Abort(int exit_code, const std::string& message) = 0;

  // ---- Built on the exchange. All of these are collective and blocking. Sums take F32, F64, I32 and I64.
  // AllReduceSum cuts the elements into an even partition, one part a rank (range.h). Rank p sums part p in
  // rank order and sends the sums back. So each rank sends 2 * (size - 1) / size * bytes, and the result is
  // bit-identical on all ranks, in all runs and with all communicators.
  void AllReduceSum(const Tensor& values, const ExchangeLabel& label);
  // The first half of AllReduceSum: part rank() of the even partition becomes its sum, in place. The other
  // parts are undefined afterwards.
  void ReduceScatterSum(const Tensor& values, const ExchangeLabel& label);
  // The second half: each rank's part of the even partition is copied to all ranks.
  void AllGatherParts(const Tensor& values, const ExchangeLabel& label);
  void Broadcast(void* data, int64_t bytes, int root, const ExchangeLabel& label);
  void Barrier(const ExchangeLabel& label);
  // Texts of all ranks, in rank order.
  std::vector<std::string> AllGatherText(const std::string& text, const ExchangeLabel& label);
  double AllReduceMax(double value, const ExchangeLabel& label);

  // Staging memory that a sum of n elements takes, for memory plans. round_bytes: see SumRoundBytes.
  static int64_t SumStagingBytes(int64_t n, int64_t element_bytes, int size, int64_t round_bytes);
  static constexpr int64_t kDeviceSumRoundBytes = int64_t{16} << 20;  // SumRoundBytes of device memory

 protected:
  Communicator(int rank, int size) : rank_(rank), size_(size) {}

  // ---- What sums need of the place where the values lie. These are the host's; a communicator of device
  // memory has its own. At least `bytes` of memory, valid until the next call that asks for more.
  virtual void* Staging(int64_t bytes);
  // own[i] = x_0[i] + x_1[i] + ..., added in rank order. x_r lies at parts + r * stride bytes; this rank's
  // own x is `own` itself (kernels/rank_sum.h).
  virtual void SumParts(const Tensor& own, const void* parts, int64_t stride);
  // A large tensor goes in rounds. In one round of a sum, or of AllGatherParts, at most so many bytes go
  // through this rank each way; the number is equal on all ranks. The host sums in cache, and gathers all at
  // once.
  virtual int64_t SumRoundBytes() const { return int64_t{4} << 20; }
  virtual int64_t GatherRoundBytes() const { return kNoLimit; }
  static constexpr int64_t kNoLimit = INT64_MAX;
  // For a communicator that hands all of this on to another one.
  static void* StagingOf(Communicator& other, int64_t bytes) { return other.Staging(bytes); }
  static void SumPartsOf(Communicator& other, const Tensor& own, const void* parts, int64_t stride) {
    other.SumParts(own, parts, stride);
  }
  static int64_t SumRoundBytesOf(const Communicator& other) { return other.SumRoundBytes(); }
  static int64_t GatherRoundBytesOf(const Communicator& other) { return other.GatherRoundBytes(); }
  int rank_, size_;

 private:
  void CheckHostValues(const ExchangeLabel& label) const;
  std::vector<SendBlock> send_;  // reused by the functions above, so that steady state allocates nothing
  std::vector<RecvBlock> recv_;
  std::vector<char> staging_;
};

// File work as long as it lives.
class FileWork {
 public:
  FileWork(Communicator& communicator, const char* what) : communicator_(communicator) {
    communicator_.BeginFileWork(what);
  }
  ~FileWork() { communicator_.EndFileWork(); }
  FileWork(const FileWork&) = delete;

 private:
  Communicator& communicator_;
};

}  // namespace unipool
