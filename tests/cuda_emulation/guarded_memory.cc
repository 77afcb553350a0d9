#include "tests/cuda_emulation/guarded_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace unipool::emulation {
namespace {

constexpr unsigned char kPoison = 0xff;
const int64_t kPage = sysconf(_SC_PAGESIZE);
constexpr int64_t kAlignment = 16;

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

GuardedMemory::~GuardedMemory() {
  for (const auto& [data, block] : blocks_) munmap(block.mapping, block.mapped_bytes);
}

void* GuardedMemory::Allocate(int64_t bytes, const std::string& name) {
  CHECK_GE(bytes, 0) << name;
  const int64_t inner = RoundUp(bytes + kAlignment, kPage);
  const int64_t mapped = inner + 2 * kPage;
  void* mapping = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  PCHECK(mapping != MAP_FAILED) << bytes << " bytes for " << name;
  char* first = static_cast<char*>(mapping) + kPage;
  PCHECK(mprotect(first, inner, PROT_READ | PROT_WRITE) == 0);
  std::memset(first, kPoison, inner);
  char* data = first + inner - RoundUp(bytes, kAlignment);
  blocks_[data] = {name, bytes, mapped, static_cast<char*>(mapping), data};
  return data;
}

void GuardedMemory::Free(void* data) {
  const auto found = blocks_.find(data);
  CHECK(found != blocks_.end()) << data << " was not allocated here";
  AddDamage(found->second, damage_of_freed_);
  munmap(found->second.mapping, found->second.mapped_bytes);
  blocks_.erase(found);
}

void GuardedMemory::AddDamage(const Block& block, std::vector<std::string>& damage) const {
  const auto check = [&](const char* begin, const char* end) {
    for (const char* at = begin; at < end; ++at) {
      if (static_cast<unsigned char>(*at) == kPoison) continue;
      damage.push_back("written " + Describe(at));
      return;
    }
  };
  check(block.mapping + kPage, block.data);
  check(block.data + block.bytes, block.mapping + block.mapped_bytes - kPage);
}

std::vector<std::string> GuardedMemory::Damage() const {
  std::vector<std::string> damage = damage_of_freed_;
  for (const auto& [data, block] : blocks_) AddDamage(block, damage);
  return damage;
}

std::string GuardedMemory::Describe(const void* address) const {
  const char* at = static_cast<const char*>(address);
  for (const auto& [data, block] : blocks_) {
    if (at < block.mapping || at >= block.mapping + block.mapped_bytes) continue;
    const std::string array = block.name + " (" + std::to_string(block.bytes) + " bytes)";
    if (at < block.data) return std::to_string(block.data - at) + " bytes before the beginning of " + array;
    const int64_t behind = at - (block.data + block.bytes);
    if (behind >= 0) return std::to_string(behind) + " bytes behind the end of " + array;
    return "at byte " + std::to_string(at - block.data) + " of " + array;
  }
  return "at an address outside all arrays";
}

}  // namespace unipool::emulation
