// A stable counting sort in three launches; choices are cut into chunks of kChunk.
//
//   1 CountKernel   a block counts the choices of its chunk for each place in the send order
//   2 ScanKernel    per place: each chunk's count becomes the sum of the chunks before it; the total stays
//   3 PlaceKernel   a block finds the first row of each place from the totals and places its chunk. A warp
//                   takes neighbouring choices, 32 at a time; equal places among them are ordered by lane,
//                   and rows of earlier warps of the chunk come first.
// Nothing depends on the order in which threads run: what atomics add up is read after a barrier only.
#include "kernels/cuda/block_scan.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.h"

namespace unipool::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / kWarp, kPerLane = 4, kPerWarp = kPerLane * kWarp;
constexpr int kChunk = kThreads * kPerLane;
static_assert(kChunk == kOrderChunk);
constexpr int kNotSent = -1;

struct Arguments {
  int num_choices, top_k, num_experts, num_chunks;
  const int32_t *experts, *send_index;
  const float* weights;
  int32_t *row_of, *token_of, *rows_of_expert;
  int32_t* counts;  // [chunks, M]
};

// The place in the send order of this lane's i-th choice, and that choice. Lanes of a warp are neighbours.
__device__ inline int ChoiceAt(int i) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  return static_cast<int>(blockIdx.x) * kChunk + warp * kPerWarp + i * kWarp + lane;
}
__device__ inline void LoadPlaces(const Arguments& a, int (&places)[kPerLane]) {
  int experts[kPerLane];
  float weights[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int choice = ChoiceAt(i);
    experts[i] = choice < a.num_choices ? a.experts[choice] : 0;
    weights[i] = choice < a.num_choices ? a.weights[choice] : 0.0f;
  }
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    DeviceCheck(experts[i] >= 0 && experts[i] < a.num_experts, "experts are in [0, M)");
    const int place = a.send_index[experts[i]];
    DeviceCheck(place >= 0 && place < a.num_experts, "send_index is a permutation");
    places[i] = weights[i] != 0 ? place : kNotSent;
  }
}

// Block kThreads; dynamic shared memory: M counts.
UNIPOOL_KERNEL((kThreads), CountKernel, Arguments a) {
  int* counts = DynamicShared<int>();
  for (int e = static_cast<int>(threadIdx.x); e < a.num_experts; e += kThreads) counts[e] = 0;
  int places[kPerLane];
  LoadPlaces(a, places);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (places[i] != kNotSent) atomicAdd(&counts[places[i]], 1);
  }
  __syncthreads();
  int32_t* to = a.counts + int64_t{blockIdx.x} * a.num_experts;
  for (int e = static_cast<int>(threadIdx.x); e < a.num_experts; e += kThreads) to[e] = counts[e];
}

constexpr int kSlices = 32;

// Block (32, kSlices): a lane per place, a slice of neighbouring chunks per warp.
UNIPOOL_KERNEL((kWarp * kSlices), ScanKernel, Arguments a) {
  UNIPOOL_SHARED(int, sums, [kSlices][kWarp]);
  const int lane = static_cast<int>(threadIdx.x), slice = static_cast<int>(threadIdx.y);
  const int e = static_cast<int>(blockIdx.x) * kWarp + lane;
  const int length = (a.num_chunks + kSlices - 1) / kSlices;
  const int begin = min(slice * length, a.num_chunks), end = min(begin + length, a.num_chunks);
  int32_t* counts = a.counts + e;
  int sum = 0;
  if (e < a.num_experts) {
#pragma unroll 4
    for (int c = begin; c < end; ++c) sum += counts[int64_t{c} * a.num_experts];
  }
  sums[slice][lane] = sum;
  __syncthreads();
  if (e >= a.num_experts) return;
  int before = 0;
  for (int s = 0; s < slice; ++s) before += sums[s][lane];
  if (slice == kSlices - 1) a.rows_of_expert[e] = before + sum;
  for (int c = begin; c < end; ++c) {
    int32_t& count = counts[int64_t{c} * a.num_experts];
    const int own = count;
    count = before;
    before += own;
  }
}

// ranks[i] = how many earlier choices of this warp have the place of the lane's i-th; counts, 0 at first,
// become the warp's choices per place.
__device__ inline void RankInWarp(const int (&places)[kPerLane], uint16_t* counts, int (&ranks)[kPerLane]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const unsigned equal = __match_any_sync(kFullWarp, places[i]);
    const int lower = __popc(equal & ((1u << lane) - 1));
    const int before = places[i] == kNotSent ? 0 : counts[places[i]];
    __syncwarp();  // all have read
    if (places[i] != kNotSent && lower == 0)
      counts[places[i]] = static_cast<uint16_t>(before + __popc(equal));
    __syncwarp();
    ranks[i] = before + lower;
  }
}

int64_t PlaceSharedBytes(int64_t num_experts) {
  return num_experts * (int64_t{sizeof(int)} + kWarps * int64_t{sizeof(uint16_t)});
}

// Block kThreads; dynamic shared memory: the first row of each place, counts of each warp.
UNIPOOL_KERNEL((kThreads), PlaceKernel, Arguments a) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, num_experts = a.num_experts;
  int* first = DynamicShared<int>();
  auto* warp_counts = reinterpret_cast<uint16_t*>(first + num_experts);  // [kWarps, M]
  int places[kPerLane], ranks[kPerLane];
  LoadPlaces(a, places);
  for (int i = thread; i < kWarps / 2 * num_experts; i += kThreads)
    reinterpret_cast<uint32_t*>(warp_counts)[i] = 0;
  ScanInBlock<kThreads>(num_experts, a.rows_of_expert, first);
  __syncthreads();
  RankInWarp(places, warp_counts + warp * num_experts, ranks);
  __syncthreads();
  const int32_t* chunks_before = a.counts + int64_t{blockIdx.x} * num_experts;
  for (int e = thread; e < num_experts; e += kThreads) {
    first[e] += chunks_before[e];
    int before = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const int own = warp_counts[w * num_experts + e];
      warp_counts[w * num_experts + e] = static_cast<uint16_t>(before);
      before += own;
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int choice = ChoiceAt(i), place = places[i];
    if (choice >= a.num_choices) continue;
    const int row =
        place == kNotSent ? -1 : first[place] + warp_counts[warp * num_experts + place] + ranks[i];
    a.row_of[choice] = row;
    if (row >= 0) a.token_of[row] = choice / a.top_k;
  }
}

}  // namespace

void OrderRows(Stream& stream, const Tensor& experts, const Tensor& weights, const Tensor& send_index,
               const RowOrder& order) {
  const int64_t num_experts = send_index.rows(), num_chunks = CeilDiv(experts.size(), kChunk);
  const Arguments arguments = {static_cast<int>(experts.size()),
                               static_cast<int>(experts.dim(1)),
                               static_cast<int>(num_experts),
                               static_cast<int>(num_chunks),
                               experts.as<int32_t>(),
                               send_index.as<int32_t>(),
                               weights.as<float>(),
                               order.row_of.as<int32_t>(),
                               order.token_of.as<int32_t>(),
                               order.rows_of_expert.as<int32_t>(),
                               static_cast<int32_t*>(stream.Scratch(
                                   OrderRowsScratchBytes(Device::kCuda, experts.size(), num_experts)))};
  const auto grid = static_cast<unsigned>(num_chunks);
  Launch("OrderRows count", &CountKernel,
         {.grid = grid, .block = kThreads, .shared_bytes = num_experts * int64_t{sizeof(int)}}, stream,
         arguments);
  Launch("OrderRows scan", &ScanKernel,
         {.grid = static_cast<unsigned>(CeilDiv(num_experts, kWarp)), .block = dim3(kWarp, kSlices)}, stream,
         arguments);
  Launch("OrderRows place", &PlaceKernel,
         {.grid = grid, .block = kThreads, .shared_bytes = PlaceSharedBytes(num_experts)}, stream, arguments);
}

}  // namespace unipool::cuda
