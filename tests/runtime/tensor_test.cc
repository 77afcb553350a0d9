#include "runtime/tensor.h"

#include <gtest/gtest.h>

#include <vector>

namespace unipool {
namespace {

TEST(Tensor, RowsAndReshapeAreViews) {
  std::vector<float> numbers(24);
  for (int i = 0; i < 24; ++i) numbers[i] = static_cast<float>(i);
  const Tensor all(numbers.data(), DType::kF32, {4, 2, 3});
  EXPECT_EQ(all.size(), 24);
  EXPECT_EQ(all.bytes(), 96);
  const Tensor rows = all.Rows(1, 2);
  EXPECT_EQ(rows.ShapeString(), "[2, 2, 3]");
  EXPECT_EQ(rows.as<float>()[0], 6);
  EXPECT_EQ(all.Rows(4, 0).size(), 0);
  EXPECT_EQ(all.Reshape({6, 4}).Rows(5, 1).as<float>()[3], 23);
  EXPECT_DEATH(all.Rows(3, 2), "rows 3 \\+ 2 of \\[4, 2, 3\\]");
  EXPECT_DEATH(all.Reshape({5, 5}), "24");
}

TEST(Tensor, AnEmptyOneHasNoElements) {
  const Tensor none;
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(none.size(), 0);
  float number = 3;
  const Tensor rows(&number, DType::kF32, {0, 7});
  EXPECT_FALSE(rows.empty());
  EXPECT_EQ(rows.size(), 0);
  EXPECT_EQ(rows.bytes(), 0);
}

TEST(DType, HasSizeNameAndAccumulator) {
  struct Expected {
    DType dtype;
    int64_t bytes;
    const char* name;
    DType accumulator;
  };
  for (const Expected& e : {Expected{DType::kF32, 4, "F32", DType::kF32},
                            {DType::kF64, 8, "F64", DType::kF64},
                            {DType::kBF16, 2, "BF16", DType::kF32},
                            {DType::kI32, 4, "I32", DType::kI32},
                            {DType::kI64, 8, "I64", DType::kI64}}) {
    EXPECT_EQ(SizeOf(e.dtype), e.bytes);
    EXPECT_STREQ(NameOf(e.dtype), e.name);
    EXPECT_EQ(AccumulatorOf(e.dtype), e.accumulator);
  }
}

TEST(DispatchFloat, ChoosesTheTypeAndRefusesOthers) {
  int64_t bytes = 0;
  const auto body = [&]<class T>() { bytes = sizeof(T); };
  DispatchFloat(DType::kF32, body);
  EXPECT_EQ(bytes, 4);
  DispatchFloat(DType::kF64, body);
  EXPECT_EQ(bytes, 8);
  EXPECT_DEATH(DispatchFloat(DType::kBF16, body), "no CPU kernel for dtype BF16");
}

}  // namespace
}  // namespace unipool
