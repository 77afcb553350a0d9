// Threads of a block as fibers: stacks that take turns on one processor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace unipool::emulation {

// Where a fiber, or the scheduler, continues.
struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  void* fake_stack = nullptr;  // AddressSanitizer's, if that is on
};

// Frames that were left without returning leave guards behind that the sanitizer would still see in what
// comes to lie there next.
void ForgetFrames(void* memory, int64_t bytes);

// A pool of equal stacks; grows to the largest block and keeps them.
class FiberStacks {
 public:
  ~FiberStacks();
  void Reserve(int count);
  void* bottom(int i) const { return static_cast<char*>(memory_) + i * kStackBytes; }
  // Lets `context` begin with `entry` (which never returns) on stack i.
  void Prepare(int i, Context& context, void (*entry)()) const;
  bool Overflowed(int i) const;  // the lowest bytes of the stack were written
#if defined(__SANITIZE_ADDRESS__)
  static constexpr int64_t kStackBytes = 512 << 10;
#else
  static constexpr int64_t kStackBytes = 64 << 10;
#endif

 private:
  void* memory_ = nullptr;
  int count_ = 0;
};

// Leaves `from` and continues `to`, whose stack begins at to_bottom (for the sanitizer; null with 0 bytes:
// the thread's own stack as last seen).
void Switch(Context& from, Context& to, const void* to_bottom, size_t to_bytes, bool from_ends = false);
// To be called first when a fiber begins; remembers the stack it was entered from.
void EnterFiber(const void** from_bottom, size_t* from_bytes);

// To be called after a jump out of a fiber that did not use Switch: this stack is the running one now.
void LandOn(const void* bottom, size_t bytes);

}  // namespace unipool::emulation
