// Two launches: one block turns the experts' rows into the first row of each place, then each choice finds
// its copy and moves. M + C + P numbers are few beside the choices of a microbatch.
//
//   1 TableKernel   per expert, the rows of its copies; the first row of each expert and of each place; what
//                   a row of a copy moves by
//   2 DealKernel    a thread per choice
#include "kernels/cuda/block_scan.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace unipool::cuda {
namespace {

constexpr int kThreads = 512;

struct Tables {
  int32_t *first_row, *until, *shift, *begin;  // [M], [C], [C], [P]
};

struct Arguments {
  int num_choices, top_k, num_experts, num_places, turn;  // turn modulo kDealUnits
  const int32_t *first_copy, *place, *end, *experts, *rows_of_expert;
  int32_t *row_of, *token_of, *rows_of_place;
  Tables scratch;
};

UNIPOOL_KERNEL((kThreads), TableKernel, Arguments a) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int p = thread; p < a.num_places; p += kThreads) a.rows_of_place[p] = 0;
  ScanInBlock<kThreads>(a.num_experts, a.rows_of_expert, a.scratch.first_row);
  __syncthreads();
  for (int e = thread; e < a.num_experts; e += kThreads) {
    const int d = (a.turn * 159 + e * 83) % kDealUnits;
    int before = 0;
    for (int i = a.first_copy[e]; i < a.first_copy[e + 1]; ++i) {
      const int until = static_cast<int>((int64_t{a.rows_of_expert[e]} * a.end[i] + d) / kDealUnits);
      DeviceCheck(a.place[i] >= 0 && a.place[i] < a.num_places, "places are in [0, P)");
      a.scratch.until[i] = until;
      a.rows_of_place[a.place[i]] = until - before;
      before = until;
    }
    DeviceCheck(before == a.rows_of_expert[e], "the copies of an expert have all its rows");
  }
  __syncthreads();
  ScanInBlock<kThreads>(a.num_places, a.rows_of_place, a.scratch.begin);
  __syncthreads();
  for (int e = thread; e < a.num_experts; e += kThreads) {
    int before = 0;
    for (int i = a.first_copy[e]; i < a.first_copy[e + 1]; ++i) {
      a.scratch.shift[i] = a.scratch.begin[a.place[i]] - before - a.scratch.first_row[e];
      before = a.scratch.until[i];
    }
  }
}

UNIPOOL_KERNEL((kThreads), DealKernel, Arguments a) {
  const int choice = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (choice >= a.num_choices) return;
  const int row = a.row_of[choice];
  if (row < 0) return;
  const int e = a.experts[choice];
  DeviceCheck(e >= 0 && e < a.num_experts, "experts are in [0, M)");
  int copy = a.first_copy[e];
  while (row - a.scratch.first_row[e] >= a.scratch.until[copy]) ++copy;
  const int dealt = row + a.scratch.shift[copy];
  a.row_of[choice] = dealt;
  a.token_of[dealt] = choice / a.top_k;
}

}  // namespace

void DealRows(Stream& stream, const RowDeal& deal, const Tensor& experts, int64_t turn, const RowOrder& order,
              const Tensor& rows_of_place) {
  const int64_t m = deal.first_copy.rows() - 1, c = deal.place.rows(), p = rows_of_place.rows();
  auto* const scratch = static_cast<int32_t*>(stream.Scratch(DealRowsScratchBytes(m, c, p)));
  const Arguments arguments = {static_cast<int>(experts.size()),
                               static_cast<int>(experts.dim(1)),
                               static_cast<int>(m),
                               static_cast<int>(p),
                               static_cast<int>(turn % kDealUnits),
                               deal.first_copy.as<int32_t>(),
                               deal.place.as<int32_t>(),
                               deal.end.as<int32_t>(),
                               experts.as<int32_t>(),
                               order.rows_of_expert.as<int32_t>(),
                               order.row_of.as<int32_t>(),
                               order.token_of.as<int32_t>(),
                               rows_of_place.as<int32_t>(),
                               {scratch, scratch + m, scratch + m + c, scratch + m + 2 * c}};
  Launch("DealRows tables", &TableKernel, {.grid = 1, .block = kThreads}, stream, arguments);
  Launch("DealRows", &DealKernel,
         {.grid = static_cast<unsigned>(CeilDiv(experts.size(), kThreads)), .block = kThreads}, stream,
         arguments);
}

}  // namespace unipool::cuda
