// Memory of a CUDA device. Allocate and small reservations take it whole. Reserve takes address space, which
// Commit makes memory piece by piece, a little further than asked for (mapped_size.h).
#pragma once

#include <map>
#include <vector>

#include "kernels/cuda/driver.h"

namespace unipool::cuda {

class CudaMemory {
 public:
  // Of device `device`, which must be current in every call. `name` is for messages.
  CudaMemory(int device, std::string name);
  ~CudaMemory();  // gives back what was not freed
  CudaMemory(const CudaMemory&) = delete;
  CudaMemory& operator=(const CudaMemory&) = delete;

  // As DeviceMemory says. UserError where memory is not there. Nothing waits for work of other streams. Free
  // REQUIRES that no work uses the memory.
  void* Allocate(int64_t bytes);
  void* Reserve(int64_t max_bytes);
  void Commit(void* data, int64_t bytes);
  void Zero(void* data, int64_t bytes);
  void Free(void* data);
  int64_t peak_bytes() const { return peak_bytes_; }  // physical, with what pieces are rounded up to

  // The UserError of memory that is not there: what was asked for, what is free, what to do.
  [[noreturn]] void Refuse(int64_t bytes, const char* what) const;

 private:
  struct Block {
    int64_t max_bytes = 0;
    int64_t mapped_bytes = 0;     // physical, from the beginning
    std::vector<int64_t> pieces;  // sizes, in order; empty if taken whole
    bool is_whole = true;
  };
  bool Map(CUdeviceptr at, int64_t bytes);  // false: there is no memory left
  void Count(int64_t bytes);

  const int device_;
  const std::string name_;
  cudaStream_t clearing_ = nullptr;
  VirtualMemoryCalls calls_;
  CUmemAllocationProp where_{};
  int64_t granularity_ = 0;
  std::map<void*, Block> blocks_;
  int64_t current_bytes_ = 0, peak_bytes_ = 0;
};

}  // namespace unipool::cuda
