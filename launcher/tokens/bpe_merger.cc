#include "launcher/tokens/bpe_merger.h"

#include <algorithm>
#include <limits>
#include <queue>

namespace unipool {

namespace {

constexpr size_t kShortPiece = 48;  // bytes; below this a scan of all pairs is faster than a heap
constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t PairHash(uint64_t pair) {
  return (pair * 0x9E3779B97F4A7C15u) >> 32;
}

}  // namespace

bool BpeMerger::AddMerge(int32_t left, int32_t right, int32_t merged) {
  if (table_.size() < 2 * (static_cast<size_t>(num_merges_) + 1)) Grow();
  const uint64_t pair = PairKey(left, right);
  size_t slot = PairHash(pair) & (table_.size() - 1);
  while (table_[slot].pair != kEmpty) {
    if (table_[slot].pair == pair) return false;
    slot = (slot + 1) & (table_.size() - 1);
  }
  table_[slot] = {pair, num_merges_++, merged};
  return true;
}

void BpeMerger::Grow() {
  std::vector<Entry> old(std::max<size_t>(16, 2 * table_.size()));
  old.swap(table_);
  for (const Entry& entry : old) {
    if (entry.pair == kEmpty) continue;
    size_t slot = PairHash(entry.pair) & (table_.size() - 1);
    while (table_[slot].pair != kEmpty) slot = (slot + 1) & (table_.size() - 1);
    table_[slot] = entry;
  }
}

const BpeMerger::Entry* BpeMerger::Find(int32_t left, int32_t right) const {
  if (table_.empty()) return nullptr;
  const uint64_t pair = PairKey(left, right);
  size_t slot = PairHash(pair) & (table_.size() - 1);
  while (table_[slot].pair != kEmpty) {
    if (table_[slot].pair == pair) return &table_[slot];
    slot = (slot + 1) & (table_.size() - 1);
  }
  return nullptr;
}

void BpeMerger::Merge(std::string_view piece, std::vector<int32_t>& ids) const {
  if (piece.size() <= kShortPiece) {
    MergeShort(piece, ids);
  } else {
    MergeLong(piece, ids);
  }
}

void BpeMerger::MergeShort(std::string_view piece, std::vector<int32_t>& ids) const {
  int32_t symbols[kShortPiece], ranks[kShortPiece];  // ranks[i]: of the pair (i, i+1)
  int n = 0;
  for (const char c : piece) symbols[n++] = id_of_byte_[static_cast<uint8_t>(c)];
  const auto rank_of = [&](int i) {
    const Entry* entry = i >= 0 && i + 1 < n ? Find(symbols[i], symbols[i + 1]) : nullptr;
    return entry == nullptr ? kNoRank : entry->rank;
  };
  for (int i = 0; i < n; ++i) ranks[i] = rank_of(i);
  while (n > 1) {
    const int best = static_cast<int>(std::min_element(ranks, ranks + n) - ranks);
    if (ranks[best] == kNoRank) break;
    symbols[best] = Find(symbols[best], symbols[best + 1])->merged;
    std::copy(symbols + best + 2, symbols + n, symbols + best + 1);
    std::copy(ranks + best + 2, ranks + n, ranks + best + 1);
    --n;
    ranks[best] = rank_of(best);
    if (best > 0) ranks[best - 1] = rank_of(best - 1);
  }
  ids.insert(ids.end(), symbols, symbols + n);
}

// A linked list of symbols and a heap of candidate pairs. A candidate is stale when one of its symbols has
// changed since, which its ids tell.
void BpeMerger::MergeLong(std::string_view piece, std::vector<int32_t>& ids) const {
  struct Symbol {
    int32_t id;
    int32_t previous, next;  // -1 at the ends
  };
  struct Candidate {
    int32_t rank, position, left, right, merged;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  const auto n = static_cast<int32_t>(piece.size());
  std::vector<Symbol> symbols(piece.size());
  for (int32_t i = 0; i < n; ++i) {
    symbols[i] = {id_of_byte_[static_cast<uint8_t>(piece[i])], i - 1, i + 1 < n ? i + 1 : -1};
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto consider = [&](int32_t i) {
    if (i < 0 || symbols[i].next < 0) return;
    const int32_t left = symbols[i].id, right = symbols[symbols[i].next].id;
    const Entry* entry = Find(left, right);
    if (entry != nullptr) candidates.push({entry->rank, i, left, right, entry->merged});
  };
  for (int32_t i = 0; i < n; ++i) consider(i);
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& symbol = symbols[best.position];
    if (symbol.id != best.left || symbol.next < 0 || symbols[symbol.next].id != best.right) continue;
    symbols[symbol.next].id = -1;  // no candidate names -1, so those of the swallowed symbol are stale
    symbol.id = best.merged;
    symbol.next = symbols[symbol.next].next;
    if (symbol.next >= 0) symbols[symbol.next].previous = best.position;
    consider(symbol.previous);
    consider(best.position);
  }
  for (int32_t i = 0; i >= 0; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace unipool
