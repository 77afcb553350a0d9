#include "kernels/row_order.h"

#include <algorithm>
#include <numeric>

#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

struct Shape {
  int64_t num_tokens, top_k, num_experts;
};
constexpr Shape kShapes[] = {{0, 2, 5}, {1, 1, 1}, {7, 3, 4}, {40, 1, 33}, {100, 8, 16}, {3, 2, 300}};

struct Choice {
  int64_t index;
  int32_t place;
};

// The sent choices by (place in the send order, token, k), by a sort of the standard library.
template <class T>
std::vector<Choice> SortedChoices(const Array<int32_t>& experts, const Array<T>& weights,
                                  const Array<int32_t>& send_index) {
  std::vector<Choice> choices;
  for (int64_t i = 0; i < experts.size(); ++i) {
    if (weights[i] != 0) choices.push_back({i, send_index[experts[i]]});
  }
  std::stable_sort(choices.begin(), choices.end(),
                   [](const Choice& a, const Choice& b) { return a.place < b.place; });
  return choices;
}

template <class T>
void CheckOrder(const Shape& s) {
  SCOPED_TRACE(testing::Message() << s.num_tokens << " x " << s.top_k << " of " << s.num_experts);
  std::mt19937_64 random(s.num_tokens + s.num_experts);
  TestStream stream;
  Array<int32_t> experts({s.num_tokens, s.top_k}), send_index({s.num_experts});
  Array<T> weights({s.num_tokens, s.top_k});
  std::vector<int32_t> places(s.num_experts);
  std::iota(places.begin(), places.end(), 0);
  std::shuffle(places.begin(), places.end(), random);
  for (int64_t i = 0; i < s.num_experts; ++i) send_index[i] = places[i];
  for (int64_t i = 0; i < experts.size(); ++i) {
    experts[i] = static_cast<int32_t>(UniformInt(random, s.num_experts));
    weights[i] = UniformInt(random, 4) == 0 ? T(0) : static_cast<T>(Uniform(random, -1, 1));
  }
  Array<int32_t> row_of({s.num_tokens, s.top_k}), token_of({s.num_tokens * s.top_k}),
      rows_of_expert({s.num_experts});
  OrderRows(stream, experts, weights, send_index,
            {.row_of = row_of, .token_of = token_of, .rows_of_expert = rows_of_expert});
  stream.ExpectOneCall(Op::kPermute, experts.size() * (3.0 * 4 + sizeof(T)) + 8.0 * s.num_experts);

  const std::vector<Choice> sorted = SortedChoices(experts, weights, send_index);
  const auto num_rows = static_cast<int64_t>(sorted.size());
  std::vector<int32_t> expected_row(experts.size(), -1), expected_rows(s.num_experts, 0);
  for (int64_t row = 0; row < num_rows; ++row) {
    expected_row[sorted[row].index] = static_cast<int32_t>(row);
    ++expected_rows[sorted[row].place];
    ASSERT_EQ(token_of[row], sorted[row].index / s.top_k) << row;
  }
  for (int64_t row = num_rows; row < token_of.size(); ++row) ASSERT_EQ(token_of[row], Poison<int32_t>());
  for (int64_t i = 0; i < row_of.size(); ++i) ASSERT_EQ(row_of[i], expected_row[i]) << i;
  for (int64_t i = 0; i < s.num_experts; ++i) ASSERT_EQ(rows_of_expert[i], expected_rows[i]) << i;
}

TEST(RowOrder, IsAStableSortOfWhatIsSent) {
  for (const Shape& shape : kShapes) {
    CheckOrder<float>(shape);
    CheckOrder<double>(shape);
  }
}

TEST(RowOrderDeathTest, ExpertOutOfRangeAndWrongShape) {
  TestStream stream;
  const Array<int32_t> row_of({2, 1}, 0), token_of({2}, 0), rows_of_expert({3}, 0), send_index({3}, 0);
  const Array<float> weights({2, 1}, 1), narrow({1, 1}, 1);
  const RowOrder order = {.row_of = row_of, .token_of = token_of, .rows_of_expert = rows_of_expert};
  for (const int32_t expert : {-1, 3}) {
    const Array<int32_t> experts({2, 1}, expert);
    EXPECT_DEATH(OrderRows(stream, experts, weights, send_index, order),
                 "expert " + std::to_string(expert) + " of 3");
  }
  const Array<int32_t> experts({2, 1}, 0), beyond({3}, 3);
  EXPECT_DEATH(OrderRows(stream, experts, weights, beyond, order), "at place 3 of 3");
  EXPECT_DEATH(OrderRows(stream, experts, narrow, send_index, order), "OrderRows weights is F32 \\[1, 1\\]");
}

}  // namespace
}  // namespace unipool
