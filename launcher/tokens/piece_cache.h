// The ids of pieces that were encoded before, since text repeats its words. It is a fixed table without
// chains. Each piece has one slot, and a newcomer replaces what was there. So memory is bounded, and a
// look-up touches one cache line. Each thread has one, for one tokenizer at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace unipool {

class PieceCache {
 public:
  static constexpr size_t kMaxBytes = 32;       // longer pieces are rare and not kept
  static constexpr size_t kMaxIds = 6;          // nor are pieces of more ids
  static constexpr size_t kNumSlots = 1 << 15;  // 2 MiB

  static bool Holds(std::string_view piece) { return piece.size() <= kMaxBytes; }

  // A piece as four words, padded with zeros, and its length. REQUIRES: Holds(piece).
  struct Key {
    explicit Key(std::string_view piece) : num_bytes(static_cast<uint8_t>(piece.size())) {
      std::memcpy(words, piece.data(), piece.size());
    }
    uint64_t words[kMaxBytes / 8] = {};
    uint8_t num_bytes;
  };

  struct alignas(64) Slot {
    bool Is(const Key& key) const {
      return num_bytes == key.num_bytes && words[0] == key.words[0] && words[1] == key.words[1] &&
             words[2] == key.words[2] && words[3] == key.words[3];
    }
    void Replace(const Key& key, std::span<const int32_t> new_ids) {
      if (new_ids.size() > kMaxIds) return;
      std::copy(std::begin(key.words), std::end(key.words), words);
      std::copy(new_ids.begin(), new_ids.end(), ids);
      num_bytes = key.num_bytes;
      num_ids = static_cast<uint8_t>(new_ids.size());
    }

    uint64_t words[kMaxBytes / 8] = {};
    int32_t ids[kMaxIds] = {};
    uint8_t num_bytes = 0;  // 0: empty, since no piece is empty
    uint8_t num_ids = 0;
  };

  // Forgets everything if the owner changes. Owners are numbered from 1.
  void SetOwner(uint64_t owner) {
    if (owner == owner_) return;
    slots_.assign(kNumSlots, Slot());
    owner_ = owner;
  }

  Slot& SlotOf(const Key& key) {
    uint64_t hash = key.num_bytes;
    for (const uint64_t word : key.words) hash = (hash ^ word) * 0x9E3779B97F4A7C15u + (hash >> 29);
    return slots_[(hash >> 40) % kNumSlots];
  }

 private:
  uint64_t owner_ = 0;
  std::vector<Slot> slots_;
};

}  // namespace unipool
