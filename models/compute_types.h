// The types in which a model computes. Products may have operands of another type than what lies between
// kernels: on the CPU BF16 products read F32 activations and round them (kernels/BF16_CPU.md).
#pragma once

#include "runtime/tensor.h"

namespace unipool {

struct ComputeTypes {
  DType activations = DType::kF32;  // what kernels hand to each other, and what ranks exchange
  DType products = DType::kF32;  // the operands of products with weights: activations' type, or BF16 of F32

  // One type for both.
  static ComputeTypes Both(DType dtype) { return {.activations = dtype, .products = dtype}; }
  bool operator==(const ComputeTypes&) const = default;
};

}  // namespace unipool
