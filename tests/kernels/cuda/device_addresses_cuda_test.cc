#include "kernels/cuda/launchers.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaDeviceAddresses = CudaTest;

// One launch takes 480.
TEST_F(CudaDeviceAddresses, ArriveInOrder) {
  for (const int64_t count : {0, 1, 479, 480, 481, 1200}) {
    SCOPED_TRACE(count);
    CudaCase c({DType::kF32, false}, 1);
    const auto out = c.Out("addresses", {count}, {}, ArrayType::kI64);
    c.Run([&](Stream& stream, const CaseTensors& t) {
      std::vector<uintptr_t> addresses(count);  // gone before a device has run anything
      for (int64_t i = 0; i < count; ++i) addresses[i] = static_cast<uintptr_t>(i * i + 3);
      auto* to = static_cast<uintptr_t*>(t[out].data);
      if (stream.device() == Device::kCuda) return cuda::WriteAddresses(stream, addresses, to);
      std::copy(addresses.begin(), addresses.end(), to);
    });
  }
}

}  // namespace
}  // namespace unipool
