// Arrays of the emulated device. Behind the end of each lies a page that faults, in front of its beginning
// bytes that must not change and, further in front, another such page. All bytes start out as 0xff: NaN in
// every floating type, -1 in integers. What was freed faults as long as this object lives.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/stream.h"

namespace unipool::emulation {

class GuardedMemory : public DeviceMemory {
 public:
  struct Block {
    std::string name;
    int64_t bytes, committed_bytes, mapped_bytes;
    char *mapping, *data;
    char *open_begin, *open_end;  // pages that do not fault; the rest does
    bool freed;
  };

  ~GuardedMemory() override;
  void* Allocate(int64_t bytes) override { return Allocate(bytes, "scratch"); }
  // Exactly 16-byte aligned; `bytes` need not be a multiple of that (then the rest up to 15 bytes behind the
  // end is watched, but does not fault).
  void* Allocate(int64_t bytes, const std::string& name);
  // 64-byte aligned. What is not committed faults, or is watched up to the end of its page.
  void* Reserve(int64_t max_bytes) override { return Reserve(max_bytes, "buffer"); }
  void* Reserve(int64_t max_bytes, const std::string& name);
  void Commit(void* data, int64_t bytes) override;
  void Zero(void* data, int64_t bytes) override;
  void Free(void* data) override;

  // The living array in which an address lies, or null.
  const Block* Find(const void* address) const;
  // What was overwritten outside the arrays: a sentence each.
  std::vector<std::string> Damage() const;
  // Where an address lies, in words: "4 bytes behind the end of x (128 bytes)".
  std::string Describe(const void* address) const;

 private:
  Block& Living(void* data);
  void AddDamage(const Block& block, std::vector<std::string>& damage) const;
  void CheckPoison(const char* begin, const char* end, std::vector<std::string>& damage) const;
  std::map<const char*, Block> blocks_;  // by data
  std::vector<std::string> earlier_damage_;
};

}  // namespace unipool::emulation
