// The vendor's dense products of one CUDA stream. The library (libcublas) is opened when a Blas is made, not
// when the program starts. So a program built with a CUDA toolkit runs on machines without CUDA libraries,
// and a bundle need not carry half a gigabyte.
#pragma once

#include <cublas_v2.h>

#include <string>

#include "kernels/cuda/blas_products.h"

namespace unipool::cuda {

class Blas {
 public:
  // `stream` is a cudaStream_t of the current device, which must outlive the Blas. The library is looked for
  // where the loader looks, then in /usr/local/cuda. UserError if it is not there, or cannot start.
  explicit Blas(void* stream);
  static const char* LibraryName();  // that is looked for: "libcublas.so.13"
  ~Blas();
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  cublasHandle_t handle() const { return handle_; }
  std::string Version() const;  // "13.0.2"
  const char* NameOf(cublasStatus_t status) const { return status_name_(status); }

  // c = op(a) op(b) + beta c for the row-major arrays of a Gemm; types as cuBLAS calls them. Sums are in F32.
  void Multiply(const BlasProduct& product, cudaDataType_t in_type, const void* first, const void* second,
                cudaDataType_t out_type, void* third);
  // All products of one call at once. `pointers` is a device array of 3 * count addresses: of the first
  // matrices, of the second, of the third.
  void MultiplyGrouped(const GroupedBlasProducts& products, cudaDataType_t type, const void* const* pointers);

  // Kept here so that their memory is used again.
  GroupedBlasProducts& products() { return products_; }
  std::vector<uintptr_t>& addresses() { return addresses_; }

 private:
  template <class Function>
  void Load(Function*& function, const char* name);
  void* library_ = nullptr;
  cublasHandle_t handle_ = nullptr;
  GroupedBlasProducts products_;
  std::vector<uintptr_t> addresses_;
  std::vector<cublasOperation_t> first_operations_, second_operations_;

  decltype(&cublasCreate_v2) create_ = nullptr;
  decltype(&cublasDestroy_v2) destroy_ = nullptr;
  decltype(&cublasSetStream_v2) set_stream_ = nullptr;
  decltype(&cublasSetMathMode) set_math_mode_ = nullptr;
  decltype(&cublasGetProperty) get_property_ = nullptr;
  decltype(&cublasGetStatusName) status_name_ = nullptr;
  decltype(&cublasGemmEx_64) gemm_ = nullptr;
  decltype(&cublasGemmGroupedBatchedEx_64) grouped_gemm_ = nullptr;
};

Blas& BlasOf(Stream& stream);                     // the Blas of the stream's CudaQueue
cudaDataType_t BlasTypeOf(const Tensor& tensor);  // REQUIRES: F32 or BF16

}  // namespace unipool::cuda

// A call that fails ends the job with the name of the status and with `what` was asked, which is streamed:
// the shapes first of all.
#define UNIPOOL_CHECK_BLAS(blas, call, what)                                                            \
  do {                                                                                                  \
    const cublasStatus_t unipool_status = (call);                                                       \
    CHECK(unipool_status == CUBLAS_STATUS_SUCCESS) << (blas).NameOf(unipool_status) << " for " << what; \
  } while (false)
