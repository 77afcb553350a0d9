#include "models/host_reader.h"

#include <gtest/gtest.h>

#include <vector>

namespace unipool {
namespace {

TEST(HostReader, ReadsTheFirstRowsOfEveryType) {
  HostReader reader(nullptr);
  const std::vector<double> expected{1, -2, 3, 0.5};
  std::vector<float> f32{1, -2, 3, 0.5, 9, 9};
  EXPECT_EQ(reader.Read(Tensor(f32.data(), DType::kF32, {3, 2}), 2), expected);
  std::vector<double> f64{1, -2, 3, 0.5, 9, 9};
  EXPECT_EQ(reader.Read(Tensor(f64.data(), DType::kF64, {3, 2}), 2), expected);
  std::vector<uint16_t> bf16{0x3f80, 0xc000, 0x4040, 0x3f00, 0x4110, 0x4110};
  EXPECT_EQ(reader.Read(Tensor(bf16.data(), DType::kBF16, {3, 2}), 2), expected);
  std::vector<int32_t> i32{7, -8, 9};
  EXPECT_EQ(reader.Read(Tensor(i32.data(), DType::kI32, {3}), 2), (std::vector<double>{7, -8}));
  std::vector<int64_t> i64{7, -8, 9};
  EXPECT_EQ(reader.Read(Tensor(i64.data(), DType::kI64, {3}), 3), (std::vector<double>{7, -8, 9}));
}

}  // namespace
}  // namespace unipool
