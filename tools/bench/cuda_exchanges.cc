#include "tools/bench/cuda_exchanges.h"

#include "kernels/copy_segments.h"
#include "kernels/host_values.h"
#include "kernels/rank_sum.h"
#include "kernels/row_order.h"
#include "kernels/split_bf16.h"

namespace unipool {
namespace {

// Bound by launches: aim 20 us.
void RowOrders(CudaBench& bench, int64_t choices, int64_t top_k, int64_t experts) {
  Stream& s = bench.stream();
  const int64_t tokens = choices / top_k;
  const Tensor weights = bench.RandomPositive(DType::kF32, {tokens, top_k});
  const Tensor send_index = bench.RandomOrder({experts});
  const RowOrder order = {.row_of = bench.RandomBelow(1, {tokens, top_k}),
                          .token_of = bench.RandomBelow(1, {choices}),
                          .rows_of_expert = bench.RandomBelow(1, {experts})};
  const Tensor even = bench.RandomBelow(experts, {tokens, top_k}),
               same = bench.RandomBelow(1, {tokens, top_k});
  const std::string of =
      Format("%d Ki choices of %d", static_cast<int>(choices >> 10), static_cast<int>(experts));
  bench.Run("order rows, " + of, [&] { OrderRows(s, even, weights, send_index, order); });
  bench.Run("order rows, " + of + ", all one", [&] { OrderRows(s, same, weights, send_index, order); });
  bench.Clear();
}

// `count` segments of `bytes` each, in the opposite order where they arrive. Aim: 90 % of a copy where they
// hold 256 MB and begin at 16 bytes, 80 % where they begin at 4; 20 us for 400 of 2 KiB.
void Segments(CudaBench& bench, int64_t count, int64_t bytes, int64_t first_byte) {
  Stream& s = bench.stream();
  const int64_t size = count * bytes + first_byte;
  const Tensor from = bench.Random(DType::kF32, {size / 4}), to = bench.Random(DType::kF32, {size / 4});
  std::vector<Segment> segments;
  for (int64_t i = 0; i < count; ++i) {
    segments.push_back({static_cast<const char*>(from.data) + first_byte + i * bytes,
                        static_cast<char*>(to.data) + first_byte + (count - 1 - i) * bytes, bytes});
  }
  bench.Run(Format("%d segments of %d KiB, from byte %d", static_cast<int>(count),
                   static_cast<int>(bytes >> 10), static_cast<int>(first_byte)),
            [&] { CopySegments(s, segments); });
  bench.Clear();
}

// Aim: 90 % of a copy.
void RankSums(CudaBench& bench, DType type, int size) {
  const int64_t n = (int64_t{1} << 30) / size / SizeOf(type);
  const Tensor parts = bench.Random(type, {size, n}), own = bench.Random(type, {n});
  bench.Run(Format("sum of %d ranks' parts %s", size, NameOf(type)),
            [&] { SumInRankOrder(bench.stream(), own, parts.data, n * SizeOf(type), size / 2, size); });
  bench.Clear();
}

void Values(CudaBench& bench) {
  constexpr int64_t kElements = 128 << 20;
  const Tensor x = bench.Random(DType::kF32, {kElements}), high = bench.Random(DType::kBF16, {kElements}),
               low = bench.Random(DType::kBF16, {kElements});
  // Aim: 90 % of a copy.
  bench.Run("split F32 into BF16 halves", [&] { SplitBf16(bench.stream(), x, high, low); });
  const std::vector<double> values(768, 0.5);
  // Bound by its launch: aim 5 us.
  bench.Run("768 values of the host", [&] { SetValues(bench.stream(), values, x.Rows(0, 768)); });
  bench.Clear();
}

}  // namespace

void BenchExchanges(CudaBench& bench) {
  RowOrders(bench, 16 << 10, 2, 96);
  RowOrders(bench, 128 << 10, 4, 384);
  RowOrders(bench, 128 << 10, 8, 1024);
  Segments(bench, 8, 32 << 20, 0);
  Segments(bench, 8, 32 << 20, 4);
  Segments(bench, 400, 640 << 10, 0);
  Segments(bench, 400, 2 << 10, 0);
  for (const int size : {2, 8}) RankSums(bench, DType::kF32, size);
  RankSums(bench, DType::kF64, 8);
  Values(bench);
}

}  // namespace unipool
