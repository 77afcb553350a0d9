// The worked example of parallel/SCHEDULE.md, "Slots and lanes", is what the code does.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "parallel/slot_schedule.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

std::string Document() {
  std::ifstream file(UNIPOOL_SOURCE_DIR "/parallel/SCHEDULE.md");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// "F 2.1": the forward of microbatch 2 in the stage's layer 1; "-": idle.
std::string Cell(const SlotSchedule& schedule, Lane lane, int stage, SlotId slot) {
  const LaneWork work = schedule.Work(lane, stage, slot);
  if (work.idle()) return "-";
  return Format("%s %d.%d", lane == Lane::kForward ? "F" : "B", work.microbatch, work.layer);
}

TEST(ScheduleDocument, TheTableIsTheSchedule) {
  const SlotSchedule schedule({2, 2}, 3);
  std::string table = "    slot  time   rank 0            rank 1\n";
  for (int time = 0; time < schedule.num_times(); ++time) {
    for (int index = 0; index < schedule.slots_per_time(); ++index) {
      const SlotId slot{.time = time, .index = index};
      std::string row = Format("    %4d  %4d", time * schedule.slots_per_time() + index, time);
      for (int stage = 0; stage < 2; ++stage) {
        row += Format("   %-7s  %-6s", Cell(schedule, Lane::kForward, stage, slot).c_str(),
                      Cell(schedule, Lane::kBackward, stage, slot).c_str());
      }
      table += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
    }
  }
  EXPECT_NE(Document().find(table), std::string::npos) << "the document should say\n" << table;
}

// What the document says of slot 3, of the microbatches in flight and of the head.
TEST(ScheduleDocument, TheExampleIsTrue) {
  const SlotSchedule schedule({2, 2}, 3);
  EXPECT_EQ(schedule.MaxInFlight(0), 3);  // of 2 (S - s) = 4 at most, and of B = 3
  EXPECT_EQ(schedule.MaxInFlight(1), 2);
  EXPECT_FALSE(schedule.AnyWork(Lane::kBackward, {.time = 1, .index = 1}));
  const HeadWork head = schedule.Head(Lane::kForward, {.time = 1, .index = 2});
  EXPECT_EQ(head.microbatch, 0);
  EXPECT_EQ(head.end - head.begin, schedule.num_head_parts());
}

}  // namespace
}  // namespace unipool
