#include "tests/cuda_emulation/guarded_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace unipool::emulation {
namespace {

constexpr unsigned char kPoison = 0xff;
const int64_t kPage = sysconf(_SC_PAGESIZE);
constexpr int64_t kAlignment = 16, kReservedAlignment = 64;

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
char* PageEnd(char* address) {
  return reinterpret_cast<char*>(RoundUp(reinterpret_cast<int64_t>(address), kPage));
}

// An array of `bytes` that ends, up to its alignment, where a page that faults begins. All pages fault yet.
GuardedMemory::Block Map(int64_t bytes, int64_t alignment, const std::string& name) {
  CHECK_GE(bytes, 0) << name;
  const int64_t inner = RoundUp(bytes + alignment, kPage), mapped = inner + 2 * kPage;
  void* mapping = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  PCHECK(mapping != MAP_FAILED) << bytes << " bytes for " << name;
  char* first = static_cast<char*>(mapping) + kPage;
  return {.name = name,
          .bytes = bytes,
          .committed_bytes = 0,
          .mapped_bytes = mapped,
          .mapping = static_cast<char*>(mapping),
          .data = first + inner - RoundUp(bytes, alignment),
          .open_begin = first,
          .open_end = first,
          .freed = false};
}

}  // namespace

GuardedMemory::~GuardedMemory() {
  for (const auto& [data, block] : blocks_) munmap(block.mapping, block.mapped_bytes);
}

void* GuardedMemory::Allocate(int64_t bytes, const std::string& name) {
  Block block = Map(bytes, kAlignment, name);
  block.committed_bytes = bytes;
  block.open_end = block.mapping + block.mapped_bytes - kPage;
  const int64_t open_bytes = block.open_end - block.open_begin;
  PCHECK(mprotect(block.open_begin, open_bytes, PROT_READ | PROT_WRITE) == 0) << name;
  std::memset(block.open_begin, kPoison, open_bytes);
  return blocks_.emplace(block.data, block).first->second.data;
}

void* GuardedMemory::Reserve(int64_t max_bytes, const std::string& name) {
  Block block = Map(max_bytes, kReservedAlignment, name);
  return blocks_.emplace(block.data, block).first->second.data;
}

void GuardedMemory::Commit(void* data, int64_t bytes) {
  Block& block = Living(data);
  CHECK_LE(bytes, block.bytes) << block.name;
  if (bytes <= block.committed_bytes) return;
  char *old_end = block.data + block.committed_bytes, *new_end = block.data + bytes;
  CheckPoison(old_end, std::min(block.open_end, new_end), earlier_damage_);
  if (char* open_end = PageEnd(new_end); open_end > block.open_end) {
    PCHECK(mprotect(block.open_end, open_end - block.open_end, PROT_READ | PROT_WRITE) == 0) << block.name;
    if (block.open_end == block.open_begin) {
      std::memset(block.open_begin, kPoison, block.data - block.open_begin);
    }
    std::memset(new_end, kPoison, open_end - new_end);
    block.open_end = open_end;
  }
  std::memset(old_end, kPoison, new_end - old_end);
  block.committed_bytes = bytes;
}

void GuardedMemory::Zero(void* data, int64_t bytes) {
  const Block* block = Find(data);
  CHECK(block) << Describe(data);
  CHECK_LE(static_cast<char*>(data) + bytes, block->data + block->committed_bytes) << block->name;
  std::memset(data, 0, bytes);
}

GuardedMemory::Block& GuardedMemory::Living(void* data) {
  const auto found = blocks_.find(static_cast<char*>(data));
  CHECK(found != blocks_.end() && !found->second.freed) << data << " was not allocated here, or was freed";
  return found->second;
}

void GuardedMemory::Free(void* data) {
  Block& block = Living(data);
  AddDamage(block, earlier_damage_);
  block.freed = true;
  madvise(block.mapping, block.mapped_bytes, MADV_DONTNEED);
  PCHECK(mprotect(block.mapping, block.mapped_bytes, PROT_NONE) == 0) << block.name;
}

const GuardedMemory::Block* GuardedMemory::Find(const void* address) const {
  const char* at = static_cast<const char*>(address);
  auto next = blocks_.upper_bound(at);
  if (next == blocks_.begin()) return nullptr;
  const Block& block = std::prev(next)->second;
  return !block.freed && at < block.data + block.bytes ? &block : nullptr;
}

void GuardedMemory::CheckPoison(const char* begin, const char* end, std::vector<std::string>& damage) const {
  for (const char* at = begin; at < end; ++at) {
    if (static_cast<unsigned char>(*at) == kPoison) continue;
    damage.push_back("written " + Describe(at));
    return;
  }
}

void GuardedMemory::AddDamage(const Block& block, std::vector<std::string>& damage) const {
  if (block.freed || block.open_begin == block.open_end) return;
  CheckPoison(block.open_begin, block.data, damage);
  CheckPoison(block.data + block.committed_bytes, block.open_end, damage);
}

std::vector<std::string> GuardedMemory::Damage() const {
  std::vector<std::string> damage = earlier_damage_;
  for (const auto& [data, block] : blocks_) AddDamage(block, damage);
  return damage;
}

std::string GuardedMemory::Describe(const void* address) const {
  const char* at = static_cast<const char*>(address);
  for (const auto& [data, block] : blocks_) {
    if (at < block.mapping || at >= block.mapping + block.mapped_bytes) continue;
    std::string array =
        (block.freed ? "freed " : "") + block.name + " (" + std::to_string(block.bytes) + " bytes)";
    if (at < block.data) return std::to_string(block.data - at) + " bytes before the beginning of " + array;
    if (block.committed_bytes < block.bytes) {
      array += ", of which " + std::to_string(block.committed_bytes) + " are committed";
    }
    const int64_t behind = at - (block.data + block.bytes);
    if (behind >= 0) return std::to_string(behind) + " bytes behind the end of " + array;
    return "at byte " + std::to_string(at - block.data) + " of " + array;
  }
  return "at an address outside all arrays";
}

}  // namespace unipool::emulation
