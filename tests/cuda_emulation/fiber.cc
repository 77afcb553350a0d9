#include "tests/cuda_emulation/fiber.h"

#include <glog/logging.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves the registers that a call keeps, exchanges the stacks, restores. System V calling convention.
extern "C" void unipool_switch_stack(void** save, void* load);
asm(R"(
.text
.globl unipool_switch_stack
.type unipool_switch_stack, @function
unipool_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size unipool_switch_stack, .-unipool_switch_stack
)");
#endif

namespace unipool::emulation {

void ForgetFrames([[maybe_unused]] void* memory, [[maybe_unused]] int64_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

namespace {
constexpr uint64_t kCanary = 0x5afe57acc0ffee11;

void Unmap(void* memory, int64_t bytes) {
  if (!memory) return;
  ForgetFrames(memory, bytes);
  munmap(memory, bytes);
}

}  // namespace

FiberStacks::~FiberStacks() {
  Unmap(memory_, count_ * kStackBytes);
}

void FiberStacks::Reserve(int count) {
  if (count <= count_) return;
  Unmap(memory_, count_ * kStackBytes);
  memory_ = mmap(nullptr, count * kStackBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  PCHECK(memory_ != MAP_FAILED) << count << " stacks";
  count_ = count;
}

void FiberStacks::Prepare(int i, Context& context, void (*entry)()) const {
  ForgetFrames(bottom(i), kStackBytes);
  *static_cast<uint64_t*>(bottom(i)) = kCanary;
  context.fake_stack = nullptr;
#if defined(__x86_64__)
  constexpr int kSavedRegisters = 6;
  void** top = reinterpret_cast<void**>(static_cast<char*>(bottom(i)) + kStackBytes);
  *--top = nullptr;  // where `entry` would return to
  *--top = reinterpret_cast<void*>(entry);
  for (int r = 0; r < kSavedRegisters; ++r) *--top = nullptr;
  context.stack_pointer = top;
#else
  getcontext(&context.context);
  context.context.uc_stack.ss_sp = bottom(i);
  context.context.uc_stack.ss_size = kStackBytes;
  context.context.uc_link = nullptr;
  makecontext(&context.context, entry, 0);
#endif
}

bool FiberStacks::Overflowed(int i) const {
  return *static_cast<uint64_t*>(bottom(i)) != kCanary;
}

void Switch(Context& from, Context& to, [[maybe_unused]] const void* to_bottom,
            [[maybe_unused]] size_t to_bytes, [[maybe_unused]] bool from_ends) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.fake_stack, to_bottom, to_bytes);
#endif
#if defined(__x86_64__)
  unipool_switch_stack(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void EnterFiber([[maybe_unused]] const void** from_bottom, [[maybe_unused]] size_t* from_bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, from_bottom, from_bytes);
#endif
}

void LandOn([[maybe_unused]] const void* bottom, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, bottom, bytes);
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

}  // namespace unipool::emulation
