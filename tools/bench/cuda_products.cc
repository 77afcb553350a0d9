#include "tools/bench/cuda_products.h"

#include <cstdio>

#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"

namespace unipool {
namespace {

constexpr int64_t kExperts = 48;

struct Rows {
  const char* name;
  int64_t mean;
  bool skewed;  // from a quarter of the mean to seven quarters, and every eighth expert none
};

std::vector<int64_t> OffsetsOf(const Rows& rows) {
  std::vector<int64_t> offsets{0};
  for (int64_t e = 0; e < kExperts; ++e) {
    int64_t count = rows.mean;
    if (rows.skewed) count = e % 8 == 0 ? 0 : rows.mean * (e % 8 * 2 - 1) / 7;
    offsets.push_back(offsets.back() + count);
  }
  return offsets;
}

// One of the three products of a layer, as the grouped call, as a loop and as one dense product.
struct Product {
  std::string name;
  bool ours;  // the grouped call needs no cuBLAS
  std::function<void()> grouped, dense;
  std::function<void(int64_t expert, const std::function<Tensor(const Tensor&)>& rows)> one;
};

void RunProduct(CudaBench& bench, const Product& product, const std::vector<int64_t>& offsets) {
  if (!bench.has_blas() && !product.ours) return;
  const double grouped = bench.Run(product.name + " grouped", product.grouped);
  if (!bench.has_blas()) return;
  const double loop = bench.Run(product.name + " in a loop", [&] {
    for (int64_t e = 0; e < kExperts; ++e) {
      const int64_t begin = offsets[e], count = offsets[e + 1] - begin;
      if (count > 0) product.one(e, [=](const Tensor& tensor) { return tensor.Rows(begin, count); });
    }
  });
  const double dense = bench.Run(product.name + " one dense", product.dense);
  if (grouped > 0 && loop > 0 && dense > 0) {
    std::printf("%s: grouped has %.0f %% of the rate of one dense product, the loop %.0f %%\n",
                product.name.c_str(), 100 * dense / grouped, 100 * dense / loop);
  }
}

void RunMatrix(CudaBench& bench, DType type, const Rows& rows, int64_t outer, int64_t inner) {
  Stream& s = bench.stream();
  const auto offsets = OffsetsOf(rows);
  const int64_t num_rows = offsets.back();
  const Tensor x = bench.Random(type, {num_rows, inner}), y = bench.Random(type, {num_rows, outer});
  const Tensor w = bench.Random(type, {kExperts, outer, inner});
  const Tensor dw = bench.Random(AccumulatorOf(type), {kExperts, outer, inner});
  const auto matrix = [=](const Tensor& of, int64_t e) { return of.Rows(e, 1).Reshape({outer, inner}); };
  std::vector<uint8_t> has_grad(kExperts, 1);
  const std::string of =
      Format(" %s %s [%d, %d]", NameOf(type), rows.name, static_cast<int>(outer), static_cast<int>(inner));
  RunProduct(
      bench,
      {"forward" + of, false, [&] { GroupedGemmForward(s, offsets, x, w, y); },
       [&] { Gemm(s, Trans::kNo, x, Trans::kYes, matrix(w, 0), 0, y); },
       [&](int64_t e, const auto& at) { Gemm(s, Trans::kNo, at(x), Trans::kYes, matrix(w, e), 0, at(y)); }},
      offsets);
  RunProduct(
      bench,
      {"input grad" + of, false, [&] { GroupedGemmInputGrad(s, offsets, y, w, x); },
       [&] { Gemm(s, Trans::kNo, y, Trans::kNo, matrix(w, 0), 0, x); },
       [&](int64_t e, const auto& at) { Gemm(s, Trans::kNo, at(y), Trans::kNo, matrix(w, e), 0, at(x)); }},
      offsets);
  RunProduct(
      bench,
      {"weight grad" + of, type == DType::kBF16,
       [&] { GroupedGemmWeightGrad(s, offsets, y, x, dw, has_grad); },
       [&] { Gemm(s, Trans::kYes, y, Trans::kNo, x, 1, matrix(dw, 0)); },
       [&](int64_t e, const auto& at) { Gemm(s, Trans::kYes, at(y), Trans::kNo, at(x), 1, matrix(dw, e)); }},
      offsets);
  bench.Clear();
}

// The weight gradients of a pool that several layers share, at 182M parameters: one call for the rows of
// several slots moves the gradients once.
void RunSlots(CudaBench& bench, int64_t num_slots, int64_t outer, int64_t inner) {
  constexpr int64_t kPoolExperts = 96, kSlotRows = 16384;
  std::vector<std::vector<int64_t>> offsets(num_slots);
  for (int64_t slot = 0; slot < num_slots; ++slot) {
    for (int64_t e = 0; e <= kPoolExperts; ++e) {
      offsets[slot].push_back(slot * kSlotRows + e * kSlotRows / kPoolExperts);
    }
  }
  const std::vector<GroupOffsets> slots(offsets.begin(), offsets.end());
  const Tensor x = bench.Random(DType::kBF16, {num_slots * kSlotRows, inner});
  const Tensor dy = bench.Random(DType::kBF16, {num_slots * kSlotRows, outer});
  const Tensor dw = bench.Random(DType::kF32, {kPoolExperts, outer, inner});
  std::vector<uint8_t> has_grad(kPoolExperts, 1);
  const std::string name = Format("weight grad BF16 slots %d [%d, %d]", static_cast<int>(num_slots),
                                  static_cast<int>(outer), static_cast<int>(inner));
  const double seconds =
      bench.Run(name, [&] { GroupedGemmWeightGradOfSlots(bench.stream(), slots, dy, x, dw, has_grad); });
  if (seconds > 0) {
    std::printf("%s: %.0f us per slot\n", name.c_str(), 1e6 * seconds / static_cast<double>(num_slots));
  }
  bench.Clear();
}

}  // namespace

void BenchProducts(CudaBench& bench) {
  for (const Rows& rows :
       {Rows{"128 rows", 128, false}, Rows{"512 rows", 512, false}, Rows{"512 uneven", 512, true}}) {
    RunMatrix(bench, DType::kBF16, rows, 8192, 1024);
    RunMatrix(bench, DType::kBF16, rows, 1024, 4096);
  }
  RunMatrix(bench, DType::kF32, {"512 rows", 512, false}, 8192, 1024);
  for (const int64_t num_slots : {1, 4, 12}) {
    RunSlots(bench, num_slots, 6144, 768);
    RunSlots(bench, num_slots, 768, 3072);
  }
}

}  // namespace unipool
