// The product behind kernels/gemm.h. It works in blocks that fit the caches, around the register tiles of
// gemm_tile.h. It allocates nothing. Operands are packed into a fixed buffer of the thread (about 1 MiB).
#pragma once

#include "kernels/cpu/gemm_tile.h"
#include "kernels/gemm.h"

namespace unipool {

// What the caller knows beyond the product itself.
template <class T>
struct GemmHints {
  // kStreamed applies where beta is 0 and c's rows are vector-aligned.
  StoreKind store = StoreKind::kCached;
  // b of the following call, which has the same shape. It is fetched during the end of this call.
  const T* next_b = nullptr;
};

// As GemmStrided of kernels/gemm.h. Instantiated for float and double.
template <class T>
void GemmBlocked(Trans trans_a, Trans trans_b, GemmShape shape, T alpha, const T* a, int64_t lda, const T* b,
                 int64_t ldb, T beta, T* c, int64_t ldc, GemmHints<T> hints);

}  // namespace unipool
