#include <algorithm>
#include <bit>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launchers.h"
#include "kernels/host_values.h"

namespace unipool::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kChunkBytes = 3840;  // of the 4096 bytes of arguments that every launch may have

template <class Raw>
struct Chunk {
  static constexpr int kMost = kChunkBytes / static_cast<int>(sizeof(Raw));
  Raw value[kMost];
};

// One block of kThreads. Values have their final bits already.
template <class Raw>
UNIPOOL_KERNEL((kThreads), WriteKernel, const __grid_constant__ Chunk<Raw> chunk, int count, Raw* to) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) to[i] = chunk.value[i];
}

// bits_of(value) are the bits of an element.
template <class Raw, class BitsOf>
void Write(Stream& stream, std::span<const double> values, const Tensor& to, BitsOf bits_of) {
  constexpr size_t kMost = Chunk<Raw>::kMost;
  for (size_t begin = 0; begin < values.size(); begin += kMost) {
    const auto part = values.subspan(begin, std::min(kMost, values.size() - begin));
    Chunk<Raw> chunk = {};
    std::transform(part.begin(), part.end(), chunk.value, bits_of);
    Launch("SetValues", &WriteKernel<Raw>, {.grid = 1, .block = kThreads}, stream, chunk,
           static_cast<int>(part.size()), static_cast<Raw*>(to.data) + begin);
  }
}

template <class Raw, class T>
Raw BitsOf(double x) {
  return std::bit_cast<Raw>(RoundedTo<T>(x));
}

}  // namespace

void SetValues(Stream& stream, std::span<const double> values, const Tensor& to) {
  switch (to.dtype) {
    case DType::kF32:
      return Write<uint32_t>(stream, values, to, BitsOf<uint32_t, float>);
    case DType::kF64:
      return Write<uint64_t>(stream, values, to, BitsOf<uint64_t, double>);
    case DType::kBF16:
      return Write<uint16_t>(stream, values, to, [](double x) {
        const Bf16 rounded = __float2bfloat16(static_cast<float>(x));
        uint16_t bits;
        std::memcpy(&bits, &rounded, sizeof(bits));
        return bits;
      });
    case DType::kI32:
      return Write<uint32_t>(stream, values, to, BitsOf<uint32_t, int32_t>);
    case DType::kI64:
      return Write<uint64_t>(stream, values, to, BitsOf<uint64_t, int64_t>);
  }
}

}  // namespace unipool::cuda
