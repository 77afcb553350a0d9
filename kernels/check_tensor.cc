#include "kernels/check_tensor.h"

#include <algorithm>

namespace unipool {

void CheckTensor(const char* what, const Tensor& tensor, DType dtype, std::initializer_list<int64_t> shape) {
  const bool right = tensor.dtype == dtype && tensor.num_dims == static_cast<int>(shape.size()) &&
                     std::equal(shape.begin(), shape.end(), tensor.dims.begin());
  if (right) return;
  const Tensor expected(nullptr, dtype, shape);
  LOG(FATAL) << what << " is " << NameOf(tensor.dtype) << " " << tensor.ShapeString() << ", expected "
             << NameOf(dtype) << " " << expected.ShapeString();
}

void CheckSameSize(const char* what, const Tensor& tensor, const Tensor& expected) {
  CHECK(tensor.dtype == expected.dtype && tensor.size() == expected.size())
      << what << " is " << NameOf(tensor.dtype) << " " << tensor.ShapeString()
      << ", expected as many elements as " << NameOf(expected.dtype) << " " << expected.ShapeString();
}

}  // namespace unipool
