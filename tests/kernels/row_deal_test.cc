// Each copy of an expert gets a run of its rows, of the size that its share says.
#include "kernels/row_deal.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/fresh_seed.h"

namespace unipool {
namespace {

struct Dealt {
  std::vector<int32_t> row_of, token_of, rows_of_place;
};

Tensor Numbers(std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
  return Tensor(values.data(), DType::kI32, shape);
}

// copies[e]: (place, units) of each copy.
using Copies = std::vector<std::vector<std::pair<int, int>>>;

Dealt Deal(std::vector<int32_t> experts, std::vector<float> weights, int top_k, const Copies& copies,
           int num_places, int64_t turn) {
  MemoryMeter memory;
  Stream stream(memory);
  const auto choices = static_cast<int64_t>(experts.size()), tokens = choices / top_k,
             m = static_cast<int64_t>(copies.size());
  std::vector<int32_t> index(m), rows_of_expert(m), first_copy{0}, place, end;
  Dealt dealt{std::vector<int32_t>(choices, -2), std::vector<int32_t>(choices, -2),
              std::vector<int32_t>(num_places, -2)};
  for (int64_t e = 0; e < m; ++e) {
    index[e] = static_cast<int32_t>(e);
    int32_t units = 0;
    for (const auto& [at, share] : copies[e]) {
      place.push_back(at);
      end.push_back(units += share);
    }
    first_copy.push_back(static_cast<int32_t>(place.size()));
  }
  const RowOrder order{.row_of = Numbers(dealt.row_of, {tokens, top_k}),
                       .token_of = Numbers(dealt.token_of, {choices}),
                       .rows_of_expert = Numbers(rows_of_expert, {m})};
  OrderRows(stream, Numbers(experts, {tokens, top_k}), Tensor(weights.data(), DType::kF32, {tokens, top_k}),
            Numbers(index, {m}), order);
  const auto c = static_cast<int64_t>(place.size());
  DealRows(
      stream,
      {.first_copy = Numbers(first_copy, {m + 1}), .place = Numbers(place, {c}), .end = Numbers(end, {c})},
      Numbers(experts, {tokens, top_k}), turn, order, Numbers(dealt.rows_of_place, {num_places}));
  return dealt;
}

TEST(DealRows, ByHand) {
  // Expert 0 has places 3 and 0 with half of its 5 rows each, and expert 1 has place 1. Place 2 is empty.
  const Dealt dealt = Deal({0, 1, 0, 0, 1, 0, 0}, std::vector<float>(7, 1), 1,
                           {{{3, 128}, {0, 128}}, {{1, 256}}}, 4, /*turn=*/0);
  EXPECT_EQ(dealt.rows_of_place, (std::vector<int32_t>{3, 2, 0, 2}));
  EXPECT_EQ(dealt.row_of, (std::vector<int32_t>{5, 3, 6, 0, 4, 1, 2}));
  EXPECT_EQ(dealt.token_of, (std::vector<int32_t>{3, 5, 6, 1, 4, 0, 2}));
}

TEST(DealRows, FewRowsAreRoundedInTurns) {
  // One row in a turn, a quarter of it for the second copy.
  int second = 0;
  for (int turn = 0; turn < kDealUnits; ++turn)
    second += Deal({0}, {1}, 1, {{{0, 192}, {1, 64}}}, 2, turn).rows_of_place[1];
  EXPECT_EQ(second, kDealUnits / 4);
}

TEST(DealRows, EveryRowHasItsPlace) {
  std::mt19937_64 random(FreshSeed());
  const ::testing::ScopedTrace trace(__FILE__, __LINE__, SeedText());
  for (int round = 0; round < 200; ++round) {
    const int experts = 1 + random() % 9, top_k = 1 + random() % 3, tokens = random() % 40, places = 20;
    std::vector<int> free(places);
    for (int i = 0; i < places; ++i) free[i] = i;
    std::shuffle(free.begin(), free.end(), random);
    Copies copies(experts);
    for (int e = 0; e < experts; ++e) {
      int left = kDealUnits;
      for (int i = random() % 2 + (e == 0 ? 2 : 0); i-- > 0;) {
        const int units = static_cast<int>(random() % (left + 1));
        copies[e].emplace_back(free.back(), units);
        free.pop_back();
        left -= units;
      }
      copies[e].emplace_back(free.back(), left);
      free.pop_back();
    }
    std::vector<int32_t> chosen(tokens * top_k);
    std::vector<float> weights(chosen.size());
    for (size_t i = 0; i < chosen.size(); ++i) {
      chosen[i] = static_cast<int32_t>(random() % experts);
      weights[i] = random() % 4 ? 1.0f : 0.0f;
    }
    const int64_t turn = random() % 1000;
    const Dealt dealt = Deal(chosen, weights, top_k, copies, places, turn);
    std::vector<int> begin(places + 1);
    for (int p = 0; p < places; ++p) begin[p + 1] = begin[p] + dealt.rows_of_place[p];
    for (int e = 0; e < experts; ++e) {
      std::vector<int> rows;  // of the expert's choices, in order
      for (size_t i = 0; i < chosen.size(); ++i) {
        if (chosen[i] == e && weights[i] != 0) rows.push_back(dealt.row_of[i]);
      }
      std::vector<int> expected;
      const double n = static_cast<double>(rows.size());
      for (const auto& [place, units] : copies[e]) {
        EXPECT_NEAR(dealt.rows_of_place[place], n * units / kDealUnits, 1);
        for (int row = begin[place]; row < begin[place + 1]; ++row) expected.push_back(row);
      }
      EXPECT_EQ(rows, expected);
    }
    for (size_t i = 0; i < chosen.size(); ++i) {
      ASSERT_EQ(dealt.row_of[i] < 0, weights[i] == 0);
      if (weights[i] == 0) continue;
      EXPECT_EQ(dealt.token_of[dealt.row_of[i]], static_cast<int32_t>(i / top_k));
    }
  }
}

}  // namespace
}  // namespace unipool
