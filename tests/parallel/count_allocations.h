// Counts this thread's allocations by standing in for malloc and its kin. Include in one file of a program.
// Under a sanitizer, which has an allocator of its own, nothing is counted.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace unipool {
inline thread_local int64_t allocations_of_this_thread = 0;
inline int64_t AllocationsOfThisThread() {
  return allocations_of_this_thread;
}
}  // namespace unipool

#if !defined(__SANITIZE_ADDRESS__)
extern "C" {
// glibc's own names of the allocator, so that no symbol has to be looked up, which would allocate.
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  ++unipool::allocations_of_this_thread;
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  ++unipool::allocations_of_this_thread;
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) {
  ++unipool::allocations_of_this_thread;
  return __libc_realloc(old, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  ++unipool::allocations_of_this_thread;
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** result, size_t alignment, size_t size) {
  ++unipool::allocations_of_this_thread;
  *result = __libc_memalign(alignment, size);
  return *result ? 0 : ENOMEM;
}
}  // extern "C"
#endif
