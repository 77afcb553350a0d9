#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda_context.h"

namespace unipool {
namespace {

using cuda::CudaMemory;

struct ChosenDevice {
  int device, num_devices;
  std::string name, id;
};

// As nvidia-smi writes it.
std::string UuidText(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += Format("%02x", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

// Makes it the calling thread's.
ChosenDevice Choose(int local_rank) {
  int count = 0;
  if (const std::string reason = cuda::WhyNoDevice(count); !reason.empty()) {
    throw UserError("device CUDA: " + reason + "; run where there is one, or set device: CPU");
  }
  const int device = local_rank % count;
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaFree(nullptr);  // starts the device, also under old runtimes
  cudaDeviceProp properties{};
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) {
    throw UserError(Format("device CUDA: GPU %d of %d does not start: %s (%s)", device, count,
                           cudaGetErrorString(error), cudaGetErrorName(error)));
  }
  return {device, count, properties.name, UuidText(properties.uuid)};
}

struct MemorySizes {
  int64_t total, free;
};

// Of the calling thread's device, which `device` names.
MemorySizes AskMemory(int device) {
  size_t free = 0, total = 0;
  UNIPOOL_CHECK_CUDA(cudaMemGetInfo(&free, &total), "the memory of GPU " << device);
  return {static_cast<int64_t>(total), static_cast<int64_t>(free)};
}

class CudaContext final : public DeviceContext {
 public:
  explicit CudaContext(const ChosenDevice& chosen)
      : name_(chosen.name),
        id_(chosen.id),
        total_bytes_(AskMemory(chosen.device).total),
        memory_(chosen.device, chosen.name) {
    int least = 0, greatest = 0;
    UNIPOOL_CHECK_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest), "priorities of streams");
    for (const DeviceQueue queue : {DeviceQueue::kCompute, DeviceQueue::kCommunication}) {
      const int priority = queue == DeviceQueue::kCommunication ? greatest : least;
      UNIPOOL_CHECK_CUDA(cudaStreamCreateWithPriority(&Of(queue), cudaStreamNonBlocking, priority),
                         "a stream of priority " << priority);
      drained_[static_cast<int>(queue)] = MakeEvent();
    }
  }
  ~CudaContext() override {
    Drain();
    blas_.reset();
    for (void* data : pinned_) cudaFreeHost(data);
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
    for (cudaStream_t stream : streams_) cudaStreamDestroy(stream);
  }

  std::string name() const override { return name_; }
  std::string id() const override { return id_; }
  int64_t total_bytes() const override { return total_bytes_; }
  int64_t peak_bytes() const override { return memory_.peak_bytes(); }
  void* queue(DeviceQueue queue) override { return Of(queue); }
  void* blas() override {
    if (!blas_) blas_ = std::make_unique<cuda::Blas>(Of(DeviceQueue::kCompute));
    return blas_.get();
  }

  void* Allocate(int64_t bytes) override { return memory_.Allocate(bytes); }
  void* Reserve(int64_t max_bytes) override { return memory_.Reserve(max_bytes); }
  void Commit(void* data, int64_t bytes) override { memory_.Commit(data, bytes); }
  void Zero(void* data, int64_t bytes) override { memory_.Zero(data, bytes); }
  // Unmapping does not wait for kernels by itself.
  void Free(void* data) override {
    Drain();
    memory_.Free(data);
  }
  void* AllocatePinned(int64_t bytes) override;
  void FreePinned(void* data) override;

  void Copy(DeviceQueue queue, void* to, const void* from, int64_t bytes) override {
    if (bytes == 0) return;
    UNIPOOL_CHECK_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, Of(queue)),
                       "a copy of " << bytes << " bytes from " << from << " to " << to);
  }

  Event MakeEvent() override { return MakeEventWith(cudaEventDisableTiming); }
  Event MakeTimedEvent() override { return MakeEventWith(cudaEventDefault); }
  int64_t NsBetween(Event from, Event to) override {
    float ms = 0;
    UNIPOOL_CHECK_CUDA(cudaEventElapsedTime(&ms, events_.at(from), events_.at(to)),
                       "the time between events " << from << " and " << to);
    return std::llround(1e6 * static_cast<double>(ms));
  }
  void Record(Event event, DeviceQueue queue) override {
    UNIPOOL_CHECK_CUDA(cudaEventRecord(events_.at(event), Of(queue)), "event " << event);
  }
  void AwaitEvent(DeviceQueue queue, Event event) override {
    UNIPOOL_CHECK_CUDA(cudaStreamWaitEvent(Of(queue), events_.at(event), 0), "a wait for event " << event);
  }
  bool IsDone(Event event) override {
    const cudaError_t error = cudaEventQuery(events_.at(event));
    if (error == cudaErrorNotReady) {
      cudaGetLastError();  // or the next launch would report it
      return false;
    }
    UNIPOOL_CHECK_CUDA(error, "work of the device, seen at event " << event << WaitingFor());
    return true;
  }
  void Drain() override {
    for (const DeviceQueue queue : {DeviceQueue::kCompute, DeviceQueue::kCommunication}) {
      Record(drained_[static_cast<int>(queue)], queue);
    }
    for (const Event event : drained_) WaitOnHost(event, {.operation = "end of the device's work"});
  }

  void PushRange(const char* name) override { nvtxRangePushA(name); }
  void PopRange() override { nvtxRangePop(); }

 private:
  Event MakeEventWith(unsigned flags) {
    cudaEvent_t event = nullptr;
    UNIPOOL_CHECK_CUDA(cudaEventCreateWithFlags(&event, flags), "an event");
    events_.push_back(event);
    return static_cast<Event>(events_.size()) - 1;
  }
  cudaStream_t& Of(DeviceQueue queue) { return streams_[static_cast<int>(queue)]; }

  const std::string name_, id_;
  const int64_t total_bytes_;
  CudaMemory memory_;
  cudaStream_t streams_[2] = {};
  Event drained_[2] = {};
  std::vector<cudaEvent_t> events_;
  std::set<void*> pinned_;
  std::unique_ptr<cuda::Blas> blas_;
};

void* CudaContext::AllocatePinned(int64_t bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, std::max<int64_t>(bytes, 1), cudaHostAllocDefault);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // or the next launch would report it
    throw UserError(
        Format("device CUDA: the host has no %.1f MiB of page-locked memory left; use fewer ranks "
               "per host, or raise the limit of locked memory (ulimit -l)",
               static_cast<double>(bytes) / (1 << 20)));
  }
  UNIPOOL_CHECK_CUDA(error, bytes << " bytes of page-locked memory");
  std::memset(data, 0, bytes);
  pinned_.insert(data);
  return data;
}

void CudaContext::FreePinned(void* data) {
  CHECK_EQ(pinned_.erase(data), 1u) << data << " is not pinned memory of this device";
  Drain();
  UNIPOOL_CHECK_CUDA(cudaFreeHost(data), "freeing page-locked memory");
}

}  // namespace

std::unique_ptr<DeviceContext> MakeCudaContext(int local_rank) {
  return std::make_unique<CudaContext>(Choose(local_rank));
}

CudaDeviceFacts AskCudaDevice(int local_rank) {
  const ChosenDevice chosen = Choose(local_rank);
  const MemorySizes memory = AskMemory(chosen.device);
  return {.num_devices = chosen.num_devices,
          .name = chosen.name,
          .id = chosen.id,
          .total_bytes = memory.total,
          .free_bytes = memory.free};
}

}  // namespace unipool
