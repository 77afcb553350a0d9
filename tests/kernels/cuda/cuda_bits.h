// For kernels whose results are exact: arrays of given bytes on the back end, and what became of them. Where
// a result has a bound, cuda_case.h compares it with the definition.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/kernels/cuda/cuda_backend.h"

namespace unipool {

class CudaRun {
 public:
  explicit CudaRun(int run) : backend_(MakeCudaBackend(run)) {}
  Stream& stream() { return backend_->stream(); }

  // An array that holds `values` and begins `offset` bytes behind a 16-byte boundary.
  template <class T>
  T* Put(const std::vector<T>& values, const char* name, int64_t offset = 0) {
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    char* data = static_cast<char*>(backend_->Allocate(bytes + offset, name)) + offset;
    backend_->CopyIn(data, values.data(), bytes);
    return reinterpret_cast<T*>(data);
  }
  // Waits for the kernels.
  template <class T>
  std::vector<T> Get(const T* device, int64_t n) {
    for (const std::string& damage : backend_->Damage()) ADD_FAILURE() << damage;
    std::vector<T> values(n);
    backend_->CopyOut(values.data(), device, n * static_cast<int64_t>(sizeof(T)));
    return values;
  }

 private:
  std::unique_ptr<CudaBackend> backend_;
};

// body(run) in every order of threads that the back end has.
template <class Body>
void ForEachCudaRun(Body body) {
  for (int i = 0; i < NumCudaRuns() && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(CudaRunName(i));
    try {
      CudaRun run(i);
      body(run);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  }
}

}  // namespace unipool
