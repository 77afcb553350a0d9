// Widens stored ids to int32 and checks them against the vocabulary in the same pass.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>

namespace unipool {

// Copies tokens.size() ids of type T from `from`, which may be any address. Returns the index of the first id
// outside [0, vocab), or -1. The loop has no branch, so that the compiler makes vector code of it; only a bad
// block is searched. REQUIRES: vocab >= 1.
template <typename T>
int64_t CopyTokens(const uint8_t* from, int64_t vocab, std::span<int32_t> tokens) {
  using Unsigned = std::make_unsigned_t<T>;  // a negative id is one above every positive id
  const auto load = [from](size_t i) {
    T id;
    std::memcpy(&id, from + i * sizeof(T), sizeof(T));
    return static_cast<Unsigned>(id);
  };
  constexpr auto kLargest =
      std::min<int64_t>(std::numeric_limits<T>::max(), std::numeric_limits<int32_t>::max());
  const auto last = static_cast<Unsigned>(std::min(vocab - 1, kLargest));
  Unsigned bad = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const Unsigned id = load(i);
    tokens[i] = static_cast<int32_t>(id);
    bad |= static_cast<Unsigned>(id > last);
  }
  if (bad == 0) return -1;
  size_t i = 0;
  while (load(i) <= last) ++i;
  return static_cast<int64_t>(i);
}

}  // namespace unipool
