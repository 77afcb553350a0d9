// GroupedGemmWeightGradOfSlots on the CPU: one call for several slots against one call for each, bit for bit,
// and against a sum in double over all rows.
#include <algorithm>
#include <cmath>

#include "kernels/grouped_gemm.h"
#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

struct Case {
  std::vector<std::vector<int64_t>> rows;  // of each expert in each slot
  int64_t first_expert, num_experts;       // those that take part
  int64_t outer, inner;
};
const Case kCases[] = {
    {{}, 0, 2, 8, 5},                                                            // no slot
    {{{0, 0}, {0, 0}}, 0, 2, 8, 5},                                              // nothing in any slot
    {{{3}, {1}, {40}}, 0, 1, 24, 17},                                            // one expert
    {{{7, 0, 20, 5}}, 0, 4, 33, 40},                                             // one slot
    {{{7, 0, 20, 5}, {0, 0, 0, 0}, {1, 0, 0, 64}, {0, 0, 3, 2}}, 0, 4, 33, 40},  // empty slot, empty expert
    {{{7, 9, 20, 5, 1}, {4, 0, 31, 0, 6}, {2, 0, 0, 0, 8}}, 1, 3, 130, 65},  // not the first, not the last
    {std::vector<std::vector<int64_t>>(kMostWeightGradSlots, {2, 0, 33}), 1, 2, 16, 48},
    {{{70, 1}, {69, 2}, {71, 0}, {70, 3}, {5, 0}}, 0, 2, 70, 90},  // as many rows as the matrix, one less
    {{{300, 3}, {290, 0}, {299, 4}, {3, 0}, {256, 9}},
     0,
     2,
     301,
     310},                                     // sums in pieces, more than one buffer
    {{{5}, {0}, {7}, {3}}, 0, 1, 2304, 4112},  // results past the caches
};

template <class T>
class WeightGradSlotsTest : public testing::Test {
 protected:
  // Row arrays of a case; rows of experts that take no part are NaN. Slot s has rows
  // [begins[s], begins[s + 1]).
  void Make(const Case& test) {
    slots.clear();
    std::vector<bool> takes_part;
    for (const auto& rows : test.rows) {
      std::vector<int64_t> offsets;
      for (int64_t e = 0; e < static_cast<int64_t>(rows.size()); ++e) {
        const bool inside = e >= test.first_expert && e < test.first_expert + test.num_experts;
        if (inside && offsets.empty()) offsets.push_back(static_cast<int64_t>(takes_part.size()));
        takes_part.insert(takes_part.end(), rows[e], inside);
        if (inside) offsets.push_back(static_cast<int64_t>(takes_part.size()));
      }
      slots.push_back(offsets);
    }
    num_rows = static_cast<int64_t>(takes_part.size());
    dy = Values(takes_part, test.outer);
    x = Values(takes_part, test.inner);
  }
  Tensor Rows(std::vector<T>& values, int64_t width) const {
    return Tensor(values.data(), DTypeOf<T>::value, {num_rows, width});
  }
  std::vector<T> Values(const std::vector<bool>& takes_part, int64_t width) {
    std::vector<T> values(takes_part.size() * width + 1);
    for (size_t i = 0; i + 1 < values.size(); ++i) {
      values[i] = takes_part[i / width] ? static_cast<T>(Uniform(random, -1, 1)) : Poison<T>();
    }
    return values;
  }
  // What dw holds before the call: NaN where it must not be read.
  Array<T> Before(const Case& test, const std::vector<uint8_t>& has_grad) {
    Array<T> dw({test.num_experts, test.outer, test.inner});
    for (int64_t j = 0; j < dw.size(); ++j) {
      if (has_grad[j / (test.outer * test.inner)]) dw[j] = static_cast<T>(Uniform(random, -1, 1));
    }
    return dw;
  }

  std::mt19937_64 random{static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()) + 31};
  TestStream stream;
  std::vector<std::vector<int64_t>> slots;
  int64_t num_rows = 0;
  std::vector<T> dy, x;
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(WeightGradSlotsTest, Types);

// Which experts have a gradient before the call: none, all, every second.
uint8_t HasGrad(int kind, int64_t e) {
  return kind == 0 ? 0 : kind == 1 ? 1 : static_cast<uint8_t>(e % 2);
}

TYPED_TEST(WeightGradSlotsTest, EqualsOneCallForEachSlotBitForBit) {
  using T = TypeParam;
  MemoryMeter meter;
  for (const Case& test : kCases) {
    for (int kind = 0; kind < 3; ++kind) {
      SCOPED_TRACE(testing::Message() << "case " << &test - kCases << ", gradients before: kind " << kind);
      this->Make(test);
      std::vector<uint8_t> has_grad(test.num_experts);
      for (int64_t e = 0; e < test.num_experts; ++e) has_grad[e] = HasGrad(kind, e);
      std::vector<uint8_t> expected_has_grad = has_grad;
      Array<T> dw = this->Before(test, has_grad), expected = dw;
      const Tensor dy = this->Rows(this->dy, test.outer), x = this->Rows(this->x, test.inner);
      const std::vector<GroupOffsets> slots(this->slots.begin(), this->slots.end());
      double bytes = 0, flops = 0;
      for (const GroupOffsets slot : slots) {
        std::vector<int64_t> own;
        for (const int64_t offset : slot) own.push_back(offset - slot.front());
        GroupedGemmWeightGrad(this->stream, own, dy.Rows(slot.front(), own.back()),
                              x.Rows(slot.front(), own.back()), expected, expected_has_grad);
        bytes += static_cast<double>(own.back() * (test.outer + test.inner) * sizeof(T));
        flops += this->stream.profile.cost(Op::kGroupedGemm).flops;
        this->stream.profile.Reset();
      }
      for (int64_t e = 0; e < test.num_experts; ++e) {  // an expert's gradient moves once for all slots
        const bool has_rows =
            std::any_of(slots.begin(), slots.end(), [e](GroupOffsets slot) { return slot[e] < slot[e + 1]; });
        if (has_rows) bytes += static_cast<double>((1 + has_grad[e]) * test.outer * test.inner * sizeof(T));
      }
      // Whole pages, so that results past the caches may be streamed.
      const Buffer pages = Buffer::Allocate(meter, MemoryKind::kScratch, dw.size() * int64_t{sizeof(T)});
      const Tensor aligned(pages.data(), DTypeOf<T>::value, {test.num_experts, test.outer, test.inner});
      std::copy_n(&dw[0], dw.size(), aligned.as<T>());
      GroupedGemmWeightGradOfSlots(this->stream, slots, dy, x, aligned, has_grad);
      std::copy_n(aligned.as<T>(), dw.size(), &dw[0]);
      EXPECT_TRUE(dw.BitEquals(expected));
      EXPECT_EQ(has_grad, expected_has_grad);
      EXPECT_EQ(this->stream.profile.cost(Op::kGroupedGemm).flops, flops);
      this->stream.ExpectOneCall(Op::kGroupedGemm, bytes);
    }
  }
}

TYPED_TEST(WeightGradSlotsTest, SumsTheRowsOfAllSlots) {
  using T = TypeParam;
  for (const Case& test : kCases) {
    SCOPED_TRACE(testing::Message() << "case " << &test - kCases);
    this->Make(test);
    std::vector<uint8_t> has_grad(test.num_experts);
    for (int64_t e = 0; e < test.num_experts; ++e) has_grad[e] = HasGrad(2, e);
    const std::vector<uint8_t> had_grad = has_grad;
    Array<T> dw = this->Before(test, has_grad);
    const Array<T> before = dw;
    const std::vector<GroupOffsets> slots(this->slots.begin(), this->slots.end());
    GroupedGemmWeightGradOfSlots(this->stream, slots, this->Rows(this->dy, test.outer),
                                 this->Rows(this->x, test.inner), dw, has_grad);
    for (int64_t e = 0; e < test.num_experts; ++e) {
      int64_t count = 0;
      for (const auto& slot : slots) count += slot[e + 1] - slot[e];
      EXPECT_EQ(has_grad[e], had_grad[e] || count > 0) << e;
      for (int64_t j = 0; j < test.outer * test.inner; ++j) {
        const int64_t at = e * test.outer * test.inner + j;
        if (count == 0 && !had_grad[e]) {
          ASSERT_TRUE(std::isnan(dw[at])) << "expert " << e << " has no rows and was touched";
          continue;
        }
        double expected = had_grad[e] ? before[at] : 0;
        for (const auto& slot : slots) {
          for (int64_t row = slot[e]; row < slot[e + 1]; ++row) {
            expected += static_cast<double>(this->dy[row * test.outer + j / test.inner]) *
                        static_cast<double>(this->x[row * test.inner + j % test.inner]);
          }
        }
        ASSERT_NEAR(dw[at], expected, std::numeric_limits<T>::epsilon() * 2 * static_cast<double>(4 + count))
            << "expert " << e << ", element " << j;
      }
    }
  }
}

using WeightGradSlotsDeathTest = WeightGradSlotsTest<float>;
TEST_F(WeightGradSlotsDeathTest, RefusesOffsetsOutsideTheRowsAndTooManySlots) {
  const Case test{{{3, 4}}, 0, 2, 8, 8};
  Make(test);
  std::vector<uint8_t> has_grad(2);
  const Array<float> dw({2, 8, 8});
  const Tensor dy_rows = Rows(dy, 8), x_rows = Rows(x, 8);
  const auto run = [&](std::vector<int64_t> offsets, size_t count) {
    const std::vector<GroupOffsets> all(count, offsets);
    GroupedGemmWeightGradOfSlots(stream, all, dy_rows, x_rows, dw, has_grad);
  };
  EXPECT_DEATH(run({3, 7, 8}, 1), "3 to 8 of 7 rows");
  EXPECT_DEATH(run({-1, 3, 7}, 1), "-1 to 7 of 7 rows");
  EXPECT_DEATH(run({5, 3, 7}, 1), "group 0");
  EXPECT_DEATH(run({0, 7}, 1), "2 vs. 3");
  EXPECT_DEATH(run({0, 3, 7}, kMostWeightGradSlots + 1), "17 vs. 16");
  EXPECT_DEATH(GroupedGemmWeightGrad(stream, std::vector<int64_t>{1, 3, 7}, dy_rows, x_rows, dw, has_grad),
               "not those of all \\[7, 8\\]");
}

TEST(WeightGradSlotsBf16DeathTest, CudaRefusesSizesAndArraysOffSixteenBytes) {
  MemoryMeter meter;
  Stream stream(meter, Device::kCuda);
  alignas(16) char memory[4096] = {};
  std::vector<uint8_t> has_grad(1);
  const std::vector<int64_t> offsets{0, 2};
  const GroupOffsets slot = offsets;
  const auto run = [&](int64_t outer, int skipped_bytes) {
    const Tensor rows(memory + skipped_bytes, DType::kBF16, {2, outer});
    const Tensor x(memory, DType::kBF16, {2, 8}), dw(memory, DType::kF32, {1, outer, 8});
    GroupedGemmWeightGradOfSlots(stream, {&slot, 1}, rows, x, dw, has_grad);
  };
  EXPECT_DEATH(run(12, 0), "experts of BF16 need multiples of 8, found 12 x 8");
  EXPECT_DEATH(run(8, 2), "% 16 == 0u");
}

}  // namespace
}  // namespace unipool
