// A device for tests that needs no GPU. Kernels run through cuda_emulation/. The work of the device's two
// queues runs as late, as early or as mixed as events allow: a policy says when. A program that keeps the
// rules of runtime/device_context.h gets the same bits under every policy. A copy declares the memory that it
// uses, and so does other work that Enqueue is given. A mistake in what is declared is a DeviceError, which
// names the operation and is thrown at the call or at a later one:
//   - The memory is neither the device's nor pinned, or it is freed, or it is not committed.
//   - Two operations use the same bytes, one of them writes, and no event orders them (race_check.h).
//   - Pinned memory changed between the call of a copy from it and the moment when the copy ran.
//   - Memory is freed before the host knows that the work on it is over.
// What kernels touch is not declared. There the policies must show wrong numbers, and memory that nobody may
// touch faults. Pinned memory that a pending copy will fill is NaN until then, where the copy is late.
//
// One thread uses it. Free ends all work first, as CUDA does. At its end the device fails the running test
// for errors that nobody has seen, for writes outside arrays and for ranges that were left open.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <random>

#include "runtime/device_context.h"
#include "tests/cuda_emulation/machine.h"
#include "tests/device_emulation/race_check.h"

namespace unipool::emulation {

// When pending work runs.
enum class RunPolicy : uint8_t {
  kEager,              // at once, as far as events allow
  kLate,               // when the host waits for an event, and then only the work that the event needs
  kComputeLate,        // the compute queue is late, the communication queue is eager
  kCommunicationLate,  // the communication queue is late, the compute queue is eager
  kRandom,             // at every call some of the work that is ready
};
inline constexpr RunPolicy kAllPolicies[] = {RunPolicy::kEager, RunPolicy::kLate, RunPolicy::kComputeLate,
                                             RunPolicy::kCommunicationLate, RunPolicy::kRandom};
const char* NameOf(RunPolicy policy);

class AsyncDevice final : public DeviceContext {
 public:
  explicit AsyncDevice(RunPolicy policy, uint64_t seed = 1,
                       ThreadOrder thread_order = ThreadOrder::kAscending);
  ~AsyncDevice() override;

  struct ClosedRange {
    std::string name;
    int depth;  // 0: outermost
    int64_t num_operations;
    int64_t compute_awaited;  // as HostWait::compute_needed: of the communication queue, when it was closed
  };
  struct HostWait {
    Event event;
    ExchangeLabel label;
    int64_t operations_behind;  // enqueued behind the event: what the device can do meanwhile
    int64_t compute_needed;     // what the event waits for of the compute queue: all up to this moment
  };
  // What was done so far. The difference of two counts tells what one step did.
  struct Records {
    int64_t num_allocations = 0, num_pinned_allocations = 0, num_frees = 0;
    int64_t num_commits = 0;  // calls of Commit that made more bytes memory
    int64_t num_events = 0;
    int64_t num_operations = 0;                   // kernels, copies and other work, without events
    int64_t committed_bytes = 0, peak_bytes = 0;  // of the device's memory
    std::vector<ClosedRange> ranges;              // in the order in which they were closed
    std::vector<HostWait> host_waits;  // calls of WaitOnHost, also where the event was done already
    int64_t num_drains = 0;
  };
  const Records& records() const { return records_; }
  // As a device that knows its size. At first it does not.
  void SetTotalBytes(int64_t bytes) { total_bytes_ = bytes; }
  // After so many more commits that take memory, Commit refuses, as a GPU does that has no memory left.
  void RunOutAfter(int64_t commits) { most_commits_ = records_.num_commits + commits; }
  static constexpr int64_t kOperationNs = 1000;
  void ForgetRecords() {
    records_.ranges.clear();
    records_.host_waits.clear();
  }

  // Declares that the host reads or writes pinned memory, for tests of host code. The search for races sees
  // it.
  void HostAccess(const std::string& name, const Access& access);

  int64_t total_bytes() const override { return total_bytes_; }
  int64_t peak_bytes() const override { return records_.peak_bytes; }
  void* queue(DeviceQueue queue) override;
  void* Allocate(int64_t bytes) override;
  void* Reserve(int64_t max_bytes) override;
  void Commit(void* data, int64_t bytes) override;
  void Zero(void* data, int64_t bytes) override { memory_.Zero(data, bytes); }
  void Free(void* data) override;
  void* AllocatePinned(int64_t bytes) override;
  void FreePinned(void* data) override;
  void Copy(DeviceQueue queue, void* to, const void* from, int64_t bytes) override;
  Event MakeEvent() override;
  void Record(Event event, DeviceQueue queue) override;
  void AwaitEvent(DeviceQueue queue, Event event) override;
  bool IsDone(Event event) override;
  Event MakeTimedEvent() override;
  int64_t NsBetween(Event from, Event to) override;
  void Drain() override;
  void PushRange(const char* name) override;
  void PopRange() override;

 protected:
  void OnHostWait(Event event, const ExchangeLabel& label) override {
    const Moment& last = StateOf(event).last;
    records_.host_waits.push_back({event, label, queues_[last.queue].num_enqueued() - last.end,
                                   StateOf(event).clock[static_cast<int>(Actor::kComputeQueue)]});
  }

 private:
  // A moment in a queue: all operations before `end` are done.
  struct Moment {
    int queue = 0;
    int64_t end = 0;
  };
  struct Operation {
    std::string name;
    std::function<void()> work;  // null: waits for `await`, or marks a moment
    Moment await;
    Event timed = -1;  // whose moment it marks
  };
  class Queue final : public KernelQueue {
   public:
    Queue(AsyncDevice& device, int index) : device(device), index(index) {}
    void Launch(const KernelLaunch& launch, std::function<void()> body) override;
    void Enqueue(const std::string& name, std::vector<Access> accesses, std::function<void()> work) override;
    int64_t num_enqueued() const { return num_done + static_cast<int64_t>(pending.size()); }
    AsyncDevice& device;
    const int index;
    std::deque<Operation> pending;
    int64_t num_done = 0;
  };
  struct EventState {
    Moment last{};
    Clock clock{};
    int num_polls = 0;  // in vain, since the last Record
    bool is_timed = false;
    int64_t reached_ns = -1;  // by now_ns_; -1: not yet
  };
  struct OpenRange {
    std::string name;
    int64_t first_operation;
  };

  void Add(int queue, const std::string& name, std::span<const Access> accesses, std::function<void()> work,
           Event timed = -1);
  void CheckLiving(const std::string& name, const Access& access) const;
  // A copy that ends the program where the host changed `from` before the copy ran.
  std::function<void()> GuardedCopy(const std::string& name, void* to, const void* from, int64_t bytes);
  bool IsOver(const Moment& moment) const { return queues_[moment.queue].num_done >= moment.end; }
  bool IsReady(int queue) const;
  bool IsEager(int queue) const;
  void RunFront(int queue);
  void RunUntil(const Moment& moment);  // also the work of the other queue that it needs
  void RunEager();                      // the work that is ready in queues that are eager
  void Progress();                      // the work that the policy does at a call of the host
  void Finish(int queue);
  void FreeFrom(GuardedMemory& memory, void* data);
  EventState& StateOf(Event event);
  void ThrowLateProblem();
  [[noreturn]] void Fail(const std::string& problem);

  const RunPolicy policy_;
  std::mt19937_64 random_;
  GuardedMemory memory_, pinned_;
  Machine machine_;
  Queue queues_[2];
  std::vector<EventState> events_;
  RaceCheck races_;
  std::vector<OpenRange> open_ranges_;
  Records records_;
  int64_t most_commits_ = INT64_MAX;
  int64_t total_bytes_ = 0;
  int64_t now_ns_ = 0;        // work of either queue takes kOperationNs
  std::string late_problem_;  // what a function that may not throw has found; the next call throws it
  bool broken_ = false;       // an error was thrown, so nothing runs any more and nothing is pending
};

}  // namespace unipool::emulation
