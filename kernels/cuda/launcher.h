// How the public function of a kernel unit reaches its CUDA launcher, with and without a CUDA toolkit.
//
//   x_cuda.h   UNIPOOL_CUDA_LAUNCHER(Forward, Stream& stream, const Tensor& x)   declares
//   unipool::cuda::Forward x_cuda.cu  defines it and the kernels x.cc       checks shapes, then:  if
//   (stream.device() == Device::kCuda) return cuda::Forward(stream, x);
//
// Without a toolkit the declaration is also a weak definition that ends the job with a sentence, so the CPU
// build links and nothing falls back silently; tests that execute the kernels on the host link the .cu files
// compiled as C++, whose definitions win.
#pragma once

#include "runtime/stream.h"

namespace unipool::cuda {

inline void RefuseWithoutToolkit(const char* launcher) {
  throw UserError(std::string(launcher) +
                  " was asked to run on a CUDA device, but this program was built without a CUDA toolkit; "
                  "build it where nvcc is found, or run on the CPU");
}

}  // namespace unipool::cuda

#if defined(UNIPOOL_WITH_CUDA) || defined(UNIPOOL_CUDA_SOURCE)
#define UNIPOOL_CUDA_LAUNCHER(name, ...) \
  namespace unipool::cuda {              \
  void name(__VA_ARGS__);                \
  }
#else
#define UNIPOOL_CUDA_LAUNCHER(name, ...)                                                  \
  namespace unipool::cuda {                                                               \
  _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wunused-parameter\"") \
      [[gnu::weak]] void name(__VA_ARGS__) {                                              \
    RefuseWithoutToolkit(#name);                                                          \
  }                                                                                       \
  _Pragma("GCC diagnostic pop")                                                           \
  }
#endif
