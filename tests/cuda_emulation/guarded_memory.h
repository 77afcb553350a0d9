// Arrays of the emulated device. Behind the end of each lies a page that faults, in front of its beginning
// bytes that must not change and, further in front, another such page. All bytes start out as 0xff: NaN in
// every floating type, -1 in integers.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/stream.h"

namespace unipool::emulation {

class GuardedMemory : public DeviceMemory {
 public:
  ~GuardedMemory() override;
  void* Allocate(int64_t bytes) override { return Allocate(bytes, "scratch"); }
  // Exactly 16-byte aligned; `bytes` need not be a multiple of that (then the rest up to 15 bytes behind the
  // end is watched, but does not fault).
  void* Allocate(int64_t bytes, const std::string& name);
  void Free(void* data) override;
  // What was overwritten outside the arrays: a sentence each.
  std::vector<std::string> Damage() const;
  // Where an address lies, in words: "4 bytes behind the end of x (128 bytes)".
  std::string Describe(const void* address) const;

 private:
  struct Block {
    std::string name;
    int64_t bytes, mapped_bytes;
    char *mapping, *data;
  };
  void AddDamage(const Block& block, std::vector<std::string>& damage) const;
  std::map<void*, Block> blocks_;
  std::vector<std::string> damage_of_freed_;
};

}  // namespace unipool::emulation
