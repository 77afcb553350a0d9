#include "kernels/cpu/bf16_unit.h"

namespace unipool {

Bf16Unit FastestBf16Unit() {
  if (AmxBf16Functions()) return Bf16Unit::kAmx;
  return Avx512Bf16Functions() ? Bf16Unit::kAvx512 : Bf16Unit::kPlain;
}

const Bf16Functions& Bf16FunctionsOf(Bf16Unit unit) {
  if (unit == Bf16Unit::kPlain) return PlainBf16Functions();
  const bool is_amx = unit == Bf16Unit::kAmx;
  const Bf16Functions* functions = is_amx ? AmxBf16Functions() : Avx512Bf16Functions();
  CHECK(functions) << "this processor has no " << (is_amx ? "AMX" : "AVX512-BF16");
  return *functions;
}

}  // namespace unipool
