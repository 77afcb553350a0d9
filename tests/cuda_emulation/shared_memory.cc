#include "tests/cuda_emulation/shared_memory.h"

#include <glog/logging.h>
#include <sys/mman.h>

#include <cstring>

namespace unipool::emulation {
namespace {

constexpr int64_t kGapBytes = 64;  // between static arrays, watched
constexpr int64_t kBytes = 512 << 10, kGuardBytes = 64 << 10;

}  // namespace

SharedMemory::SharedMemory() {
  // Dynamic shared memory ends where the guard begins; static arrays lie in the lower half.
  void* mapping = mmap(nullptr, kBytes + kGuardBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  PCHECK(mapping != MAP_FAILED && mprotect(mapping, kBytes, PROT_READ | PROT_WRITE) == 0);
  data_ = static_cast<char*>(mapping);
}

SharedMemory::~SharedMemory() {
  munmap(data_, kBytes + kGuardBytes);
}

void SharedMemory::BeginKernel(int64_t dynamic_bytes, int64_t most_bytes) {
  dynamic_bytes_ = dynamic_bytes;
  most_bytes_ = most_bytes;
  static_bytes_ = declared_bytes_ = 0;
  arrays_.clear();
  std::memset(data_, kPoison, kMostStaticBytes + kGapBytes);
}

void SharedMemory::BeginBlock() {
  std::memset(data_, kPoison, static_bytes_ + kGapBytes);
  std::memset(data_ + kBytes - dynamic_bytes_ - kGapBytes, kPoison, dynamic_bytes_ + kGapBytes);
}

void* SharedMemory::Array(const void* site, const char* name, int64_t bytes, int64_t alignment) {
  for (const SharedArray& array : arrays_) {
    if (array.site == site) return data_ + array.offset;
  }
  const int64_t offset = (static_bytes_ + kGapBytes + alignment - 1) / alignment * alignment;
  declared_bytes_ = (declared_bytes_ + alignment - 1) / alignment * alignment + bytes;
  if (offset + bytes > kMostStaticBytes || declared_bytes_ + dynamic_bytes_ > most_bytes_) return nullptr;
  arrays_.push_back({site, name, offset, bytes});
  static_bytes_ = offset + bytes;
  return data_ + offset;
}

std::string SharedMemory::Room() const {
  return std::to_string(declared_bytes_) + " bytes of static and " + std::to_string(dynamic_bytes_) +
         " of dynamic shared memory, and at most " + std::to_string(most_bytes_) + " together, " +
         std::to_string(kMostStaticBytes) + " static";
}

void* SharedMemory::Dynamic() {
  return data_ + kBytes - (dynamic_bytes_ + 15) / 16 * 16;
}

std::optional<std::string> SharedMemory::Damage() const {
  const auto is_whole = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (static_cast<unsigned char>(data_[i]) != kPoison) return false;
    }
    return true;
  };
  int64_t end = 0;
  for (const SharedArray& array : arrays_) {
    if (!is_whole(end, array.offset)) return array.name;
    end = array.offset + array.bytes;
  }
  if (!arrays_.empty() && !is_whole(end, end + kGapBytes)) return arrays_.back().name;
  if (!is_whole(kBytes - dynamic_bytes_ - kGapBytes, kBytes - (dynamic_bytes_ + 15) / 16 * 16))
    return "of dynamic size";
  return std::nullopt;
}

int64_t SharedMemory::BytesBehind(const char* address) const {
  const int64_t behind = address - (data_ + kBytes);
  return behind < kGuardBytes ? behind : -1;
}

}  // namespace unipool::emulation
