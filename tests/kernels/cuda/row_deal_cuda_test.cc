#include <algorithm>
#include <numeric>

#include "kernels/row_deal.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaRowDeal = CudaTest;

// What nothing writes stays: -7 in every output. row_of and token_of come from an order by expert.
void CompareDeal(const ExpertShape& s, int64_t turn) {
  SCOPED_TRACE(testing::Message() << s << ", turn " << turn);
  CudaCase c({DType::kF32, false}, s.tokens + s.experts);
  const int64_t num_choices = s.tokens * s.top_k;
  std::vector<int64_t> chosen(num_choices);
  std::vector<double> experts, row_of(num_choices, -1), rows_of_expert(s.experts);
  for (int64_t& e : chosen) {
    e = s.spread == ExpertSpread::kAllToOne ? s.experts / 2 : static_cast<int64_t>(c.random()() % s.experts);
    if (s.spread == ExpertSpread::kSkewed && c.random()() % 2 == 0) e %= 3;
    e = std::min(e, s.experts - 1);
    experts.push_back(static_cast<double>(e));
  }
  double next = 0;
  for (int64_t e = 0; e < s.experts; ++e) {
    for (int64_t i = 0; i < num_choices; ++i) {
      if (chosen[i] != e || (i + turn) % 5 == 0) continue;  // a fifth is not sent
      row_of[i] = next++;
      ++rows_of_expert[e];
    }
  }
  // One to three copies of each expert, at places in any order among half as many empty ones.
  std::vector<double> first_copy{0}, end, place;
  for (int64_t e = 0; e < s.experts; ++e) {
    int64_t units = 0;
    for (uint64_t copies = c.random()() % 3; copies > 0; --copies)
      end.push_back(static_cast<double>(units += c.random()() % (kDealUnits - units + 1)));
    end.push_back(kDealUnits);
    first_copy.push_back(static_cast<double>(end.size()));
  }
  const auto num_copies = static_cast<int64_t>(end.size()), num_places = num_copies + s.experts / 2;
  place.resize(num_places);
  std::iota(place.begin(), place.end(), 0);
  std::shuffle(place.begin(), place.end(), c.random());
  place.resize(num_copies);
  const auto firsts = c.InValues("first_copy", {s.experts + 1}, first_copy, ArrayType::kI32);
  const auto places = c.InValues("place", {num_copies}, place, ArrayType::kI32);
  const auto ends = c.InValues("end", {num_copies}, end, ArrayType::kI32);
  const auto by_choice = c.InValues("experts", {s.tokens, s.top_k}, experts, ArrayType::kI32);
  const auto counts = c.InValues("rows_of_expert", {s.experts}, rows_of_expert, ArrayType::kI32);
  const auto rows = c.InOutValues("row_of", {s.tokens, s.top_k}, row_of, {}, ArrayType::kI32);
  const auto out = [&](const char* name, int64_t n) {
    return c.InOutValues(name, {n}, std::vector<double>(n, -7), {}, ArrayType::kI32);
  };
  const auto tokens = out("token_of", num_choices), of_place = out("rows_of_place", num_places);
  c.Run([&](Stream& stream, const CaseTensors& t) {
    DealRows(stream, {.first_copy = t[firsts], .place = t[places], .end = t[ends]}, t[by_choice], turn,
             {.row_of = t[rows], .token_of = t[tokens], .rows_of_expert = t[counts]}, t[of_place]);
  });
}

TEST_F(CudaRowDeal, EveryShape) {
  for (const ExpertShape& shape : ExpertShapes()) {
    for (const int64_t turn : {0, 1, 1000}) CompareDeal(shape, turn);
  }
}

}  // namespace
}  // namespace unipool
