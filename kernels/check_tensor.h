// What a kernel requires of its arguments. A violation is a bug. It ends the job and prints what came and
// what is wanted.
#pragma once

#include <initializer_list>

#include "runtime/tensor.h"

namespace unipool {

// `what` names the kernel and the argument: "TopK weights".
void CheckTensor(const char* what, const Tensor& tensor, DType dtype, std::initializer_list<int64_t> shape);

// For elementwise kernels, where only the type and the number of elements matter.
void CheckSameSize(const char* what, const Tensor& tensor, const Tensor& expected);

}  // namespace unipool
