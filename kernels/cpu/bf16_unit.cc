#include "kernels/cpu/bf16_unit.h"

namespace unipool {

Bf16Unit FastestBf16Unit() {
  return AmxBf16Functions() ? Bf16Unit::kAmx : Bf16Unit::kPlain;
}

const Bf16Functions& Bf16FunctionsOf(Bf16Unit unit) {
  if (unit == Bf16Unit::kPlain) return PlainBf16Functions();
  const Bf16Functions* functions = AmxBf16Functions();
  CHECK(functions) << "this processor has no AMX";
  return *functions;
}

}  // namespace unipool
