#include <cuda_runtime_api.h>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/launchers.h"

namespace unipool::cuda {
void Gemm(Stream& stream, Trans trans_a, const Tensor& a, Trans trans_b, const Tensor& b, float beta,
          const Tensor& c) {
  const GemmShape shape{c.dim(0), c.dim(1), a.dim(trans_a == Trans::kYes ? 0 : 1)};
  if (shape.m == 0 || shape.n == 0) return;
  if (shape.k == 0 && beta == 0) {
    const auto queue = static_cast<cudaStream_t>(stream.cuda().stream);
    const cudaError_t error = cudaMemsetAsync(c.data, 0, c.bytes(), queue);
    CHECK(error == cudaSuccess) << "Gemm into " << c.ShapeString() << ": " << cudaGetErrorString(error);
    return;
  }
  BlasOf(stream).Multiply(AsBlasProduct(trans_a, trans_b, shape, beta), BlasTypeOf(a), b.data, a.data,
                          BlasTypeOf(c), c.data);
}

}  // namespace unipool::cuda
