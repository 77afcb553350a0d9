// Cases on a GPU. Usually every array lies between sentinels and begins as poison. compute-sanitizer would
// take sentinels for part of the array and poison for initialised, so that tools/gpu/gpu_check.sh sets
// UNIPOOL_EXACT_ARRAYS=1 for it: every array, scratch included, is an allocation of exactly its bytes that
// nothing has written, and a case runs once, because equal bits of two runs are not what is asked.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda_context.h"
#include "tests/kernels/cuda/cuda_backend.h"

namespace unipool {
namespace {

constexpr unsigned char kPoison = 0xff;
constexpr int64_t kSentinelBytes = 256;  // on both sides of an array

bool ExactArrays() {
  static const bool exact = [] {
    const char* value = std::getenv("UNIPOOL_EXACT_ARRAYS");
    return value != nullptr && std::string(value) == "1";
  }();
  return exact;
}

void Check(cudaError_t error) {
  CHECK(error == cudaSuccess) << cudaGetErrorString(error);
}

// One stream and one cuBLAS for all cases: making them takes longer than a case.
struct DeviceQueue {
  DeviceQueue() {
    Check(cudaStreamCreate(&stream));
    try {
      blas = std::make_unique<cuda::Blas>(stream);
    } catch (const UserError& error) {
      why_no_blas = error.what();
    }
  }
  cudaStream_t stream = nullptr;
  std::unique_ptr<cuda::Blas> blas;
  std::string why_no_blas;
};
DeviceQueue& Queue() {
  static DeviceQueue* queue = new DeviceQueue;  // never destroyed: the driver may be gone before statics are
  return *queue;
}

class HardwareBackend : public CudaBackend, public DeviceMemory {
 public:
  HardwareBackend() {
    stream_ = std::make_unique<Stream>(
        meter_, CudaQueue{.stream = queue_, .blas = Queue().blas.get(), .memory = this});
  }
  ~HardwareBackend() override {
    stream_.reset();
    for (const auto& [data, array] : arrays_) cudaFree(static_cast<char*>(data) - margin_);
  }
  Stream& stream() override { return *stream_; }
  void* Allocate(int64_t bytes) override { return Allocate(bytes, "scratch"); }
  void* Allocate(int64_t bytes, const std::string& name) override {
    void* memory = nullptr;
    // An allocation of nothing would be a null pointer, and two of them one array.
    Check(cudaMalloc(&memory, std::max<int64_t>(bytes + 2 * margin_, 1)));
    if (!ExactArrays()) {
      Check(cudaMemset(memory, kPoison, bytes + 2 * margin_));
      Check(cudaDeviceSynchronize());
    }
    void* data = static_cast<char*>(memory) + margin_;
    arrays_[data] = {name, bytes};
    return data;
  }
  void Free(void* data) override {
    Check(cudaStreamSynchronize(queue_));
    AddDamage(data, arrays_.at(data));
    arrays_.erase(data);
    Check(cudaFree(static_cast<char*>(data) - margin_));
  }
  void Zero(void* data, int64_t bytes) override {
    Check(cudaMemset(data, 0, bytes));
    Check(cudaDeviceSynchronize());
  }
  void CopyIn(void* device, const void* host, int64_t bytes) override {
    Check(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
    Check(cudaDeviceSynchronize());
  }
  void CopyOut(void* host, const void* device, int64_t bytes) override {
    Check(cudaStreamSynchronize(queue_));
    Check(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
  }
  std::vector<std::string> Damage() override {
    Check(cudaStreamSynchronize(queue_));
    for (const auto& [data, array] : arrays_) AddDamage(data, array);
    return damage_;
  }

 private:
  struct Array {
    std::string name;
    int64_t bytes;
  };
  void AddDamage(const void* data, const Array& array) {
    if (ExactArrays()) return;  // there are no sentinels, compute-sanitizer looks
    std::vector<unsigned char> sentinel(kSentinelBytes);
    const char* at = static_cast<const char*>(data);
    for (const char* side : {at - kSentinelBytes, at + array.bytes}) {
      Check(cudaMemcpy(sentinel.data(), side, kSentinelBytes, cudaMemcpyDeviceToHost));
      for (int64_t i = 0; i < kSentinelBytes; ++i) {
        if (sentinel[i] == kPoison) continue;
        damage_.push_back(Format("written %d bytes from the beginning of %s (%d bytes)", side - at + i,
                                 array.name.c_str(), array.bytes));
        break;
      }
    }
  }
  const int64_t margin_ = ExactArrays() ? 0 : kSentinelBytes;
  cudaStream_t queue_ = Queue().stream;
  MemoryMeter meter_;
  std::map<void*, Array> arrays_;
  std::vector<std::string> damage_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace

std::string WhyNoCuda() {
  int count = 0;
  return cuda::WhyNoDevice(count);
}
std::string WhyNoBlas() {
  const std::string reason = WhyNoCuda();
  return reason.empty() ? Queue().why_no_blas : reason;
}
int NumCudaRuns() {
  return ExactArrays() ? 1 : 2;
}
std::string CudaRunName(int run) {
  return "run " + std::to_string(run) + " on hardware";
}
std::unique_ptr<CudaBackend> MakeCudaBackend(int) {
  return std::make_unique<HardwareBackend>();
}
std::unique_ptr<DeviceContext> MakeTestContext(int) {
  return MakeCudaContext(0);
}

}  // namespace unipool
