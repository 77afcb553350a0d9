#include "kernels/reduce.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaReduce = CudaTest;

struct Size {
  int64_t n;
};
std::ostream& operator<<(std::ostream& out, const Size& size) {
  return out << size.n << " elements";
}
std::vector<Size> Sizes() {
  return {{0}, {1}, {7}, {8}, {1000}, {8191}, {16385}, {50001}};
}

TEST_F(CudaReduce, Sums) {
  for (const ArrayType type : {ArrayType::kData, ArrayType::kF64}) {
    ForEachCase(Sizes(), [&](CudaCase& c, const Size& size) {
      const double n = static_cast<double>(size.n);
      const auto x = c.In("x", {size.n}, -1, 2, type);
      const auto sum = c.InOut("sum", {1}, -1, 1, {.absolute = 1e-7 * n}, ArrayType::kF64);
      const auto squares = c.InOut("squares", {1}, -1, 1, {.absolute = 2e-7 * n}, ArrayType::kF64);
      c.Run([&](Stream& stream, const CaseTensors& t) {
        AddSum(stream, t[x], t[sum]);
        AddSumOfSquares(stream, t[x], t[squares]);
      });
    });
  }
}

// More elements than all blocks take at once.
TEST_F(CudaReduce, SumLarge) {
  ForEachCase({Size{4300000}}, [&](CudaCase& c, const Size& size) {
    if (c.dtype() != DType::kBF16) return;
    const auto x = c.In("x", {size.n}, -1, 2);
    const auto sum = c.InOut("sum", {1}, -1, 1, {.relative = 1e-7}, ArrayType::kF64);
    c.Run([&](Stream& stream, const CaseTensors& t) { AddSum(stream, t[x], t[sum]); });
  });
}

TEST_F(CudaReduce, Copies) {
  const ArrayType types[] = {ArrayType::kData, ArrayType::kBF16, ArrayType::kF32};
  for (const ArrayType from : types) {
    for (const ArrayType to : types) {
      ForEachCase(Sizes(), [&](CudaCase& c, const Size& size) {
        const auto src = c.In("src", {size.n}, -9, 9, from),
                   dst = c.Out("dst", {size.n}, {.relative = 1e-7}, to);
        c.Run([&](Stream& stream, const CaseTensors& t) { Copy(stream, t[src], t[dst]); });
      });
    }
  }
  for (const ArrayType type : {ArrayType::kF64, ArrayType::kI32, ArrayType::kI64}) {
    ForEachCase(Sizes(), [&](CudaCase& c, const Size& size) {
      const auto src = c.In("src", {size.n}, -9e6, 9e6, type), dst = c.Out("dst", {size.n}, {}, type);
      c.Run([&](Stream& stream, const CaseTensors& t) { Copy(stream, t[src], t[dst]); });
    });
  }
}

TEST_F(CudaReduce, Fills) {
  for (const ArrayType type : {ArrayType::kData, ArrayType::kF64, ArrayType::kI32, ArrayType::kI64}) {
    ForEachCase(Sizes(), [&](CudaCase& c, const Size& size) {
      const auto x = c.Out("x", {size.n}, {}, type);
      c.Run([&](Stream& stream, const CaseTensors& t) { Fill(stream, t[x], -7); });
    });
  }
}

TEST_F(CudaReduce, RaisesToTheLeast) {
  ForEachCase(Sizes(), [&](CudaCase& c, const Size& size) {
    const auto x = c.InOut("x", {size.n}, -1, 1, {}, ArrayType::kF32);
    c.Run([&](Stream& stream, const CaseTensors& t) { RaiseToLeast(stream, t[x], 0.125); });
  });
}

// Parts of arrays that begin at any element.
struct Part {
  int64_t from, to, n;
};
const std::vector<Part> kParts = {{0, 1, 6},     {7, 8, 1},          {8, 9, 0},
                                  {9, 10, 5003}, {5016, 5016, 4096}, {9113, 9114, 77}};
constexpr int64_t kPartsSize = 9200;

// Gradients of several parameters, each into its own element.
TEST_F(CudaReduce, SumsOfPartsIntoElements) {
  CudaCase c({DType::kF32, false}, 1);
  const auto x = c.In("x", {kPartsSize}, -1, 2, ArrayType::kF32),
             losses = c.In("losses", {33}, 0, 9, ArrayType::kF64);
  const auto count = static_cast<int64_t>(kParts.size());
  const auto sums =
      c.InOut("sums", {count + 2}, -1, 1, {.relative = 1e-6, .absolute = 1e-6}, ArrayType::kF64);
  c.Run([&](Stream& stream, const CaseTensors& t) {
    for (int64_t i = 0; i < count; ++i)
      AddSumOfSquares(stream, t[x].Rows(kParts[i].from, kParts[i].n), t[sums].Rows(i, 1));
    AddSum(stream, t[losses].Rows(1, 31), t[sums].Rows(count, 1));
  });
}

TEST_F(CudaReduce, CopiesAndFillsOfParts) {
  for (const ArrayType to : {ArrayType::kBF16, ArrayType::kF32}) {
    CudaCase c({DType::kF32, false}, 2);
    const auto src = c.In("src", {kPartsSize}, -9, 9, ArrayType::kF32),
               dst = c.InOut("dst", {kPartsSize}, -9, 9, {.relative = 1e-7}, to);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      for (const Part& part : kParts)
        Copy(stream, t[src].Rows(part.from, part.n), t[dst].Rows(part.to, part.n));
    });
  }
  for (const ArrayType type : {ArrayType::kBF16, ArrayType::kF64, ArrayType::kI32, ArrayType::kI64}) {
    CudaCase c({DType::kF32, false}, 3);
    const auto x = c.InOut("x", {kPartsSize}, -90, 90, {}, type);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      for (const Part& part : kParts) Fill(stream, t[x].Rows(part.to, part.n), static_cast<double>(part.n));
    });
  }
}

}  // namespace
}  // namespace unipool
