#include "kernels/gemm.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaGemm = CudaBlasTest;

struct ProductShape {
  int64_t m, n, k;
};
std::ostream& operator<<(std::ostream& out, const ProductShape& s) {
  return out << s.m << " x " << s.n << " x " << s.k;
}
std::vector<ProductShape> ProductShapes() {
  return {{0, 5, 3},    {5, 0, 3},    {7, 9, 0},     {1, 1, 1},
          {1, 64, 256}, {3, 17, 300}, {33, 97, 130}, {128, 256, 512}};
}

// A sum of k products of numbers below 1, in any order.
Bound SumOf(int64_t terms) {
  return {.relative = 1e-6, .absolute = 1.2e-7 * static_cast<double>(terms + 4)};
}

void RunProduct(CudaCase& c, const ProductShape& s, int variant, ArrayType out_type) {
  const bool ta = variant & 1, tb = variant & 2;
  const float beta = variant & 4 ? 0.5f : 0.0f;
  const auto a = c.In("a", ta ? CudaCase::Shape{s.k, s.m} : CudaCase::Shape{s.m, s.k}, -1, 1);
  const auto b = c.In("b", tb ? CudaCase::Shape{s.n, s.k} : CudaCase::Shape{s.k, s.n}, -1, 1);
  const CudaCase::Shape shape{s.m, s.n};
  const auto product =
      beta == 0 ? c.Out("c", shape, SumOf(s.k), out_type) : c.InOut("c", shape, -1, 1, SumOf(s.k), out_type);
  const auto as_trans = [](bool transposed) { return transposed ? Trans::kYes : Trans::kNo; };
  c.Run([&](Stream& stream, const CaseTensors& t) {
    Gemm(stream, as_trans(ta), t[a], as_trans(tb), t[b], beta, t[product]);
  });
}

TEST_F(CudaGemm, AllTransposesAndSizes) {
  for (int variant = 0; variant < 8; ++variant) {
    SCOPED_TRACE(variant);
    ForEachCase(ProductShapes(),
                [&](CudaCase& c, const ProductShape& s) { RunProduct(c, s, variant, ArrayType::kData); });
  }
}

TEST_F(CudaGemm, Bf16IntoF32) {
  for (int variant = 0; variant < 8; ++variant) {
    SCOPED_TRACE(variant);
    ForEachCase(ProductShapes(), [&](CudaCase& c, const ProductShape& s) {
      RunProduct(c, s, variant, ArrayType::kAccumulator);
    });
  }
}

}  // namespace
}  // namespace unipool
