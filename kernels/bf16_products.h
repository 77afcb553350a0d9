// What multiplies BF16 numbers on this processor (BF16_CPU.md), for whoever tells the user.
#pragma once

#include <string>

namespace unipool {

// Whether the processor has instructions for BF16 numbers that the program uses (AMX or AVX512-BF16). Without
// them the numbers are the same and take longer.
bool HasBf16Products();
// "AMX", or what is done without: "F32 arithmetic of AVX-512, since this processor has no AMX".
std::string Bf16ProductsText();

}  // namespace unipool
