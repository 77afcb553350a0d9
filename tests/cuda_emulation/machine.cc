#include "tests/cuda_emulation/machine.h"

#include <signal.h>
#include <sys/mman.h>
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

constexpr int kMostThreads = 1024, kMostGridYZ = 65535;
constexpr int64_t kMostStaticShared = 48 << 10,
                  kMostShared = 163 << 10;  // of sm_80, the smallest we build for
constexpr int64_t kGapBytes = 64;           // between static shared arrays, watched
constexpr int64_t kSharedBytes = 512 << 10, kGuardBytes = 64 << 10;

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
    : order_(order), random_(seed), memory_(memory) {
  // Dynamic shared memory ends where the guard begins; static arrays lie in the lower half.
  void* mapping = mmap(nullptr, kSharedBytes + kGuardBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  PCHECK(mapping != MAP_FAILED && mprotect(mapping, kSharedBytes, PROT_READ | PROT_WRITE) == 0);
  shared_ = static_cast<char*>(mapping);
}

Machine::~Machine() {
  munmap(shared_, kSharedBytes + kGuardBytes);
}

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

void Machine::Launch(const std::string& kernel, dim3 grid, dim3 block, int64_t shared_bytes,
                     std::function<void()> body) {
  kernel_ = kernel;
  num_threads_ = static_cast<int>(block.x * block.y * block.z);
  if (num_threads_ < 1 || num_threads_ > kMostThreads || block.z > 64)
    Throw("a block of " + std::to_string(num_threads_) + " threads");
  if (grid.y > kMostGridYZ || grid.z > kMostGridYZ || grid.x > 0x7fffffff) Throw("the grid is too large");
  if (shared_bytes > kMostShared) Throw(std::to_string(shared_bytes) + " bytes of dynamic shared memory");
  CHECK(!current) << "a kernel within a kernel";
  body_ = std::move(body);
  dynamic_bytes_ = shared_bytes;
  static_bytes_ = 0;
  shared_arrays_.clear();
  std::memset(shared_, kPoison, kMostStaticShared + kGapBytes);
  failure_.clear();
  blockDim = block;
  gridDim = grid;
  stacks_.Reserve(num_threads_);
  threads_.resize(num_threads_);
  thread_order_.resize(num_threads_);
  block_order_.resize(int64_t{grid.x} * grid.y * grid.z);
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
    LandOn(scheduler_bottom_, scheduler_bytes_);
    Throw(failure_);
  }
  for (const int64_t block : block_order_) {
    blockIdx = Unravel(block, gridDim);
    RunBlock();
  }
}

void Machine::PrepareBlock() {
  std::memset(shared_, kPoison, static_bytes_ + kGapBytes);
  std::memset(shared_ + kSharedBytes - dynamic_bytes_ - kGapBytes, kPoison, dynamic_bytes_ + kGapBytes);
  for (int i = 0; i < num_threads_; ++i) {
    threads_[i].index = Unravel(i, blockDim);
    threads_[i].state = State::kReady;
    threads_[i].copies.clear();
    threads_[i].num_groups = 0;
    stacks_.Prepare(i, threads_[i].context, &ThreadMain);
  }
  num_ended_ = num_at_barrier_ = votes_ = 0;
  Shuffle(thread_order_);
}

void Machine::RunBlock() {
  PrepareBlock();
  while (num_ended_ < num_threads_) {
    bool progress = false;
    for (const int64_t thread : thread_order_) {
      if (threads_[thread].state != State::kReady) continue;
      progress = true;
      Resume(static_cast<int>(thread));
      if (!failure_.empty()) Throw(failure_);
    }
    if (num_at_barrier_ == num_threads_) {
      ReleaseBarrier();
    } else if (!progress) {
      CheckStuck();
    }
  }
  for (int i = 0; i < num_threads_; ++i) {
    if (stacks_.Overflowed(i)) Throw("its threads need larger stacks than the emulation gives them");
  }
  CheckShared();
}

void Machine::Resume(int thread) {
  running_ = thread;
  threadIdx = threads_[thread].index;
  Switch(scheduler_, threads_[thread].context, stacks_.bottom(thread), FiberStacks::kStackBytes);
  running_ = -1;
}

void Machine::GiveWay() {
  Thread& thread = threads_[running_];
  Switch(thread.context, scheduler_, scheduler_bottom_, scheduler_bytes_, thread.state == State::kEnded);
}

void Machine::ThreadMain() {
  Machine& machine = *current;
  EnterFiber(&machine.scheduler_bottom_, &machine.scheduler_bytes_);
  machine.body_();
  machine.threads_[machine.running_].state = State::kEnded;
  ++machine.num_ended_;
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
  ++num_at_barrier_;
  GiveWay();
}

int Machine::CountingBarrier(bool vote, const std::source_location& where) {
  votes_ += vote;
  Barrier(where);
  return last_votes_;
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
  last_votes_ = votes_;
  num_at_barrier_ = votes_ = 0;
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
  for (int i = 0; i < num_threads_; ++i) {
    const Thread& waiting = threads_[i];
    if (waiting.state != State::kAtWarpOperation) continue;
    for (int lane = 0; lane < kLanes; ++lane) {
      const int peer = i / kLanes * kLanes + lane;
      if (!(waiting.mask >> lane & 1) || peer == i) continue;
      if (peer < num_threads_ && threads_[peer].state == State::kAtWarpOperation) continue;
      Throw(Place(i) + " is " + Waiting(waiting) + " and waits for lane " + std::to_string(lane) +
            ", which is " + (peer < num_threads_ ? Waiting(threads_[peer]) : "no thread of the block"));
    }
  }
  for (int i = 0; i < num_threads_; ++i) {
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
  for (const SharedArray& array : shared_arrays_) {
    if (array.site == site) return shared_ + array.offset;
  }
  const int64_t offset = (static_bytes_ + kGapBytes + alignment - 1) / alignment * alignment;
  if (offset + bytes > kMostStaticShared) {
    Fail("static shared memory of more than " + std::to_string(kMostStaticShared) + " bytes");
  }
  shared_arrays_.push_back({site, name, offset, bytes});
  static_bytes_ = offset + bytes;
  return shared_ + offset;
}

void* Machine::DynamicShared() {
  return shared_ + kSharedBytes - (dynamic_bytes_ + 15) / 16 * 16;
}

// The bytes around shared arrays are as they were.
void Machine::CheckShared() const {
  const auto check = [&](int64_t begin, int64_t end, const std::string& neighbour) {
    for (int64_t i = begin; i < end; ++i) {
      if (static_cast<unsigned char>(shared_[i]) == kPoison) continue;
      Throw("block " + Text(blockIdx) + ": written outside the shared array " + neighbour);
    }
  };
  int64_t end = 0;
  for (const SharedArray& array : shared_arrays_) {
    check(end, array.offset, array.name);
    end = array.offset + array.bytes;
  }
  if (!shared_arrays_.empty()) check(end, end + kGapBytes, shared_arrays_.back().name);
  check(kSharedBytes - dynamic_bytes_ - kGapBytes, kSharedBytes - (dynamic_bytes_ + 15) / 16 * 16,
        "of dynamic size");
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
    const int64_t behind = address - (machine.shared_ + kSharedBytes);
    if (behind >= 0 && behind < kGuardBytes) {
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
