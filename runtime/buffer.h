// Owned memory, counted by kind. Every large array of a rank comes from here, so the peak per kind is exact
// in every world, also where several ranks are threads of one process.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/tensor.h"

namespace unipool {

enum class MemoryKind : uint8_t { kParameters, kGradients, kOptimizer, kActivations, kExchange, kScratch };
inline constexpr int kNumMemoryKinds = 6;
const char* NameOf(MemoryKind kind);

using MemoryParts = std::array<int64_t, kNumMemoryKinds>;  // bytes by kind

// Memory of a device, for those who cannot see its headers. Nothing here is done in the steady state of a
// step.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual void* Allocate(int64_t bytes) = 0;  // at least 16-byte aligned; content undefined
  virtual void Free(void* data) = 0;          // of Allocate or Reserve, after all work that uses it
  // Address space of which Commit makes the first `bytes` memory; what is new begins as zeros. Addresses
  // stay. A device without such a thing gives the memory at once, with undefined content.
  virtual void* Reserve(int64_t max_bytes) { return Allocate(max_bytes); }
  virtual void Commit(void* /*data*/, int64_t /*bytes*/) {}
};

// Bytes in use and their peak for one rank and one place: the host, or a device. Not shared between ranks;
// used by that rank's thread alone.
class MemoryMeter {
 public:
  MemoryMeter() = default;
  explicit MemoryMeter(DeviceMemory* device) : device_(device) {}  // which must outlive its buffers
  DeviceMemory* device() const { return device_; }                 // null: the host

  void Add(MemoryKind kind, int64_t bytes);  // negative when given back
  int64_t current_bytes(MemoryKind kind) const { return current_[static_cast<int>(kind)]; }
  int64_t peak_bytes(MemoryKind kind) const { return peak_[static_cast<int>(kind)]; }
  int64_t peak_bytes() const { return peak_total_; }  // of the sum, which is at most the sum of the peaks
  const MemoryParts& parts_at_peak() const { return at_peak_; }  // of the sum: they add up to it

 private:
  DeviceMemory* device_ = nullptr;
  MemoryParts current_{}, peak_{}, at_peak_{};
  int64_t total_ = 0, peak_total_ = 0;
};

// A 64-byte aligned array, where its meter counts. Two ways to get one:
//   Allocate: all bytes are memory at once, zeroed.
//   Reserve:  address space for the worst case; memory is taken as it is first touched, so buffers whose size
//   depends
//             on routing never move, never grow by copying, and cost what was really used. Say with Use() how
//             much is.
class Buffer {
 public:
  Buffer() = default;
  static Buffer Allocate(MemoryMeter& meter, MemoryKind kind, int64_t bytes);
  static Buffer Reserve(MemoryMeter& meter, MemoryKind kind, int64_t max_bytes);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  // Declares that the first `bytes` are in use from now on; raises the counted size. REQUIRES: bytes <=
  // max_bytes().
  void Use(int64_t bytes);
  void* data() const { return data_; }
  int64_t max_bytes() const { return max_bytes_; }
  // Use() for such a view, and the view of the beginning.
  Tensor UseView(DType dtype, std::initializer_list<int64_t> shape);
  // View of the beginning. REQUIRES: it fits.
  Tensor View(DType dtype, std::initializer_list<int64_t> shape) const;

 private:
  void Release();
  MemoryMeter* meter_ = nullptr;
  MemoryKind kind_ = MemoryKind::kScratch;
  void* data_ = nullptr;
  int64_t max_bytes_ = 0, counted_bytes_ = 0;
};

}  // namespace unipool
