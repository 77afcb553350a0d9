#include "kernels/host_values.h"

#include <algorithm>

#include "kernels/cuda/launchers.h"

namespace unipool {

void SetValues(Stream& stream, std::span<const double> values, const Tensor& to) {
  CHECK_EQ(static_cast<int64_t>(values.size()), to.size()) << "SetValues";
  KernelScope scope(stream, Op::kReduce, 0, to.bytes());
  if (stream.device() == Device::kCuda) return cuda::SetValues(stream, values, to);
  const auto set = [&]<class T>() { std::transform(values.begin(), values.end(), to.as<T>(), RoundedTo<T>); };
  if (to.dtype == DType::kI32) return set.template operator()<int32_t>();
  if (to.dtype == DType::kI64) return set.template operator()<int64_t>();
  DispatchFloat(to.dtype, set);
}

}  // namespace unipool
