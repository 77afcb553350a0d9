#include "kernels/cuda/blas_products.h"

#include <algorithm>

namespace unipool {
namespace {

// Calls body(expert, first row, rows) for each expert that has rows.
template <class Body>
void ForEachNonempty(GroupOffsets offsets, Body&& body) {
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    if (offsets[e] < offsets[e + 1]) body(static_cast<int64_t>(e), offsets[e], offsets[e + 1] - offsets[e]);
  }
}

}  // namespace

BlasProduct AsBlasProduct(Trans trans_a, Trans trans_b, GemmShape shape, float beta) {
  const int64_t width_a = trans_a == Trans::kYes ? shape.m : shape.k;  // of a row as it is stored
  const int64_t width_b = trans_b == Trans::kYes ? shape.k : shape.n;
  const auto leading = [](int64_t width) { return std::max<int64_t>(width, 1); };
  return {trans_b,          trans_a,          shape.n,          shape.m, shape.k,
          leading(width_b), leading(width_a), leading(shape.n), beta};
}

void GroupedBlasProducts::Clear() {
  trans_first.clear(), trans_second.clear();
  for (auto* field : {&m, &n, &k, &ld_first, &ld_second, &ld_third, &group_size, &first_begin, &second_begin,
                      &third_begin}) {
    field->clear();
  }
  alpha.clear(), beta.clear();
}

void GroupedBlasProducts::Add(const BlasProduct& product, int64_t first, int64_t second, int64_t third) {
  trans_first.push_back(product.trans_first);
  trans_second.push_back(product.trans_second);
  m.push_back(product.m), n.push_back(product.n), k.push_back(product.k);
  ld_first.push_back(product.ld_first);
  ld_second.push_back(product.ld_second);
  ld_third.push_back(product.ld_third);
  alpha.push_back(1), beta.push_back(product.beta);
  group_size.push_back(1);
  first_begin.push_back(first), second_begin.push_back(second), third_begin.push_back(third);
}

void GroupedBlasProducts::SetForward(GroupOffsets offsets, int64_t outer, int64_t inner) {
  Clear();
  ForEachNonempty(offsets, [&](int64_t e, int64_t begin, int64_t rows) {
    Add(AsBlasProduct(Trans::kNo, Trans::kYes, {rows, outer, inner}, 0), e * outer * inner, begin * inner,
        begin * outer);
  });
}

void GroupedBlasProducts::SetInputGrad(GroupOffsets offsets, int64_t outer, int64_t inner) {
  Clear();
  ForEachNonempty(offsets, [&](int64_t e, int64_t begin, int64_t rows) {
    Add(AsBlasProduct(Trans::kNo, Trans::kNo, {rows, inner, outer}, 0), e * outer * inner, begin * outer,
        begin * inner);
  });
}

void GroupedBlasProducts::SetWeightGrad(GroupOffsets offsets, int64_t outer, int64_t inner,
                                        std::span<uint8_t> has_grad) {
  Clear();
  ForEachNonempty(offsets, [&](int64_t e, int64_t begin, int64_t rows) {
    Add(AsBlasProduct(Trans::kYes, Trans::kNo, {outer, inner, rows}, has_grad[e] ? 1.0f : 0.0f),
        begin * inner, begin * outer, e * outer * inner);
    has_grad[e] = 1;
  });
}

}  // namespace unipool
