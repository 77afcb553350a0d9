#include <algorithm>

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/mapped_size.h"

namespace unipool::cuda {
namespace {

constexpr int64_t kSmallBytes = int64_t{4} << 20;  // of a reservation that is taken whole

CUdeviceptr AsAddress(void* data) {
  return reinterpret_cast<CUdeviceptr>(data);
}

}  // namespace

CudaMemory::CudaMemory(int device, std::string name)
    : device_(device), name_(std::move(name)), calls_(LoadVirtualMemoryCalls()) {
  UNIPOOL_CHECK_CUDA(cudaStreamCreateWithFlags(&clearing_, cudaStreamNonBlocking), "a stream");
  where_.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  where_.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  where_.location.id = device;
  size_t granularity = 0;
  UNIPOOL_CHECK_DRIVER(calls_.granularity(&granularity, &where_, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
                       name_ << " has no virtual memory management, which buffers need");
  granularity_ = static_cast<int64_t>(granularity);
}

CudaMemory::~CudaMemory() {
  while (!blocks_.empty()) Free(blocks_.begin()->first);
  cudaStreamDestroy(clearing_);
}

void CudaMemory::Refuse(int64_t bytes, const char* what) const {
  cudaGetLastError();  // or the next launch would report it
  constexpr double kMiB = 1 << 20;
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  throw UserError(Format(
      "device CUDA: %s %d (%s) has no memory left: %.1f MiB %s were asked for, %.1f of %.1f MiB are free, "
      "and this rank has %.1f MiB; make train.micro_batch smaller, set train.recompute_experts or "
      "train.recompute_attention, or use more ranks on more GPUs",
      "GPU", device_, name_.c_str(), static_cast<double>(bytes) / kMiB, what,
      static_cast<double>(free) / kMiB, static_cast<double>(total) / kMiB,
      static_cast<double>(current_bytes_) / kMiB));
}

void CudaMemory::Count(int64_t bytes) {
  current_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, current_bytes_);
}

// Streams that are at work have no part in it.
void CudaMemory::Zero(void* data, int64_t bytes) {
  UNIPOOL_CHECK_CUDA(cudaMemsetAsync(data, 0, bytes, clearing_), "clearing " << bytes << " bytes");
  UNIPOOL_CHECK_CUDA(cudaStreamSynchronize(clearing_), "clearing " << bytes << " bytes");
}

void* CudaMemory::Allocate(int64_t bytes) {
  void* data = nullptr;
  // An allocation of nothing would be a null pointer.
  const cudaError_t error = cudaMalloc(&data, std::max<int64_t>(bytes, 1));
  if (error == cudaErrorMemoryAllocation) Refuse(bytes, "more");
  UNIPOOL_CHECK_CUDA(error, "an allocation of " << bytes << " bytes");
  blocks_[data] = {.max_bytes = bytes, .mapped_bytes = bytes};
  Count(bytes);
  return data;
}

void* CudaMemory::Reserve(int64_t max_bytes) {
  if (max_bytes < kSmallBytes) return Allocate(max_bytes);
  const int64_t reserved = (max_bytes + granularity_ - 1) / granularity_ * granularity_;
  CUdeviceptr address = 0;
  UNIPOOL_CHECK_DRIVER(calls_.reserve(&address, reserved, 0, 0, 0),
                       "address space of " << reserved << " bytes");
  void* data = reinterpret_cast<void*>(address);
  blocks_[data] = {.max_bytes = reserved, .is_whole = false};
  return data;
}

bool CudaMemory::Map(CUdeviceptr at, int64_t bytes) {
  CUmemGenericAllocationHandle piece{};
  const CUresult result = calls_.create(&piece, bytes, &where_, 0);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) return false;
  UNIPOOL_CHECK_DRIVER(result, bytes << " bytes of memory");
  UNIPOOL_CHECK_DRIVER(calls_.map(at, bytes, 0, piece, 0), "mapping " << bytes << " bytes");
  // The mapping keeps the memory.
  UNIPOOL_CHECK_DRIVER(calls_.release(piece), "releasing " << bytes << " bytes");
  CUmemAccessDesc access{};
  access.location = where_.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  UNIPOOL_CHECK_DRIVER(calls_.set_access(at, bytes, &access, 1), "access to " << bytes << " bytes");
  return true;
}

void CudaMemory::Commit(void* data, int64_t bytes) {
  const auto found = blocks_.find(data);
  CHECK(found != blocks_.end()) << data << " is not memory of this device";
  Block& block = found->second;
  CHECK_LE(bytes, block.max_bytes);
  if (block.is_whole || bytes <= block.mapped_bytes) return;
  const int64_t mapped = block.mapped_bytes;
  char* const begin = static_cast<char*>(data) + mapped;
  int64_t more = NextMapped(bytes, mapped, block.max_bytes, granularity_) - mapped;
  if (!Map(AsAddress(begin), more)) {  // then what is wanted, and no more
    more = NextMapped(bytes, 0, block.max_bytes, granularity_) - mapped;
    if (!Map(AsAddress(begin), more)) Refuse(more, "more");
  }
  block.pieces.push_back(more);
  block.mapped_bytes += more;
  Count(more);
}

void CudaMemory::Free(void* data) {
  const auto found = blocks_.find(data);
  CHECK(found != blocks_.end()) << data << " is not memory of this device";
  const Block& block = found->second;
  if (block.is_whole) {
    UNIPOOL_CHECK_CUDA(cudaFree(data), "freeing " << block.max_bytes << " bytes");
  } else {
    CUdeviceptr at = AsAddress(data);
    for (const int64_t bytes : block.pieces) {
      UNIPOOL_CHECK_DRIVER(calls_.unmap(at, bytes), "unmapping " << bytes << " bytes");
      at += bytes;
    }
    UNIPOOL_CHECK_DRIVER(calls_.free(AsAddress(data), block.max_bytes),
                         "giving back " << block.max_bytes << " bytes of address space");
  }
  Count(-block.mapped_bytes);
  blocks_.erase(found);
}

}  // namespace unipool::cuda
