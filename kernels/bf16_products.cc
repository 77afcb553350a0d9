#include "kernels/bf16_products.h"

#include "kernels/cpu/bf16_unit.h"

namespace unipool {

bool HasBf16Products() {
  return FastestBf16Unit() != Bf16Unit::kPlain;
}

std::string Bf16ProductsText() {
  return HasBf16Products() ? "AMX"
                           : "F32 arithmetic, since this processor has no AMX: the same numbers, slower";
}

}  // namespace unipool
