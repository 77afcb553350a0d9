// A device that runs kernels on the host, for tests: blocks in turn, the threads of a block as fibers that
// give way at barriers and warp operations only, in an order that can be chosen. What hardware leaves
// undefined is an error here that names the kernel, the block and the thread: threads of a block that miss a
// barrier, lanes that miss a warp operation, accesses outside arrays or not aligned, shared memory beyond its
// end. So is a launch that a driver refuses.
#pragma once

#include <signal.h>

#include <csetjmp>
#include <cstdint>
#include <functional>
#include <random>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/cuda_emulation/fiber.h"
#include "tests/cuda_emulation/guarded_memory.h"
#include "tests/cuda_emulation/kernel_queue.h"
#include "tests/cuda_emulation/shared_memory.h"
#include "tests/cuda_emulation/thread_index.h"

namespace unipool::emulation {

class KernelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline constexpr int kLanes = 32;
std::string Text(const std::source_location& where);

// Order in which blocks run, and threads of a block between two barriers. Correct kernels give the same bits
// in all.
enum class ThreadOrder { kAscending, kDescending, kRandom };

// What the lanes of a warp do together: in[i], out[i] belong to lane i, null for lanes outside the mask.
using WarpOperation = void (*)(const void* const in[32], void* const out[32]);

class Machine final : public KernelQueue {
 public:
  Machine(ThreadOrder order, uint64_t seed, GuardedMemory& memory);
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // cudaStream_t of the queue that runs all work at once.
  void* stream() { return static_cast<KernelQueue*>(this); }
  // Runs the kernel before it returns. Throws KernelError.
  void Launch(const KernelLaunch& launch, std::function<void()> body) override;
  void Enqueue(const std::string&, std::vector<Access>, std::function<void()> work) override { work(); }

  // For kernels that are running.
  static Machine& Current();
  void Barrier(const std::source_location& where);
  // As Barrier; returns how many threads of the block gave true.
  int CountingBarrier(bool vote, const std::source_location& where);
  void Together(unsigned mask, WarpOperation operation, const void* in, void* out,
                const std::source_location& where);
  void* Shared(const void* site, const char* name, int64_t bytes, int64_t alignment);
  void* DynamicShared();
  // Copies that a thread does not wait for: they happen as late as they may, and their destination is NaN
  // until then. from == nullptr: zeros.
  void CopyAsync(void* to, const void* from, int bytes);
  void CommitCopies();
  void WaitCopies(int pending_groups);
  int lane() const { return running_ % 32; }
  [[noreturn]] void Fail(std::string problem);

 private:
  enum class State : uint8_t { kReady, kAtBarrier, kAtWarpOperation, kEnded };
  struct Copy {
    void* to;
    const void* from;
    int bytes, group;
  };
  struct Thread {
    Context context;
    uint3 index;
    State state;
    unsigned mask;
    WarpOperation operation;
    const void* in;
    void* out;
    std::source_location where;
    std::vector<Copy> copies;
    int num_groups;
  };
  // Where the scheduler goes on, and its stack.
  struct Scheduler {
    Context context;
    const void* bottom = nullptr;
    size_t bytes = 0;
  };
  // Of the block that runs.
  struct Progress {
    int num_threads = 0, num_ended = 0, num_at_barrier = 0;
    int votes = 0, last_votes = 0;  // of the counting barrier that threads are at, and of the one before
  };

  static void ThreadMain();
  static void OnSignal(int number, siginfo_t* info, void* context);
  void RunBlocks();
  void RunBlock();
  void PrepareBlock();
  void Resume(int thread);
  void GiveWay();
  void ReleaseBarrier();
  void CheckStuck() const;
  void FinishWarpOperation(int first);
  void Shuffle(std::vector<int64_t>& order);
  std::string Waiting(const Thread& thread) const;
  std::string Place(int thread) const;
  void CheckTaken(const KernelLaunch& launch) const;
  [[noreturn]] void Throw(const std::string& problem) const;

  ThreadOrder order_;
  std::mt19937_64 random_;
  GuardedMemory& memory_;
  FiberStacks stacks_;
  std::vector<Thread> threads_;
  std::vector<int64_t> thread_order_, block_order_;
  Scheduler scheduler_;
  sigjmp_buf fault_;
  std::string failure_;
  std::string kernel_;
  std::function<void()> body_;
  Progress now_;
  volatile int running_ = -1;  // -1: the scheduler
  SharedMemory shared_;
};

}  // namespace unipool::emulation
