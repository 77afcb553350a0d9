// Owned memory, counted by kind. Every large array of a rank is a Buffer. So the peak of each kind is exact
// in every world, also where several ranks are threads of one process.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/range.h"
#include "runtime/tensor.h"

namespace unipool {

// What memory is for. These are words of the floors above. This floor counts by them and decides nothing by
// them.
enum class MemoryKind : uint8_t { kParameters, kGradients, kOptimizer, kActivations, kExchange, kScratch };
inline constexpr int kNumMemoryKinds = 6;
const char* NameOf(MemoryKind kind);

using MemoryParts = std::array<int64_t, kNumMemoryKinds>;  // bytes by kind

// Memory of a device, for code that cannot see the device's headers. No function here is called in the steady
// state of a step.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual void* Allocate(int64_t bytes) = 0;  // at least 16-byte aligned; content undefined
  // Gives back what Allocate or Reserve returned. REQUIRES: all work that uses it is done.
  virtual void Free(void* data) = 0;
  // Address space of max_bytes. Commit turns its first `bytes` into memory, and no address changes. The
  // content of memory that Commit adds is undefined. A device without reserved address space gives all the
  // memory at once, and its Commit does nothing.
  virtual void* Reserve(int64_t max_bytes) { return Allocate(max_bytes); }
  virtual void Commit(void* /*data*/, int64_t /*bytes*/) {}
  // Memory is zero when it returns, which waits for no other work. REQUIRES: no work uses the memory.
  virtual void Zero(void* data, int64_t bytes) = 0;
};

// Bytes in use, and their peak, of one rank in one place: on the host or on a device. Only the rank's own
// thread uses it.
class MemoryMeter {
 public:
  MemoryMeter() = default;
  // Counts memory of `device`, which must outlive the buffers there.
  explicit MemoryMeter(DeviceMemory* device) : device_(device) {}
  DeviceMemory* device() const { return device_; }  // null: the host

  void Add(MemoryKind kind, int64_t bytes);  // negative when given back
  int64_t current_bytes(MemoryKind kind) const { return current_[static_cast<int>(kind)]; }
  int64_t peak_bytes(MemoryKind kind) const { return peak_[static_cast<int>(kind)]; }
  // The peak of the sum over all kinds. It is at most the sum of the kinds' peaks.
  int64_t peak_bytes() const { return peak_total_; }
  // Bytes of each kind at the moment when the sum was largest. They add up to peak_bytes().
  const MemoryParts& parts_at_peak() const { return at_peak_; }
  // Memory that was taken before it is in use (Buffer::TakeAhead). No other number here counts it.
  void AddAhead(int64_t bytes) { ahead_ += bytes; }
  int64_t ahead_bytes() const { return ahead_; }

 private:
  DeviceMemory* device_ = nullptr;
  MemoryParts current_{}, peak_{}, at_peak_{};
  int64_t total_ = 0, peak_total_ = 0, ahead_ = 0;
};

// An array in the place where its meter counts, on the host aligned to 64 bytes. Throws UserError where the
// host gives no address space. There are two ways to get one:
//   Allocate   all bytes are memory at once, and zero
//   Reserve    address space for the worst case, which becomes memory as it is first touched. On the host it
//              is zero then. On a device its content is undefined: clearing would stop the host amid a slot
// A buffer whose size depends on routing is reserved: it never moves, never grows by copying, and costs what
// was really used. Use() says how much that is.
class Buffer {
 public:
  Buffer() = default;
  static Buffer Allocate(MemoryMeter& meter, MemoryKind kind, int64_t bytes);
  static Buffer Reserve(MemoryMeter& meter, MemoryKind kind, int64_t max_bytes);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  // Declares that the first `bytes` are in use from now on. The counted size rises to `bytes` and never
  // falls. REQUIRES: bytes <= max_bytes().
  void Use(int64_t bytes);
  // Before work that may use so many bytes of a buffer that has been used before: they are memory when it
  // returns, so that no page is taken when they are first touched. They count as ahead until they are in use.
  // More than max_bytes() is cut. On a device, which may be full, nothing is taken that may not be needed.
  void TakeAhead(int64_t bytes);
  // The same of bytes [begin, end) that are in use already and may not have been touched.
  void Populate(Range bytes) const;
  void* data() const { return data_; }
  int64_t max_bytes() const { return max_bytes_; }
  // View(), after Use() of the bytes that the view has.
  Tensor UseView(DType dtype, std::initializer_list<int64_t> shape);
  // A tensor at the beginning of the array. REQUIRES: it fits into max_bytes().
  Tensor View(DType dtype, std::initializer_list<int64_t> shape) const;

 private:
  void Release();
  MemoryMeter* meter_ = nullptr;
  MemoryKind kind_ = MemoryKind::kScratch;
  void* data_ = nullptr;
  int64_t max_bytes_ = 0, counted_bytes_ = 0;
  int64_t ahead_end_ = 0;  // bytes from counted_bytes_ to here are memory already
};

}  // namespace unipool
