// The sum of several products with one result, such as the weight gradients of several slots. A result that
// is larger than the operands moves once, where a call for each product moves it once a call.
#pragma once

#include <span>

#include "kernels/cpu/gemm_tile.h"
#include "runtime/range.h"

namespace unipool {

template <class T>
struct RangesProduct {
  int64_t m, n;
  const T* a;  // [rows, m]
  const T* b;  // [rows, n]
  T* c;        // [m, n]
  bool add;    // false: c is overwritten, and may hold anything
  // kStreamed applies where c is overwritten and its rows are whole aligned vectors.
  StoreKind store = StoreKind::kCached;
};

// c = sum over ranges of a[range]^T * b[range], or c + that. The numbers are those of one GemmBlocked for
// each range in turn, bit for bit: each range is summed by itself in pieces of kDirectK rows, and sums are
// added to c in their order. A tile of c stays in registers for all ranges, as far as the packed rows fit the
// caches: c moves once for every 512 rows. Allocates nothing; packs into the thread's buffers.
// REQUIRES: every range has rows, and less than min(m, n). For float and double.
template <class T>
void GemmOfRanges(const RangesProduct<T>& product, std::span<const Range> ranges);

}  // namespace unipool
