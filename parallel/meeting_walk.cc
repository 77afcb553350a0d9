#include "parallel/meeting_walk.h"

#include <algorithm>
#include <vector>

#include "runtime/range.h"

namespace unipool {
namespace {

// A backward takes twice its forward.
int ForwardsOf(const LaneWork& forward, const LaneWork& backward) {
  return !forward.idle() + 2 * !backward.idle();
}

double HeadTime(const SlotSchedule& schedule, const StageWork& work, const HeadWork& head) {
  if (head.idle()) return 0;
  const int parts = schedule.num_head_parts();
  const int64_t chunks = EvenPartition(work.head_chunks, parts, head.end - 1).end -
                         EvenPartition(work.head_chunks, parts, head.begin).begin;
  const double whole = (schedule.forward_only() ? 1 : 3) * work.head;
  return whole * static_cast<double>(chunks) / work.head_chunks;
}

// An even share of a spread head, of each stage.
double SpreadHeadTime(const SlotSchedule& schedule, const StageWork& work, int time) {
  if (schedule.SpreadHead(time) < 0) return 0;
  return (schedule.forward_only() ? 1 : 3) * work.head / schedule.num_stages();
}

// What stages do in slots; index n: after the slots.
class SlotWork {
 public:
  SlotWork(const SlotSchedule& schedule, const StageWork& work) : schedule_(schedule), work_(work) {}
  double Dense(int stage, SlotId slot) const {
    double time = work_.dense * Forwards(stage, slot);
    if (stage + 1 < schedule_.num_stages()) return time;
    for (const Lane lane : {Lane::kForward, Lane::kBackward}) {
      time += HeadTime(schedule_, work_, schedule_.Head(lane, slot));
    }
    return time;
  }
  double Experts(int stage, SlotId slot) const { return work_.expert * Forwards(stage, slot); }

 private:
  int Forwards(int stage, SlotId slot) const {
    if (slot.index == schedule_.slots_per_time()) return 0;
    return ForwardsOf(schedule_.Work(Lane::kForward, stage, slot),
                      schedule_.Work(Lane::kBackward, stage, slot));
  }
  const SlotSchedule& schedule_;
  const StageWork& work_;
};

}  // namespace

double WalkMeetings(const SlotSchedule& schedule, const StageWork& work, PoolSpan span) {
  const SlotWork walk(schedule, work);
  const int num_stages = schedule.num_stages();
  double step = 0;
  std::vector<double> of_stage(num_stages);
  for (int time = 0; time < schedule.num_times(); ++time) {
    std::fill(of_stage.begin(), of_stage.end(), 0);
    for (int index = 0; index <= schedule.slots_per_time(); ++index) {
      const SlotId slot{.time = time, .index = index};
      double slowest = 0, experts = 0;
      for (int stage = 0; stage < num_stages; ++stage) {
        const double dense = walk.Dense(stage, slot), expert = walk.Experts(stage, slot);
        slowest = std::max(slowest, dense);
        experts += expert / num_stages;
        of_stage[stage] += dense + expert;
      }
      if (span == PoolSpan::kReplica) step += slowest + experts;
    }
    step += SpreadHeadTime(schedule, work, time);
    if (span == PoolSpan::kStage) step += *std::max_element(of_stage.begin(), of_stage.end());
  }
  return step;
}

}  // namespace unipool
