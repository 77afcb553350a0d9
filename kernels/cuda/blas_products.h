// Row-major products as a column-major BLAS takes them, and which experts of a grouped product take part.
// These are pure functions. tests/kernels/blas_products_test.cc interprets the descriptions with a plain
// triple loop. So of the products on a CUDA device only the vendor's library itself needs a GPU to be tested.
//
// A row-major matrix [r, c] is, seen column by column, its transpose [c, r] with leading dimension c. So
// c = op(a) op(b) row-major is c^T = op(b)^T op(a)^T column-major. The factors change places and nothing is
// copied.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"

namespace unipool {

// third = op(first) op(second) + beta * third, column-major:
// op(first) [m, k], op(second) [k, n], third [m, n].
struct BlasProduct {
  Trans trans_first, trans_second;
  int64_t m, n, k;
  int64_t ld_first, ld_second, ld_third;  // elements; at least 1 and at least the column length
  float beta;
};

// Gemm(trans_a, a, trans_b, b, beta, c) with first = b and second = a. shape is of the row-major product.
BlasProduct AsBlasProduct(Trans trans_a, Trans trans_b, GemmShape shape, float beta);

// One BLAS product per expert that has rows, as the arrays over these experts that cublasGemmGroupedBatchedEx
// reads. Experts without rows are left out. In a weight gradient beta would scale, or zero, a matrix of
// theirs that must stay untouched.
class GroupedBlasProducts {
 public:
  // y = x w^T: first = w, second = x, third = y.
  void SetForward(GroupOffsets offsets, int64_t outer, int64_t inner);
  // dx = dy w: first = w, second = dy, third = dx.
  void SetInputGrad(GroupOffsets offsets, int64_t outer, int64_t inner);
  // dw += dy^T x: first = x, second = dy, third = dw; beta is has_grad (0 or 1), which is set.
  void SetWeightGrad(GroupOffsets offsets, int64_t outer, int64_t inner, std::span<uint8_t> has_grad);

  int64_t count() const { return static_cast<int64_t>(m.size()); }
  BlasProduct product(int64_t i) const {
    return {trans_first[i], trans_second[i], m[i],        n[i],   k[i],
            ld_first[i],    ld_second[i],    ld_third[i], beta[i]};
  }

  // [count()] each; the vectors keep their memory from one call to the next.
  std::vector<Trans> trans_first, trans_second;
  std::vector<int64_t> m, n, k, ld_first, ld_second, ld_third, group_size /* all 1 */;
  std::vector<float> alpha /* all 1 */, beta;
  // Where each matrix begins in its array, in elements.
  std::vector<int64_t> first_begin, second_begin, third_begin;

 private:
  void Clear();
  void Add(const BlasProduct& product, int64_t first, int64_t second, int64_t third);
};

}  // namespace unipool
