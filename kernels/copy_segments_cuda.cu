// Many segments in a launch: they travel as arguments, cut into tiles of kTileBytes, and each block finds the
// segment that its tile belongs to. So a long segment keeps the whole device busy, and a short one costs a
// block.
#include "kernels/cuda/device.h"
#include "kernels/cuda/launchers.h"

namespace unipool::cuda {
namespace {

constexpr int kThreads = 256, kInFlight = 8;
constexpr int64_t kTileBytes = int64_t{kThreads} * kInFlight * int64_t{sizeof(uint4)};
constexpr int kMostSegments = 144;  // arguments of a kernel: at most 4 KiB

struct Arguments {
  const char* from[kMostSegments];
  char* to[kMostSegments];
  int64_t bytes[kMostSegments];
  int first_tile[kMostSegments];
  int num_segments;
};
static_assert(sizeof(Arguments) <= 4096);

// Whole units of one tile by the whole block; then the bytes behind them.
template <class Unit>
__device__ inline void CopyTile(const char* from, char* to, int bytes) {
  constexpr int kBytes = sizeof(Unit);
  const int num_units = bytes / kBytes, thread = static_cast<int>(threadIdx.x);
  const Unit* units = reinterpret_cast<const Unit*>(from);
  for (int first = thread; first < num_units; first += kInFlight * kThreads) {
    Unit held[kInFlight];
#pragma unroll
    for (int c = 0; c < kInFlight; ++c) {
      if (first + c * kThreads < num_units) held[c] = units[first + c * kThreads];
    }
#pragma unroll
    for (int c = 0; c < kInFlight; ++c) {
      if (first + c * kThreads < num_units) reinterpret_cast<Unit*>(to)[first + c * kThreads] = held[c];
    }
  }
  const int last = num_units * kBytes + thread;
  if (last < bytes) to[last] = from[last];
}

// Block kThreads.
UNIPOOL_KERNEL((kThreads), CopyKernel, const __grid_constant__ Arguments a) {
  const int tile = static_cast<int>(blockIdx.x);
  int low = 0, high = a.num_segments;  // the segment is in [low, high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (a.first_tile[middle] <= tile ? low : high) = middle;
  }
  const int64_t begin = (tile - a.first_tile[low]) * kTileBytes;
  const int bytes = static_cast<int>(min(kTileBytes, a.bytes[low] - begin));
  const char* from = a.from[low] + begin;
  char* to = a.to[low] + begin;
  const auto alignment = reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to);
  if (alignment % sizeof(uint4) == 0) {
    CopyTile<uint4>(from, to, bytes);
  } else if (alignment % sizeof(uint32_t) == 0) {
    CopyTile<uint32_t>(from, to, bytes);
  } else if (alignment % sizeof(uint16_t) == 0) {
    CopyTile<uint16_t>(from, to, bytes);
  } else {
    CopyTile<uint8_t>(from, to, bytes);
  }
}

// Launches what has been collected, if anything.
void Flush(Stream& stream, Arguments& arguments, int& num_tiles) {
  Launch("CopySegments", &CopyKernel, {.grid = static_cast<unsigned>(num_tiles), .block = kThreads}, stream,
         arguments);
  arguments.num_segments = num_tiles = 0;
}

}  // namespace

void CopySegments(Stream& stream, std::span<const Segment> segments) {
  Arguments arguments = {};
  int num_tiles = 0;
  for (const Segment& segment : segments) {
    const int64_t tiles = CeilDiv(segment.bytes, kTileBytes);
    if (tiles == 0) continue;
    CHECK_LT(num_tiles + tiles, int64_t{1} << 31);
    const int i = arguments.num_segments++;
    arguments.from[i] = static_cast<const char*>(segment.from);
    arguments.to[i] = static_cast<char*>(segment.to);
    arguments.bytes[i] = segment.bytes;
    arguments.first_tile[i] = num_tiles;
    num_tiles += static_cast<int>(tiles);
    if (arguments.num_segments == kMostSegments) Flush(stream, arguments, num_tiles);
  }
  Flush(stream, arguments, num_tiles);
}

}  // namespace unipool::cuda
