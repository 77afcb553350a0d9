#include <dlfcn.h>

#include "kernels/cuda/blas.h"

namespace unipool::cuda {
namespace {

#define UNIPOOL_STRING_OF(x) #x
#define UNIPOOL_STRING(x) UNIPOOL_STRING_OF(x)
constexpr const char* kPlaces[] = {"", "/usr/local/cuda/lib64/", "/usr/local/cuda/lib/"};
constexpr char kLibrary[] = "libcublas.so." UNIPOOL_STRING(CUBLAS_VER_MAJOR);

void* Open() {
  std::string reason;
  for (const char* place : kPlaces) {
    if (void* library = dlopen((std::string(place) + kLibrary).c_str(), RTLD_NOW | RTLD_LOCAL))
      return library;
    if (reason.empty()) reason = dlerror();
  }
  throw UserError(std::string("products on a CUDA device need ") + kLibrary +
                  ", which could not be opened (" + reason +
                  "); install the CUDA libraries of version " UNIPOOL_STRING(CUBLAS_VER_MAJOR) +
                  ", or name their folder in LD_LIBRARY_PATH");
}

cublasOperation_t Operation(Trans trans) {
  return trans == Trans::kYes ? CUBLAS_OP_T : CUBLAS_OP_N;
}

std::string Describe(const BlasProduct& p) {
  const auto transposed = [](Trans trans) { return trans == Trans::kYes ? "^T" : ""; };
  return Format("column-major [%d, %d]%s times [%d, %d]%s (leading dimensions %d, %d, %d), beta %g", p.m, p.k,
                transposed(p.trans_first), p.k, p.n, transposed(p.trans_second), p.ld_first, p.ld_second,
                p.ld_third, static_cast<double>(p.beta));
}

}  // namespace

template <class Function>
void Blas::Load(Function*& function, const char* name) {
  function = reinterpret_cast<Function*>(dlsym(library_, name));
  if (!function) {
    throw UserError(std::string(kLibrary) + " has no " + name +
                    ": it is older than this program needs (12.5)");
  }
}

Blas::Blas(void* stream) : library_(Open()) {
  Load(create_, "cublasCreate_v2");
  Load(destroy_, "cublasDestroy_v2");
  Load(set_stream_, "cublasSetStream_v2");
  Load(set_math_mode_, "cublasSetMathMode");
  Load(get_property_, "cublasGetProperty");
  Load(status_name_, "cublasGetStatusName");
  Load(gemm_, "cublasGemmEx_64");
  Load(grouped_gemm_, "cublasGemmGroupedBatchedEx_64");
  if (const cublasStatus_t status = create_(&handle_); status != CUBLAS_STATUS_SUCCESS) {
    throw UserError(std::string(kLibrary) + " does not start on this device: " + NameOf(status));
  }
  UNIPOOL_CHECK_BLAS(*this, set_stream_(handle_, static_cast<cudaStream_t>(stream)), "a stream");
  // Partial sums of a long product stay in F32 also where the result is BF16.
  UNIPOOL_CHECK_BLAS(
      *this,
      set_math_mode_(handle_, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                                        CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
      "the math mode");
}

const char* Blas::LibraryName() {
  return kLibrary;
}

// The library stays open: closing it would also close what it has registered with the driver.
Blas::~Blas() {
  destroy_(handle_);
}

std::string Blas::Version() const {
  int part[3] = {};
  get_property_(MAJOR_VERSION, &part[0]);
  get_property_(MINOR_VERSION, &part[1]);
  get_property_(PATCH_LEVEL, &part[2]);
  return Format("%d.%d.%d", part[0], part[1], part[2]);
}

void Blas::Multiply(const BlasProduct& p, cudaDataType_t in_type, const void* first, const void* second,
                    cudaDataType_t out_type, void* third) {
  const float alpha = 1;
  UNIPOOL_CHECK_BLAS(*this,
                     gemm_(handle_, Operation(p.trans_first), Operation(p.trans_second), p.m, p.n, p.k,
                           &alpha, first, in_type, p.ld_first, second, in_type, p.ld_second, &p.beta, third,
                           out_type, p.ld_third, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                     Describe(p) << ", cudaDataType " << in_type << " to " << out_type);
}

void Blas::MultiplyGrouped(const GroupedBlasProducts& products, cudaDataType_t type,
                           const void* const* pointers) {
  const int64_t count = products.count();
  if (count == 0) return;
  first_operations_.clear(), second_operations_.clear();
  for (int64_t i = 0; i < count; ++i) {
    first_operations_.push_back(Operation(products.trans_first[i]));
    second_operations_.push_back(Operation(products.trans_second[i]));
  }
  UNIPOOL_CHECK_BLAS(
      *this,
      grouped_gemm_(handle_, first_operations_.data(), second_operations_.data(), products.m.data(),
                    products.n.data(), products.k.data(), products.alpha.data(), pointers, type,
                    products.ld_first.data(), pointers + count, type, products.ld_second.data(),
                    products.beta.data(), const_cast<void* const*>(pointers + 2 * count), type,
                    products.ld_third.data(), count, products.group_size.data(), CUBLAS_COMPUTE_32F),
      count << " products of cudaDataType " << type << ", the first " << Describe(products.product(0)));
}

Blas& BlasOf(Stream& stream) {
  CHECK(stream.cuda().blas) << "the stream has no cuBLAS (CudaQueue::blas)";
  return *static_cast<Blas*>(stream.cuda().blas);
}

cudaDataType_t BlasTypeOf(const Tensor& tensor) {
  CHECK(tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16)
      << "no product on a CUDA device for dtype " << unipool::NameOf(tensor.dtype);
  return tensor.dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
}

}  // namespace unipool::cuda
