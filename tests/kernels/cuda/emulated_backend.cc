#include <cstring>

#include "tests/cuda_emulation/machine.h"
#include "tests/device_emulation/async_device.h"
#include "tests/fresh_seed.h"
#include "tests/kernels/cuda/cuda_backend.h"

namespace unipool {
namespace {

using emulation::ThreadOrder;

struct Order {
  ThreadOrder order;
  uint64_t seed;
  const char* name;
};
constexpr Order kOrders[] = {{ThreadOrder::kAscending, 0, "threads ascending"},
                             {ThreadOrder::kDescending, 0, "threads descending"},
                             {ThreadOrder::kRandom, 17, "threads at random"}};

class EmulatedBackend : public CudaBackend {
 public:
  explicit EmulatedBackend(const Order& order) : machine_(order.order, order.seed, memory_) {}
  Stream& stream() override { return stream_; }
  void* Allocate(int64_t bytes, const std::string& name) override { return memory_.Allocate(bytes, name); }
  void CopyIn(void* device, const void* host, int64_t bytes) override {
    if (bytes > 0) std::memcpy(device, host, bytes);
  }
  void CopyOut(void* host, const void* device, int64_t bytes) override {
    if (bytes > 0) std::memcpy(host, device, bytes);
  }
  std::vector<std::string> Damage() override { return memory_.Damage(); }

 private:
  MemoryMeter meter_;
  emulation::GuardedMemory memory_;
  emulation::Machine machine_;
  Stream stream_{meter_, CudaQueue{.stream = machine_.stream(), .blas = nullptr, .memory = &memory_}};
};

}  // namespace

std::string WhyNoCuda() {
  return "";
}
std::string WhyNoBlas() {
  return "";  // device_emulation/host_products.cc; what cuBLAS is asked for is proven in blas_products_test
}
int NumCudaRuns() {
  return static_cast<int>(std::size(kOrders));
}
std::string CudaRunName(int run) {
  return kOrders[run].name;
}
std::unique_ptr<CudaBackend> MakeCudaBackend(int run) {
  return std::make_unique<EmulatedBackend>(kOrders[run]);
}
// Between them these policies show every wait that is missing between two queues.
std::unique_ptr<DeviceContext> MakeTestContext(int run) {
  using emulation::RunPolicy;
  constexpr RunPolicy kPolicies[] = {RunPolicy::kCommunicationLate, RunPolicy::kLate, RunPolicy::kRandom};
  return std::make_unique<emulation::AsyncDevice>(kPolicies[run], FreshSeed(), kOrders[run].order);
}

}  // namespace unipool
