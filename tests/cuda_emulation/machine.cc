#include "tests/cuda_emulation/machine.h"

#include <signal.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <numeric>

namespace unipool::emulation {

std::string Text(const std::source_location& where) {
  return std::string(where.file_name()) + ":" + std::to_string(where.line());
}

namespace {

constexpr int64_t kMostThreads = 1024, kMostThreadsZ = 64, kMostGridX = 0x7fffffff, kMostGridYZ = 65535;
// What every driver takes. From sm_70 and CUDA 12.1 on 32764 are allowed.
constexpr int64_t kMostArgumentBytes = 4096;

// One thread per rank runs kernels of its own device.
constinit thread_local Machine* current = nullptr;

std::string Text(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) +
         ")";
}
uint3 Unravel(int64_t i, const dim3& size) {
  return {static_cast<unsigned>(i % size.x), static_cast<unsigned>(i / size.x % size.y),
          static_cast<unsigned>(i / size.x / size.y)};
}

// Faults of a kernel arrive at Machine::OnSignal, on a stack of their own. Handlers are the process's: the
// first thread that runs a kernel sets them, the last one takes them back.
class SignalScope {
 public:
  explicit SignalScope(void (*handler)(int, siginfo_t*, void*)) : stack_(64 << 10) {
    stack_t stack = {};
    stack.ss_sp = stack_.data();
    stack.ss_size = stack_.size();
    PCHECK(sigaltstack(&stack, &old_stack_) == 0);
    const std::lock_guard lock(mutex_);
    if (num_users_++ > 0) return;
    struct sigaction action = {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < kNumSignals; ++i) PCHECK(sigaction(kSignals[i], &action, &old_[i]) == 0);
  }
  ~SignalScope() {
    sigaltstack(&old_stack_, nullptr);
    const std::lock_guard lock(mutex_);
    if (--num_users_ > 0) return;
    for (int i = 0; i < kNumSignals; ++i) sigaction(kSignals[i], &old_[i], nullptr);
  }

 private:
  static constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
  static constexpr int kNumSignals = 5;
  std::vector<char> stack_;
  stack_t old_stack_ = {};
  static inline std::mutex mutex_;
  static inline int num_users_ = 0;
  static inline struct sigaction old_[kNumSignals];
};

}  // namespace

Machine::Machine(ThreadOrder order, uint64_t seed, GuardedMemory& memory)
    : order_(order), random_(seed), memory_(memory) {}

Machine& Machine::Current() {
  CHECK(current) << "no kernel is running";
  return *current;
}

std::string Machine::Place(int thread) const {
  return "block " + Text(blockIdx) + ", thread " + Text(threads_[thread].index);
}

void Machine::Throw(const std::string& problem) const {
  throw KernelError("kernel " + kernel_ + ": " + problem);
}

void Machine::CheckTaken(const KernelLaunch& launch) const {
  const dim3 &grid = launch.grid, &block = launch.block;
  const int64_t num_threads = int64_t{block.x} * block.y * block.z;
  if (num_threads < 1 || num_threads > kMostThreads || block.z > kMostThreadsZ)
    Throw("a block of " + std::to_string(num_threads) + " threads");
  if (num_threads > launch.most_threads) {
    Throw("a block of " + std::to_string(num_threads) + " threads, and at most " +
          std::to_string(launch.most_threads) + " by its launch bounds");
  }
  if (grid.x > kMostGridX || grid.y > kMostGridYZ || grid.z > kMostGridYZ) Throw("the grid is too large");
  if (launch.argument_bytes > kMostArgumentBytes) {
    Throw(std::to_string(launch.argument_bytes) + " bytes of arguments, and at most " +
          std::to_string(kMostArgumentBytes));
  }
}

void Machine::Launch(const KernelLaunch& launch, std::function<void()> body) {
  kernel_ = launch.name;
  CheckTaken(launch);
  const int64_t most_bytes =
      launch.asks_for_shared ? SharedMemory::kMostBytes : SharedMemory::kMostWithoutAsking;
  if (launch.shared_bytes > most_bytes) {
    Throw(std::to_string(launch.shared_bytes) + " bytes of dynamic shared memory, and at most " +
          std::to_string(most_bytes));
  }
  CHECK(!current) << "a kernel within a kernel";
  body_ = std::move(body);
  shared_.BeginKernel(launch.shared_bytes, most_bytes);
  failure_.clear();
  blockDim = launch.block;
  gridDim = launch.grid;
  now_.num_threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  stacks_.Reserve(now_.num_threads);
  threads_.resize(now_.num_threads);
  thread_order_.resize(now_.num_threads);
  block_order_.resize(int64_t{gridDim.x} * gridDim.y * gridDim.z);
  const SignalScope signals(&OnSignal);
  struct CurrentScope {
    explicit CurrentScope(Machine* machine) { current = machine; }
    ~CurrentScope() { current = nullptr; }
  } const scope(this);
  RunBlocks();
}

void Machine::Shuffle(std::vector<int64_t>& order) {
  std::iota(order.begin(), order.end(), 0);
  if (order_ == ThreadOrder::kDescending) std::reverse(order.begin(), order.end());
  if (order_ == ThreadOrder::kRandom) std::shuffle(order.begin(), order.end(), random_);
}

void Machine::RunBlocks() {
  Shuffle(block_order_);
  if (sigsetjmp(fault_, 1) != 0) {
    running_ = -1;
    LandOn(scheduler_.bottom, scheduler_.bytes);
    Throw(failure_);
  }
  for (const int64_t block : block_order_) {
    blockIdx = Unravel(block, gridDim);
    RunBlock();
  }
}

void Machine::PrepareBlock() {
  shared_.BeginBlock();
  for (int i = 0; i < now_.num_threads; ++i) {
    threads_[i].index = Unravel(i, blockDim);
    threads_[i].state = State::kReady;
    threads_[i].copies.clear();
    threads_[i].num_groups = 0;
    stacks_.Prepare(i, threads_[i].context, &ThreadMain);
  }
  now_.num_ended = now_.num_at_barrier = now_.votes = 0;
  Shuffle(thread_order_);
}

void Machine::RunBlock() {
  PrepareBlock();
  while (now_.num_ended < now_.num_threads) {
    bool progress = false;
    for (const int64_t thread : thread_order_) {
      if (threads_[thread].state != State::kReady) continue;
      progress = true;
      Resume(static_cast<int>(thread));
      if (!failure_.empty()) Throw(failure_);
    }
    if (now_.num_at_barrier == now_.num_threads) {
      ReleaseBarrier();
    } else if (!progress) {
      CheckStuck();
    }
  }
  for (int i = 0; i < now_.num_threads; ++i) {
    if (stacks_.Overflowed(i)) Throw("its threads need larger stacks than the emulation gives them");
  }
  if (const auto damaged = shared_.Damage()) {
    Throw("block " + Text(blockIdx) + ": written outside the shared array " + *damaged);
  }
}

void Machine::Resume(int thread) {
  running_ = thread;
  threadIdx = threads_[thread].index;
  Switch(scheduler_.context, threads_[thread].context, stacks_.bottom(thread), FiberStacks::kStackBytes);
  running_ = -1;
}

void Machine::GiveWay() {
  Thread& thread = threads_[running_];
  Switch(thread.context, scheduler_.context, scheduler_.bottom, scheduler_.bytes,
         thread.state == State::kEnded);
}

void Machine::ThreadMain() {
  Machine& machine = *current;
  EnterFiber(&machine.scheduler_.bottom, &machine.scheduler_.bytes);
  machine.body_();
  machine.threads_[machine.running_].state = State::kEnded;
  ++machine.now_.num_ended;
  machine.GiveWay();
  LOG(FATAL) << "a thread continued after its end";
}

void Machine::Fail(std::string problem) {
  failure_ = Place(running_) + ": " + problem;
  std::string().swap(problem);  // nobody else will free it: this stack is abandoned
  GiveWay();
  LOG(FATAL) << "a thread continued after it failed";
  __builtin_unreachable();
}

void Machine::Barrier(const std::source_location& where) {
  Thread& thread = threads_[running_];
  thread.state = State::kAtBarrier;
  thread.where = where;
  ++now_.num_at_barrier;
  GiveWay();
}

int Machine::CountingBarrier(bool vote, const std::source_location& where) {
  now_.votes += vote;
  Barrier(where);
  return now_.last_votes;
}

void Machine::ReleaseBarrier() {
  for (Thread& thread : threads_) {
    if (thread.where.line() != threads_[0].where.line() ||
        std::strcmp(thread.where.file_name(), threads_[0].where.file_name()) != 0) {
      Throw("block " + Text(blockIdx) + ": thread " + Text(threads_[0].index) + " is " +
            Waiting(threads_[0]) + ", but thread " + Text(thread.index) + " is " + Waiting(thread));
    }
    thread.state = State::kReady;
  }
  now_.last_votes = now_.votes;
  now_.num_at_barrier = now_.votes = 0;
  if (order_ == ThreadOrder::kRandom) Shuffle(thread_order_);
}

std::string Machine::Waiting(const Thread& thread) const {
  switch (thread.state) {
    case State::kReady:
      return "running";
    case State::kAtBarrier:
      return "at the barrier of " + Text(thread.where);
    case State::kAtWarpOperation:
      return "at the warp operation of " + Text(thread.where);
    case State::kEnded:
      return "at its end";
  }
  return "";
}

// Nobody can go on: names the first thread that waits and the first that will not come.
void Machine::CheckStuck() const {
  for (int i = 0; i < now_.num_threads; ++i) {
    const Thread& waiting = threads_[i];
    if (waiting.state != State::kAtWarpOperation) continue;
    for (int lane = 0; lane < kLanes; ++lane) {
      const int peer = i / kLanes * kLanes + lane;
      if (!(waiting.mask >> lane & 1) || peer == i) continue;
      if (peer < now_.num_threads && threads_[peer].state == State::kAtWarpOperation) continue;
      Throw(Place(i) + " is " + Waiting(waiting) + " and waits for lane " + std::to_string(lane) +
            ", which is " + (peer < now_.num_threads ? Waiting(threads_[peer]) : "no thread of the block"));
    }
  }
  for (int i = 0; i < now_.num_threads; ++i) {
    if (threads_[i].state != State::kAtBarrier) continue;
    for (const Thread& other : threads_) {
      if (other.state == State::kAtBarrier) continue;
      Throw(Place(i) + " is " + Waiting(threads_[i]) + ", which thread " + Text(other.index) +
            " does not reach: it is " + Waiting(other));
    }
  }
  Throw("block " + Text(blockIdx) + ": its threads wait for each other");
}

void* Machine::Shared(const void* site, const char* name, int64_t bytes, int64_t alignment) {
  void* array = shared_.Array(site, name, bytes, alignment);
  if (array == nullptr) Fail("the static array " + std::string(name) + " has no room: " + shared_.Room());
  return array;
}

void* Machine::DynamicShared() {
  return shared_.Dynamic();
}

void Machine::OnSignal(int number, siginfo_t* info, [[maybe_unused]] void* context) {
  if (!current || current->running_ < 0) {
    signal(number, SIG_DFL);
    raise(number);
    return;
  }
  Machine& machine = *current;
  std::string problem = machine.Place(machine.running_) + ": ";
  const char* address = static_cast<const char*>(info->si_addr);
  if (number == SIGSEGV || number == SIGBUS) {
    std::string access = "accesses memory ";
#if defined(__x86_64__)
    constexpr int64_t kWriteBit = 2;
    const auto error = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR];
    access = error & kWriteBit ? "writes " : "reads ";
#endif
    const int64_t behind = machine.shared_.BytesBehind(address);
    if (behind >= 0) {
      problem += access + std::to_string(behind) + " bytes behind the end of dynamic shared memory";
    } else {
      problem += access + machine.memory_.Describe(address);
    }
  } else if (number == SIGFPE) {
    problem += "divides by zero";
  } else {
    problem += "makes a misaligned access, or indexes outside an array of fixed size";
  }
  machine.failure_ = problem;
  siglongjmp(machine.fault_, 1);
}

}  // namespace unipool::emulation
