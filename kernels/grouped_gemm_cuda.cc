// The experts' products. cuBLAS takes all experts of a call at once; it reads sizes from host memory (so
// offsets that live on the device would have to come to the host first) and addresses from device memory.
#include <cuda_runtime_api.h>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/launchers.h"

namespace unipool::cuda {
namespace {

char* At(const Tensor& tensor, int64_t element) {
  return static_cast<char*>(tensor.data) + element * SizeOf(tensor.dtype);
}

// cuBLAS reads the addresses of a call from the stream's scratch memory: whatever uses that next comes after
// it in the stream.
void MultiplyAll(Stream& stream, const Tensor& first, const Tensor& second, const Tensor& third) {
  Blas& blas = BlasOf(stream);
  const GroupedBlasProducts& products = blas.products();
  const int64_t count = products.count();
  if (count == 0) return;
  std::vector<uintptr_t>& addresses = blas.addresses();
  addresses.clear();
  const auto add = [&](const Tensor& tensor, const std::vector<int64_t>& begins) {
    for (const int64_t begin : begins) {
      addresses.push_back(reinterpret_cast<uintptr_t>(At(tensor, begin)));
    }
  };
  add(first, products.first_begin);
  add(second, products.second_begin);
  add(third, products.third_begin);
  auto* pointers = static_cast<uintptr_t*>(stream.Scratch(GroupedGemmScratchBytes(Device::kCuda, count)));
  WriteAddresses(stream, addresses, pointers);
  blas.MultiplyGrouped(products, BlasTypeOf(third), reinterpret_cast<const void* const*>(pointers));
}

}  // namespace

void GroupedGemmForward(Stream& stream, GroupOffsets offsets, const Tensor& x, const Tensor& w,
                        const Tensor& y) {
  BlasOf(stream).products().SetForward(offsets, w.dim(1), w.dim(2));
  MultiplyAll(stream, w, x, y);
}

void GroupedGemmInputGrad(Stream& stream, GroupOffsets offsets, const Tensor& dy, const Tensor& w,
                          const Tensor& dx) {
  BlasOf(stream).products().SetInputGrad(offsets, w.dim(1), w.dim(2));
  MultiplyAll(stream, w, dy, dx);
}

void GroupedGemmWeightGrad(Stream& stream, GroupOffsets offsets, const Tensor& dy, const Tensor& x,
                           const Tensor& dw, std::span<uint8_t> has_grad) {
  BlasOf(stream).products().SetWeightGrad(offsets, dw.dim(1), dw.dim(2), has_grad);
  MultiplyAll(stream, x, dy, dw);
}

}  // namespace unipool::cuda
