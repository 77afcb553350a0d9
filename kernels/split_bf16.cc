#include "kernels/split_bf16.h"

#include "kernels/check_tensor.h"
#include "kernels/cuda/launchers.h"

namespace unipool {

void SplitBf16(Stream& stream, const Tensor& x, const Tensor& high, const Tensor& low) {
  CHECK(stream.device() == Device::kCuda) << "SplitBf16 runs on CUDA alone: a CPU multiplies F32 as it is";
  Tensor half = x;
  half.dtype = DType::kBF16;
  CHECK(x.dtype == DType::kF32) << "SplitBf16 x is " << NameOf(x.dtype);
  CheckSameSize("SplitBf16 high", high, half);
  CheckSameSize("SplitBf16 low", low, half);
  KernelScope scope(stream, Op::kReduce, 0, 2.0 * x.bytes());
  cuda::SplitBf16(stream, x, high, low);
}

}  // namespace unipool
