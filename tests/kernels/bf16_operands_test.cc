// Gemm and the grouped products of BF16 numbers on the CPU: which operands they take, and what they make of
// them.
#include <cmath>

#include "kernels/cpu/bf16_bits.h"
#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/swiglu.h"
#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

// The same numbers as F32 and as BF16.
struct Both {
  Both(std::mt19937_64& random, std::initializer_list<int64_t> shape)
      : exact(RandomArray<float>(random, shape)), bits(exact.size()) {
    RoundToBf16(exact.tensor().as<float>(), exact.size(), bits.data());
    half = Tensor(bits.data(), DType::kBF16, shape);
  }
  double operator[](int64_t i) const { return FromBf16(bits[i]); }
  const Tensor& As(bool is_bf16) const { return is_bf16 ? half : exact.tensor(); }
  Array<float> exact;
  std::vector<uint16_t> bits;
  Tensor half;
};

class Bf16OperandsTest : public testing::Test {
 protected:
  std::mt19937_64 random{static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()) + 41};
  TestStream stream;
};

double Tolerance(int64_t terms) {
  return 0x1p-24 * static_cast<double>(terms + 2) * static_cast<double>(terms + 1);
}

TEST_F(Bf16OperandsTest, GemmRoundsWhatIsNotBf16) {
  for (const GemmShape size : {GemmShape{1, 1, 1}, {5, 48, 513}, {33, 97, 70}, {130, 33, 64}}) {
    for (int variant = 0; variant < 32; ++variant) {
      const bool ta = variant & 1, tb = variant & 2, adds = variant & 4;
      const Both a = ta ? Both(random, {size.k, size.m}) : Both(random, {size.m, size.k});
      const Both b = tb ? Both(random, {size.n, size.k}) : Both(random, {size.k, size.n});
      Array<float> c({size.m, size.n});
      for (int64_t i = 0; adds && i < c.size(); ++i) c[i] = static_cast<float>(Uniform(random, -1, 1));
      Array<double> expected({size.m, size.n});
      for (int64_t i = 0; i < size.m; ++i) {
        for (int64_t j = 0; j < size.n; ++j) {
          double sum = adds ? c[i * size.n + j] : 0;
          for (int64_t l = 0; l < size.k; ++l)
            sum += a[ta ? l * size.m + i : i * size.k + l] * b[tb ? j * size.k + l : l * size.n + j];
          expected[i * size.n + j] = sum;
        }
      }
      Gemm(stream, ta ? Trans::kYes : Trans::kNo, a.As(variant & 8), tb ? Trans::kYes : Trans::kNo,
           b.As(variant & 16), adds ? 1 : 0, c, DType::kBF16);
      ExpectNear(c, expected, 0, Tolerance(size.k));
    }
  }
}

TEST_F(Bf16OperandsTest, GemmTakesThemWhereOneIsBf16AndElseWhereToldSo) {
  const Both a(random, {9, 40}), b(random, {40, 17});
  Array<float> told({9, 17}), seen({9, 17}), exact({9, 17});
  Gemm(stream, Trans::kNo, a.exact, Trans::kNo, b.exact, 0, told, DType::kBF16);
  Gemm(stream, Trans::kNo, a.half, Trans::kNo, b.exact, 0, seen);
  Gemm(stream, Trans::kNo, a.exact, Trans::kNo, b.exact, 0, exact);
  EXPECT_TRUE(told.BitEquals(seen));
  EXPECT_FALSE(told.BitEquals(exact));
}

TEST_F(Bf16OperandsTest, GroupedProductsUseEachGroupsOwnRowsAndMatrix) {
  const std::vector<std::vector<int64_t>> cases = {
      {0}, {1}, {0, 0, 70, 0}, {0, 5, 16, 0, 1, 33, 4, 0}, {300, 2}};
  for (const std::vector<int64_t>& rows : cases) {
    for (int variant = 0; variant < 2; ++variant) {
      std::vector<int64_t> offsets{0};
      for (const int64_t count : rows) offsets.push_back(offsets.back() + count);
      const int64_t groups = static_cast<int64_t>(rows.size()), r = offsets.back(), o = 130, i = 65;
      const Both w(random, {groups, o, i}), x(random, {r, i}), dy(random, {r, o});
      Array<double> expected_y({r, o}, 0.0), expected_dx({r, i}, 0.0), expected_dw({groups, o, i}, 0.0);
      for (int64_t e = 0; e < groups; ++e) {
        for (int64_t row = offsets[e]; row < offsets[e + 1]; ++row) {
          for (int64_t p = 0; p < o; ++p) {
            for (int64_t q = 0; q < i; ++q) {
              const int64_t at = (e * o + p) * i + q;
              expected_y[row * o + p] += w[at] * x[row * i + q];
              expected_dx[row * i + q] += w[at] * dy[row * o + p];
              expected_dw[at] += dy[row * o + p] * x[row * i + q];
            }
          }
        }
      }
      Array<float> y({r, o}), dx({r, i}), dw({groups, o, i});  // NaN
      std::vector<uint8_t> has_grad(groups, 0);
      GroupedGemmForward(stream, offsets, x.As(variant), w.half, y);
      GroupedGemmInputGrad(stream, offsets, dy.As(variant), w.half, dx);
      GroupedGemmWeightGrad(stream, offsets, dy.half, x.As(variant), dw, has_grad);
      ExpectNear(y, expected_y, 0, Tolerance(i));
      ExpectNear(dx, expected_dx, 0, Tolerance(o));
      for (int64_t e = 0; e < groups; ++e) {
        EXPECT_EQ(has_grad[e], rows[e] > 0);
        for (int64_t at = e * o * i; at < (e + 1) * o * i; ++at) {
          if (rows[e] == 0) {
            ASSERT_TRUE(std::isnan(dw[at])) << "group " << e << " has no rows and was touched";
          } else {
            ASSERT_NEAR(dw[at], expected_dw[at], Tolerance(rows[e]));
          }
        }
      }
    }
  }
}

// Slots at once are the numbers of one after the other, bit for bit, however rows are cut into slots of it.
TEST_F(Bf16OperandsTest, WeightGradientOfSlotsIsThatOfEachInTurn) {
  const std::vector<std::vector<int64_t>> slots = {{0, 40, 40, 75}, {75, 75, 80, 113}, {113, 114, 200, 200}};
  const Both dy(random, {200, 48}), x(random, {200, 40});
  Array<float> at_once({3, 48, 40}), in_turn = at_once;
  std::vector<uint8_t> has_grad(3, 0), expected_has_grad(3, 0);
  for (const std::vector<int64_t>& slot : slots) {
    std::vector<int64_t> own;
    for (const int64_t offset : slot) own.push_back(offset - slot.front());
    GroupedGemmWeightGrad(stream, own, dy.half.Rows(slot.front(), own.back()),
                          x.half.Rows(slot.front(), own.back()), in_turn, expected_has_grad);
  }
  const std::vector<GroupOffsets> all(slots.begin(), slots.end());
  stream.profile.Reset();
  GroupedGemmWeightGradOfSlots(stream, all, dy.half, x.half, at_once, has_grad);
  EXPECT_TRUE(at_once.BitEquals(in_turn));
  EXPECT_EQ(has_grad, expected_has_grad);
  stream.ExpectOneCall(Op::kGroupedGemm, 3 * 48 * 40 * 4.0 + 200 * (48 + 40) * 2.0);
}

TEST_F(Bf16OperandsTest, SwigluRoundsWhatOnlyProductsRead) {
  const auto gate_up = RandomArray<float>(random, {7, 2 * 33}, -4, 4);
  const auto dactivation = RandomArray<float>(random, {7, 33});
  Array<float> activation({7, 33}), again({7, 33}), dgate_up({7, 2 * 33});
  SwigluForward(stream, gate_up, activation);
  SwigluBackward(stream, gate_up, dactivation, dgate_up, again);
  std::vector<uint16_t> bits(7 * 33, 0x7fc0), bits_again = bits, dbits(7 * 66, 0x7fc0);
  SwigluForward(stream, gate_up, Tensor(bits.data(), DType::kBF16, {7, 33}));
  SwigluBackward(stream, gate_up, dactivation, Tensor(dbits.data(), DType::kBF16, {7, 66}),
                 Tensor(bits_again.data(), DType::kBF16, {7, 33}));
  for (int64_t i = 0; i < 7 * 33; ++i) EXPECT_EQ(bits[i], RoundToBf16(activation[i])) << i;
  for (int64_t i = 0; i < 7 * 33; ++i) EXPECT_EQ(bits_again[i], RoundToBf16(again[i])) << i;
  for (int64_t i = 0; i < 7 * 66; ++i) EXPECT_EQ(dbits[i], RoundToBf16(dgate_up[i])) << i;
}

TEST(Bf16OperandsDeathTest, OtherTypesAndFactorsAreRefused) {
  std::mt19937_64 random(1);
  TestStream stream;
  const Both a(random, {4, 4});
  Array<float> c({4, 4}, 0.0f);
  EXPECT_DEATH(Gemm(stream, Trans::kNo, a.half, Trans::kNo, a.exact, 0.5f, c),
               "BF16 on the CPU with beta 0.5");
  EXPECT_DEATH(Gemm(stream, Trans::kNo, a.half, Trans::kNo, a.half, 0, a.half), "BF16 BF16 BF16");
  const Array<double> wide({4, 4}, 1.0);
  EXPECT_DEATH(Gemm(stream, Trans::kNo, wide, Trans::kNo, wide, 0, c, DType::kBF16), "F64 F64 F32");
}

}  // namespace
}  // namespace unipool
