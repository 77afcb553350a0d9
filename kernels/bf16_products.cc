#include "kernels/bf16_products.h"

#include "kernels/cpu/bf16_unit.h"

namespace unipool {

bool HasBf16Products() {
  return FastestBf16Unit() != Bf16Unit::kPlain;
}

std::string Bf16ProductsText() {
  switch (FastestBf16Unit()) {
    case Bf16Unit::kAmx:
      return "AMX";
    case Bf16Unit::kAvx512:
      return "F32 arithmetic of AVX-512, since this processor has no AMX";
    case Bf16Unit::kPlain:
      break;
  }
  return "F32 arithmetic, since this processor has neither AMX nor AVX512-BF16: the same numbers, slower";
}

}  // namespace unipool
