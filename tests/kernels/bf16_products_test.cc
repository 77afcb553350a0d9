#include "kernels/bf16_products.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>

namespace unipool {
namespace {

TEST(Bf16Products, AreThoseThatTheProcessorLists) {
  std::ifstream file("/proc/cpuinfo");
  bool is_listed = false;
  for (std::string line; std::getline(file, line);) {
    const auto has = [&](const char* flag) { return line.find(flag) != std::string::npos; };
    is_listed |= line.starts_with("flags") && has("amx_bf16") && has("amx_tile") && has("avx512_bf16");
  }
  if (is_listed) {
    EXPECT_TRUE(HasBf16Products());
    EXPECT_EQ(Bf16ProductsText(), "AMX");
  } else {
    EXPECT_FALSE(HasBf16Products());
    EXPECT_NE(Bf16ProductsText().find("slower"), std::string::npos);
  }
}

}  // namespace
}  // namespace unipool
