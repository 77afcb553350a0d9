// The worked example of parallel/DISPATCH.md is what the code does.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "parallel/slot_schedule.h"
#include "runtime/errors.h"
#include "tests/parallel/planned_rows.h"

namespace unipool {
namespace {

void ExpectInDocument(const std::string& text) {
  std::ifstream file(UNIPOOL_SOURCE_DIR "/parallel/DISPATCH.md");
  std::stringstream document;
  document << file.rdbuf();
  EXPECT_NE(document.str().find(text), std::string::npos) << "the document should say " << text;
}

template <class Numbers>
std::string Spaced(const Numbers& numbers) {
  std::string text;
  for (const auto number : numbers) text += (text.empty() ? "" : " ") + std::to_string(number);
  return text;
}

TEST(DispatchDocument, CountsAndOrders) {
  const ExpertPlacement placement = ContiguousPlacement(4, 2);
  SendPlan plans[2];
  const PlannedRows of_rank0 = PlanRows({0, 2, 2, 1}, {1, 1, 1, 0}, 2, placement, plans[0]);
  const PlannedRows of_rank1 = PlanRows({3, 0, 2, 3}, {1, 1, 1, 1}, 2, placement, plans[1]);
  EXPECT_EQ(of_rank0.row_of, (std::vector<int32_t>{0, 1, 2, -1}));
  EXPECT_EQ(of_rank1.row_of, (std::vector<int32_t>{2, 0, 1, 3}));
  EXPECT_EQ(of_rank1.token_of, (std::vector<int32_t>{0, 1, 0, 1}));
  OwnerPlan owner(2, 2);  // rank 1
  for (int rank = 0; rank < 2; ++rank) {
    ExpectInDocument(Format("rank %d: rows_of_expert %s, rank_offsets %s", rank,
                            Spaced(plans[rank].rows_of_expert).c_str(),
                            Spaced(plans[rank].rank_offsets).c_str()));
    const int32_t* counts = plans[rank].rows_of_expert.data();
    const int other = 1 - rank;
    ExpectInDocument(Format("sends %d %d to rank %d", counts[2 * other], counts[2 * other + 1], other));
    for (int e = 0; e < 2; ++e) owner.rows[rank * 2 + e] = counts[placement.first_of(1) + e];
  }
  BuildOwnerPlan(owner);
  ExpectInDocument(Format("rank 1 as owner: rows [source, expert] %d %d, %d %d", owner.rows[0], owner.rows[1],
                          owner.rows[2], owner.rows[3]));
  ExpectInDocument("expert_offsets " + Spaced(owner.expert_offsets));
  ExpectInDocument(Format("R = %d", static_cast<int>(owner.num_rows)));
}

// Slot 3 is forward 1.1 of rank 0 and 0.1 of rank 1; their backwards are in slots 8 and 4, and in slot 8 rank
// 1 sends gradients of its forward in slot 7.
TEST(DispatchDocument, TheStashsSlots) {
  const SlotSchedule schedule({2, 2}, 3);
  const auto number = [&](Lane lane, int stage, LaneWork work) {
    const SlotId slot = schedule.SlotOf(lane, stage, work);
    return slot.time * schedule.slots_per_time() + slot.index;
  };
  EXPECT_EQ(number(Lane::kForward, 0, {.microbatch = 1, .layer = 1}), 3);
  EXPECT_EQ(number(Lane::kForward, 1, {.microbatch = 0, .layer = 1}), 3);
  EXPECT_EQ(number(Lane::kBackward, 0, {.microbatch = 1, .layer = 1}), 8);
  EXPECT_EQ(number(Lane::kBackward, 1, {.microbatch = 0, .layer = 1}), 4);
  EXPECT_EQ(number(Lane::kBackward, 1, {.microbatch = 2, .layer = 1}), 8);
  EXPECT_EQ(number(Lane::kForward, 1, {.microbatch = 2, .layer = 1}), 7);
}

}  // namespace
}  // namespace unipool
