// The product behind kernels/gemm.h: blocks that fit the caches around the register tiles of gemm_tile.h.
// Nothing is allocated: operands are packed into a fixed buffer of the thread (about 1 MiB).
#pragma once

#include "kernels/cpu/gemm_tile.h"
#include "kernels/gemm.h"

namespace unipool {

// What the caller knows beyond the product itself.
template <class T>
struct GemmHints {
  StoreKind store = StoreKind::kCached;  // kStreamed applies where beta is 0 and c's rows are vector-aligned
  const T* next_b =
      nullptr;  // b of the following call, of the same shape: fetched during the end of this one
};

template <class T>
void GemmBlocked(Trans trans_a, Trans trans_b, GemmShape shape, T alpha, const T* a, int64_t lda, const T* b,
                 int64_t ldb, T beta, T* c, int64_t ldc,
                 GemmHints<T> hints);  // instantiated for float and double

}  // namespace unipool
