#include "kernels/bf16_products.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>

namespace unipool {
namespace {

TEST(Bf16Products, AreThoseThatTheProcessorLists) {
  std::ifstream file("/proc/cpuinfo");
  bool has_amx = false, has_avx512 = false;
  for (std::string line; std::getline(file, line);) {
    const auto has = [&](const char* flag) { return line.find(flag) != std::string::npos; };
    if (!line.starts_with("flags")) continue;
    has_avx512 = has("avx512_bf16") && has("avx512bw") && has("avx512vl");
    has_amx = has_avx512 && has("amx_bf16") && has("amx_tile");
  }
  EXPECT_EQ(HasBf16Products(), has_avx512);
  if (has_amx) {
    EXPECT_EQ(Bf16ProductsText(), "AMX");
  } else if (has_avx512) {
    EXPECT_EQ(Bf16ProductsText(), "F32 arithmetic of AVX-512, since this processor has no AMX");
  } else {
    EXPECT_NE(Bf16ProductsText().find("slower"), std::string::npos);
  }
}

}  // namespace
}  // namespace unipool
