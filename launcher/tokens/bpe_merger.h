// The merging half of byte-pair encoding: the bytes of one piece become token ids.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace unipool {

class BpeMerger {
 public:
  void SetByte(uint8_t byte, int32_t id) { id_of_byte_[byte] = id; }

  // The next merge in rank order: the pair (left, right) becomes `merged`. False if the pair has a rank
  // already. REQUIRES: `merged` is no byte's id and no earlier merge's result; left and right are each a
  // byte's id or an earlier merge's result. The result of a merge then takes part in merges of higher rank
  // only. So merging one occurrence at a time, leftmost first, gives what merging all occurrences of a pair
  // at once gives.
  bool AddMerge(int32_t left, int32_t right, int32_t merged);

  // Appends the ids of `piece`. O(n^2) for short pieces, O(n log n) for long ones. Thread-safe.
  void Merge(std::string_view piece, std::vector<int32_t>& ids) const;

 private:
  struct Entry {
    uint64_t pair = kEmpty;  // left << 32 | right
    int32_t rank = 0;
    int32_t merged = 0;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};

  const Entry* Find(int32_t left, int32_t right) const;
  void Grow();
  void MergeShort(std::string_view piece, std::vector<int32_t>& ids) const;
  void MergeLong(std::string_view piece, std::vector<int32_t>& ids) const;

  std::array<int32_t, 256> id_of_byte_ = {};
  std::vector<Entry> table_;  // open addressing, a power of two, at most half full
  int32_t num_merges_ = 0;
};

}  // namespace unipool
