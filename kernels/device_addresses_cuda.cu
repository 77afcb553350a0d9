#include "kernels/cuda/device.h"
#include "kernels/cuda/launchers.h"

namespace unipool::cuda {
namespace {

constexpr int kChunk = 480;  // 3840 of the 4096 bytes of arguments that every launch may have
struct Chunk {
  uintptr_t address[kChunk];
};

UNIPOOL_KERNEL((kChunk), WriteChunk, const Chunk chunk, int count, uintptr_t* to) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) to[i] = chunk.address[i];
}

}  // namespace

void WriteAddresses(Stream& stream, std::span<const uintptr_t> addresses, uintptr_t* to) {
  for (size_t begin = 0; begin < addresses.size(); begin += kChunk) {
    const size_t count = std::min<size_t>(kChunk, addresses.size() - begin);
    Chunk chunk;
    std::copy_n(addresses.data() + begin, count, chunk.address);
    Launch("WriteAddresses", WriteChunk, {.grid = dim3(1), .block = dim3(kChunk)}, stream, chunk,
           static_cast<int>(count), to + begin);
  }
}

}  // namespace unipool::cuda
