// The shared memory of the block that runs: static arrays in the lower half, with watched gaps around each,
// and dynamic memory that ends where a page faults. Memory begins as poison.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace unipool::emulation {

inline constexpr unsigned char kPoison = 0xff;

class SharedMemory {
 public:
  static constexpr int64_t kMostStaticBytes = 48 << 10;
  static constexpr int64_t kMostWithoutAsking = 48 << 10;  // static and dynamic together
  static constexpr int64_t kMostBytes = 163 << 10;         // of sm_80, the smallest that we build for

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // A kernel begins, or one of its blocks.
  void BeginKernel(int64_t dynamic_bytes, int64_t most_bytes);
  void BeginBlock();
  // The array that a kernel declares at `site`, the same for all threads. Null: there is no room for it.
  void* Array(const void* site, const char* name, int64_t bytes, int64_t alignment);
  // How many bytes of which kind there are, and may be.
  std::string Room() const;
  void* Dynamic();
  // The array beside which a byte was written that belongs to none.
  std::optional<std::string> Damage() const;
  // How many bytes behind the end of dynamic memory a faulting address lies. Negative: it is another address.
  int64_t BytesBehind(const char* address) const;

 private:
  struct SharedArray {
    const void* site;
    const char* name;
    int64_t offset, bytes;
  };
  char* data_ = nullptr;
  int64_t dynamic_bytes_ = 0, most_bytes_ = 0;
  int64_t static_bytes_ = 0;    // with the gaps
  int64_t declared_bytes_ = 0;  // without them, as a device places the arrays
  std::vector<SharedArray> arrays_;
};

}  // namespace unipool::emulation
