// The descriptions are interpreted as a column-major BLAS documents them, with a plain triple loop over exact
// small integers, and compared with the row-major definition: all small sizes, all transposes, all ways to
// spread rows over experts.
#include "kernels/cuda/blas_products.h"

#include <gtest/gtest.h>

#include <cmath>

namespace unipool {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// As BLAS: beta 0 overwrites. Matrices are exactly as large as they may be read; a step outside throws.
void Interpret(const BlasProduct& p, const std::vector<float>& first, int64_t first_begin,
               const std::vector<float>& second, int64_t second_begin, std::vector<float>& third,
               int64_t third_begin) {
  const bool tf = p.trans_first == Trans::kYes, ts = p.trans_second == Trans::kYes;
  ASSERT_GE(p.ld_first, std::max<int64_t>(1, tf ? p.k : p.m));
  ASSERT_GE(p.ld_second, std::max<int64_t>(1, ts ? p.n : p.k));
  ASSERT_GE(p.ld_third, std::max<int64_t>(1, p.m));
  for (int64_t column = 0; column < p.n; ++column) {
    for (int64_t row = 0; row < p.m; ++row) {
      float& result = third.at(third_begin + column * p.ld_third + row);
      float sum = p.beta == 0 ? 0 : p.beta * result;
      for (int64_t l = 0; l < p.k; ++l) {
        sum += first.at(first_begin + (tf ? row * p.ld_first + l : l * p.ld_first + row)) *
               second.at(second_begin + (ts ? l * p.ld_second + column : column * p.ld_second + l));
      }
      result = sum;
    }
  }
}

std::vector<float> Numbered(int64_t size, int step) {
  std::vector<float> values(size);
  for (int64_t i = 0; i < size; ++i) values[i] = static_cast<float>((i * step + 1) % 23 - 11);
  return values;
}

TEST(BlasProduct, EqualsTheRowMajorDefinition) {
  int64_t compared = 0;
  for (int code = 0; code < 5 * 5 * 5 * 8; ++code) {
    const int64_t m = code % 5, n = code / 5 % 5, k = code / 25 % 5;
    const bool ta = code / 125 & 1, tb = code / 125 & 2;
    const float beta = code / 125 & 4 ? 2 : 0;
    const auto a = Numbered(m * k, 3), b = Numbered(k * n, 5);
    auto c = beta == 0 ? std::vector<float>(m * n, kNan) : Numbered(m * n, 7);
    auto expected = c;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        float sum = beta == 0 ? 0 : beta * c[i * n + j];
        for (int64_t l = 0; l < k; ++l) sum += a[ta ? l * m + i : i * k + l] * b[tb ? j * k + l : l * n + j];
        expected[i * n + j] = sum;
      }
    }
    const BlasProduct product =
        AsBlasProduct(ta ? Trans::kYes : Trans::kNo, tb ? Trans::kYes : Trans::kNo, {m, n, k}, beta);
    Interpret(product, b, 0, a, 0, c, 0);
    ASSERT_EQ(c, expected) << m << " " << n << " " << k << ", variant " << code / 125;
    compared += m * n;
  }
  EXPECT_EQ(compared, 10 * 10 * 5 * 8);
}

// Every way to give each of 3 experts 0, 1 or 3 rows, every has_grad, several matrices.
struct Groups {
  std::vector<int64_t> offsets{0};
  std::vector<uint8_t> has_grad;
  int64_t outer, inner, nonempty = 0;
  int64_t rows() const { return offsets.back(); }
  int64_t rows(int64_t e) const { return offsets[e + 1] - offsets[e]; }
};
constexpr int64_t kExperts = 3;

template <class Body>
void ForAllGroups(Body body) {
  constexpr int64_t kRows[] = {0, 1, 3};
  constexpr int64_t kMatrices[][2] = {{1, 1}, {2, 3}, {3, 2}, {4, 1}, {1, 5}};
  for (const auto& [outer, inner] : kMatrices) {
    for (int code = 0; code < 27 * 8; ++code) {
      Groups groups{.outer = outer, .inner = inner};
      for (int64_t e = 0, left = code % 27; e < kExperts; ++e, left /= 3) {
        groups.offsets.push_back(groups.offsets.back() + kRows[left % 3]);
        groups.has_grad.push_back(code / 27 >> e & 1);
        groups.nonempty += left % 3 != 0;
      }
      body(groups);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

void InterpretAll(const GroupedBlasProducts& products, const std::vector<float>& first,
                  const std::vector<float>& second, std::vector<float>& third) {
  ASSERT_EQ(static_cast<int64_t>(products.group_size.size()), products.count());
  for (int64_t i = 0; i < products.count(); ++i) {
    ASSERT_EQ(products.group_size[i], 1);
    ASSERT_EQ(products.alpha[i], 1);
    Interpret(products.product(i), first, products.first_begin[i], second, products.second_begin[i], third,
              products.third_begin[i]);
  }
}

TEST(GroupedBlasProducts, ForwardAndInputGradientEqualTheDefinition) {
  GroupedBlasProducts products;  // one for all, as its users keep it
  ForAllGroups([&](const Groups& g) {
    const int64_t o = g.outer, i = g.inner;
    const auto w = Numbered(kExperts * o * i, 3), x = Numbered(g.rows() * i, 5),
               dy = Numbered(g.rows() * o, 7);
    std::vector<float> expected_y(g.rows() * o, 0), expected_dx(g.rows() * i, 0);
    for (int64_t e = 0; e < kExperts; ++e) {
      for (int64_t row = g.offsets[e]; row < g.offsets[e + 1]; ++row) {
        for (int64_t at = 0; at < o * i; ++at) {
          expected_y[row * o + at / i] += w[e * o * i + at] * x[row * i + at % i];
          expected_dx[row * i + at % i] += w[e * o * i + at] * dy[row * o + at / i];
        }
      }
    }
    std::vector<float> y(g.rows() * o, kNan), dx(g.rows() * i, kNan);
    products.SetForward(g.offsets, o, i);
    ASSERT_EQ(products.count(), g.nonempty);
    InterpretAll(products, w, x, y);
    ASSERT_EQ(y, expected_y);
    products.SetInputGrad(g.offsets, o, i);
    ASSERT_EQ(products.count(), g.nonempty);
    InterpretAll(products, w, dy, dx);
    ASSERT_EQ(dx, expected_dx);
  });
}

TEST(GroupedBlasProducts, WeightGradientOverwritesAddsAndLeavesAlone) {
  GroupedBlasProducts products;
  ForAllGroups([&](const Groups& g) {
    const int64_t o = g.outer, i = g.inner;
    const auto x = Numbered(g.rows() * i, 5), dy = Numbered(g.rows() * o, 7);
    auto dw = Numbered(kExperts * o * i, 3);
    for (int64_t e = 0; e < kExperts; ++e) {
      if (!g.has_grad[e]) std::fill_n(dw.begin() + e * o * i, o * i, kNan);
    }
    auto expected = dw;
    auto expected_flags = g.has_grad;
    for (int64_t e = 0; e < kExperts; ++e) {
      if (g.rows(e) == 0) continue;
      expected_flags[e] = 1;
      for (int64_t at = 0; at < o * i; ++at) {
        float& result = expected[e * o * i + at];
        if (!g.has_grad[e]) result = 0;
        for (int64_t row = g.offsets[e]; row < g.offsets[e + 1]; ++row) {
          result += dy[row * o + at / i] * x[row * i + at % i];
        }
      }
    }
    auto has_grad = g.has_grad;
    products.SetWeightGrad(g.offsets, o, i, has_grad);
    ASSERT_EQ(products.count(), g.nonempty);
    InterpretAll(products, x, dy, dw);
    ASSERT_EQ(has_grad, expected_flags);
    for (size_t at = 0; at < dw.size(); ++at) {
      if (std::isnan(expected[at])) {
        ASSERT_TRUE(std::isnan(dw[at])) << "an expert without rows was touched";
      } else {
        ASSERT_EQ(dw[at], expected[at]);
      }
    }
  });
}

// Offsets of the same groups behind rows of others: the row arrays are read further behind, nothing else
// changes.
TEST(GroupedBlasProducts, WeightGradientReadsRowsThatBeginBehindOthers) {
  constexpr int64_t kSkipped = 5;
  GroupedBlasProducts products, behind;
  ForAllGroups([&](const Groups& g) {
    const int64_t o = g.outer, i = g.inner;
    auto offsets = g.offsets;
    for (int64_t& offset : offsets) offset += kSkipped;
    const auto x = Numbered(g.rows() * i, 5), dy = Numbered(g.rows() * o, 7);
    std::vector<float> x_behind(kSkipped * i, kNan), dy_behind(kSkipped * o, kNan);
    x_behind.insert(x_behind.end(), x.begin(), x.end());
    dy_behind.insert(dy_behind.end(), dy.begin(), dy.end());
    auto expected = Numbered(kExperts * o * i, 3), dw = expected;
    auto expected_flags = g.has_grad, has_grad = g.has_grad;
    products.SetWeightGrad(g.offsets, o, i, expected_flags);
    behind.SetWeightGrad(offsets, o, i, has_grad);
    InterpretAll(products, x, dy, expected);
    InterpretAll(behind, x_behind, dy_behind, dw);
    ASSERT_EQ(dw, expected);
    ASSERT_EQ(has_grad, expected_flags);
  });
}

}  // namespace
}  // namespace unipool
