// Weights and moments that are no numbers: infinities and NaN.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/parameter.h"
#include "runtime/tensor.h"

namespace unipool {

// "element 7 is nan" of the first element that is no finite number, or "". Elements are counted from
// first_element. Host memory; F32 and F64, all others pass. One pass at the speed of memory.
std::string FirstNotFinite(const Tensor& tensor, int64_t first_element = 0);

// The file that holds the first element of "NAME" of a weight, of "exp_avg/NAME" or "exp_avg_sq/NAME".
using FileOf = std::function<std::string(const std::string& name, int64_t first_element)>;

// A sentence for each of this rank's tensors with a number that is none: "FILE: NAME: element 7 is nan".
std::vector<std::string> NotFinite(const std::vector<DiskTensor>& tensors,
                                   const std::vector<OptimizerPiece>& pieces, const FileOf& file_of = {});
// Throws UserError with those sentences below a heading that begins with `where`, unless there are none.
void CheckFinite(const std::string& where, const std::vector<DiskTensor>& tensors,
                 const std::vector<OptimizerPiece>& pieces, const FileOf& file_of = {});

}  // namespace unipool
