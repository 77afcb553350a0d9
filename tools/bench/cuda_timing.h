// What the CUDA kernel benchmark is written with: arrays of random numbers on the GPU, and a table with a row
// a kernel. A row is one line of code:
//
//   bench.Run("name", [&] { Kernel(stream, ...); });
//
// A kernel declares its arithmetic and its bytes itself (KernelScope). Copy bandwidth and the rate of a dense
// bf16 product are measured in the same run. Without cuBLAS our own kernels are measured alone.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <random>
#include <vector>

#include "kernels/cuda/blas.h"

namespace unipool {

std::string WhyNoGpu();  // empty: there is one

class CudaBench : private DeviceMemory {
 public:
  // Measures the peaks and prints the head of the table. Only rows whose name contains `filter` run.
  explicit CudaBench(std::string filter);
  ~CudaBench() override;
  CudaBench(const CudaBench&) = delete;
  CudaBench& operator=(const CudaBench&) = delete;

  Stream& stream() { return stream_; }
  // False: kernels that need cuBLAS must not be run.
  bool has_blas() const { return blas_ != nullptr; }

  // Device arrays, valid until Clear.
  Tensor Random(DType dtype, std::initializer_list<int64_t> shape);          // uniform in [-1, 1)
  Tensor RandomPositive(DType dtype, std::initializer_list<int64_t> shape);  // uniform in [0, 1)
  Tensor RandomBelow(int64_t limit, std::initializer_list<int64_t> shape);   // uniform in {0, ..., limit - 1}
  Tensor RandomOrder(std::initializer_list<int64_t> shape);  // {0, ..., n - 1} in random order
  // A copy of the elements at `host`.
  Tensor Given(DType dtype, std::initializer_list<int64_t> shape, const void* host);
  // Frees the arrays: cases follow each other within the memory of the largest.
  void Clear();

  // Times the kernel by events and prints its row. Returns the median of many calls in seconds, or 0 if the
  // name does not match the filter.
  double Run(const std::string& name, const std::function<void()>& kernel);

 private:
  void* Allocate(int64_t bytes) override;
  void Free(void* data) override;
  void Zero(void* data, int64_t bytes) override;
  Tensor New(DType dtype, std::initializer_list<int64_t> shape);
  // Repeats `block` over the tensor.
  void FillWith(const Tensor& tensor, const std::vector<char>& block);
  Tensor RandomIn(DType dtype, std::initializer_list<int64_t> shape, float low, float high);
  double MedianSeconds(const std::function<void()>& work);
  double CopyBytesPerSecond();
  double GemmFlopsPerSecond();

  std::string filter_;
  std::mt19937_64 random_{std::random_device()()};
  cudaStream_t queue_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  std::unique_ptr<cuda::Blas> blas_;
  std::string why_no_blas_;
  MemoryMeter meter_;
  Stream stream_;
  std::vector<void*> arrays_;
  double copy_bytes_per_second_ = 0;
  double gemm_flops_per_second_ = 0;  // 0: there is no cuBLAS
};

}  // namespace unipool
