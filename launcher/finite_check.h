// Weights and moments that are no numbers: infinities and NaN.
#pragma once

#include <string>

#include "runtime/tensor.h"

namespace unipool {

// "element 7 is nan" of the first element that is no finite number, or "". Host memory; F32 and F64, all
// others pass. One pass at the speed of memory.
std::string FirstNotFinite(const Tensor& tensor);

}  // namespace unipool
