// Every property of the slot table for all S <= 6, B <= 8 and layer counts up to 3 per stage (2 for S > 4).
#include "parallel/slot_schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <tuple>

namespace unipool {
namespace {

using WorkKey = std::tuple<int, int, int>;  // stage, microbatch, layer

int NumberOf(const SlotSchedule& schedule, SlotId slot) {
  return slot.time * schedule.slots_per_time() + slot.index;
}

void ForEachSchedule(bool forward_only, const std::function<void(const SlotSchedule&)>& check) {
  for (int num_stages = 1; num_stages <= 6; ++num_stages) {
    const int most_layers = num_stages <= 4 ? 3 : 2;
    std::vector<int> layers(num_stages, 1);
    for (bool more = true; more;) {
      for (int num_microbatches = 1; num_microbatches <= 8; ++num_microbatches) {
        check(SlotSchedule(layers, num_microbatches, forward_only));
        if (::testing::Test::HasFailure()) return;
      }
      more = false;
      for (int& count : layers) {  // the next tuple of layer counts
        if (++count <= most_layers) {
          more = true;
          break;
        }
        count = 1;
      }
    }
  }
}

// All work of a lane by walking the table; each item must be at SlotOf and nowhere else.
std::map<WorkKey, SlotId> Walk(const SlotSchedule& schedule, Lane lane) {
  std::map<WorkKey, SlotId> slots;
  for (int time = 0; time < schedule.num_times(); ++time) {
    for (int index = 0; index < schedule.slots_per_time(); ++index) {
      const SlotId slot{.time = time, .index = index};
      bool any = false;
      for (int stage = 0; stage < schedule.num_stages(); ++stage) {
        const LaneWork work = schedule.Work(lane, stage, slot);
        if (work.idle()) continue;
        any = true;
        EXPECT_TRUE(slots.emplace(WorkKey{stage, work.microbatch, work.layer}, slot).second) << "done twice";
        EXPECT_EQ(schedule.Microbatch(lane, stage, time), work.microbatch);
        const SlotId expected = schedule.SlotOf(lane, stage, work);
        EXPECT_EQ(NumberOf(schedule, expected), NumberOf(schedule, slot));
      }
      EXPECT_EQ(schedule.AnyWork(lane, slot), any);
    }
  }
  return slots;
}

void ExpectComplete(const SlotSchedule& schedule, const std::map<WorkKey, SlotId>& slots) {
  int total = 0;
  for (int stage = 0; stage < schedule.num_stages(); ++stage) {
    for (int microbatch = 0; microbatch < schedule.num_microbatches(); ++microbatch) {
      for (int layer = 0; layer < schedule.num_layers(stage); ++layer, ++total) {
        EXPECT_TRUE(slots.contains({stage, microbatch, layer})) << stage << " " << microbatch << " " << layer;
      }
    }
  }
  EXPECT_EQ(slots.size(), static_cast<size_t>(total)) << "work that no layer has";
}

TEST(SlotSchedule, EveryLayerOnceForwardAndOnceBackward) {
  int num_schedules = 0;
  ForEachSchedule(false, [&](const SlotSchedule& schedule) {
    ++num_schedules;
    EXPECT_EQ(schedule.num_times(), schedule.num_microbatches() + 2 * schedule.num_stages() - 1);
    ExpectComplete(schedule, Walk(schedule, Lane::kForward));
    ExpectComplete(schedule, Walk(schedule, Lane::kBackward));
  });
  EXPECT_EQ(num_schedules, 8 * (3 + 9 + 27 + 81 + 32 + 64));
}

TEST(SlotSchedule, DependenciesAreKept) {
  ForEachSchedule(false, [](const SlotSchedule& schedule) {
    const auto forward = Walk(schedule, Lane::kForward), backward = Walk(schedule, Lane::kBackward);
    for (const auto& [key, slot] : forward) {
      const auto [stage, microbatch, layer] = key;
      const SlotId back = backward.at(key);
      // Inside a slot the forward lane's layer is only begun, so its backward needs a later slot.
      EXPECT_LT(NumberOf(schedule, slot), NumberOf(schedule, back));
      if (layer > 0) {
        EXPECT_LT(NumberOf(schedule, forward.at({stage, microbatch, layer - 1})), NumberOf(schedule, slot));
        EXPECT_LT(NumberOf(schedule, back), NumberOf(schedule, backward.at({stage, microbatch, layer - 1})));
      }
      if (microbatch > 0) {
        EXPECT_LT(forward.at({stage, microbatch - 1, layer}).time, slot.time);
        EXPECT_LT(backward.at({stage, microbatch - 1, layer}).time, back.time);
      }
      if (stage > 0) {  // boundaries are crossed between time steps, and at once
        EXPECT_EQ(forward.at({stage - 1, microbatch, 0}).time + 1, slot.time);
        EXPECT_EQ(back.time + 1, backward.at({stage - 1, microbatch, 0}).time);
      }
    }
    // The last stage's head and loss run between the two.
    const int last = schedule.num_stages() - 1;
    for (int microbatch = 0; microbatch < schedule.num_microbatches(); ++microbatch) {
      EXPECT_EQ(forward.at({last, microbatch, 0}).time + 1, backward.at({last, microbatch, 0}).time);
    }
  });
}

// Every part of every head once and in order, after the microbatch's last layer, before its backward and
// before the next microbatch leaves the last layer; with one part only where the last stage lacks no layer.
void CheckHead(const SlotSchedule& schedule) {
  const int last = schedule.num_stages() - 1, n = schedule.slots_per_time(),
            top = schedule.num_layers(last) - 1;
  const int parts = schedule.num_head_parts(), missing = n - schedule.num_layers(last);
  EXPECT_EQ(parts, missing == 0 ? 1 : (schedule.forward_only() ? 1 : 3) * missing);
  std::vector<int> next_part(schedule.num_microbatches(), 0);
  for (int time = 0; time < schedule.num_times(); ++time) {
    for (int index = 0; index <= n; ++index) {
      for (const Lane lane : {Lane::kForward, Lane::kBackward}) {
        const SlotId slot{.time = time, .index = index};
        const HeadWork head = schedule.Head(lane, slot);
        if (head.idle()) continue;
        EXPECT_EQ(head.begin, next_part[head.microbatch]);
        EXPECT_EQ(head.end - head.begin, lane == Lane::kForward ? 1 : 2);
        next_part[head.microbatch] = head.end;
        const LaneWork work{.microbatch = head.microbatch, .layer = top};
        const SlotId layer = schedule.SlotOf(Lane::kForward, last, work);
        EXPECT_LT(NumberOf(schedule, layer), NumberOf(schedule, slot));
        // The next microbatch's last layer is combined at the begin of the slot after it (or of the end).
        EXPECT_LE(NumberOf(schedule, slot), NumberOf(schedule, layer) + n);
        EXPECT_EQ(index == n, missing == 0);
        if (index == n) continue;
        EXPECT_TRUE(schedule.Work(lane, last, slot).idle()) << "in the place of a layer that is there";
        if (schedule.forward_only()) continue;
        EXPECT_LT(NumberOf(schedule, slot), NumberOf(schedule, schedule.SlotOf(Lane::kBackward, last, work)));
      }
    }
  }
  for (const int begun : next_part) EXPECT_EQ(begun, parts);
}

TEST(SlotSchedule, HeadRunsOnceInItsPlace) {
  ForEachSchedule(false, CheckHead);
  ForEachSchedule(true, CheckHead);
  for (int first = 1; first <= 9; ++first) CheckHead(SlotSchedule({first, 1}, 3));
}

// Every microbatch once, at the end of the time step in which the last stage has its forward, and so before
// its backward begins there. No stage has a head of its own then; with one stage it has.
TEST(SlotSchedule, SpreadHeadComesWithTheEndOfItsForward) {
  for (const bool forward_only : {false, true}) {
    ForEachSchedule(forward_only, [&](const SlotSchedule& plain) {
      EXPECT_EQ(plain.head_place(), HeadPlace::kLastStage);
      const SlotSchedule schedule(plain.layers_per_stage(), plain.num_microbatches(), forward_only,
                                  HeadPlace::kSpread);
      const int last = schedule.num_stages() - 1;
      std::vector<int> seen;
      for (int time = 0; time < schedule.num_times(); ++time) {
        EXPECT_EQ(plain.SpreadHead(time), -1);
        for (int index = 0; index <= schedule.slots_per_time() && last > 0; ++index) {
          EXPECT_TRUE(schedule.Head(Lane::kForward, {time, index}).idle());
          EXPECT_TRUE(schedule.Head(Lane::kBackward, {time, index}).idle());
        }
        const int microbatch = schedule.SpreadHead(time);
        if (microbatch < 0) continue;
        seen.push_back(microbatch);
        EXPECT_EQ(schedule.Microbatch(Lane::kForward, last, time), microbatch);
        if (forward_only) continue;
        EXPECT_EQ(schedule.Microbatch(Lane::kBackward, last, time + 1), microbatch);
      }
      if (last == 0) {
        EXPECT_EQ(schedule.head_place(), HeadPlace::kLastStage);
        EXPECT_TRUE(seen.empty());
        CheckHead(schedule);
        return;
      }
      std::vector<int> all(schedule.num_microbatches());
      std::iota(all.begin(), all.end(), 0);
      EXPECT_EQ(seen, all);
    });
  }
}

TEST(SlotSchedule, MicrobatchesInFlightAsStated) {
  ForEachSchedule(false, [](const SlotSchedule& schedule) {
    for (int stage = 0; stage < schedule.num_stages(); ++stage) {
      int most = 0;
      for (int time = 0; time < schedule.num_times(); ++time) {
        int in_flight = 0;  // forward begun in this time step or before, backward not ended before it
        for (int microbatch = 0; microbatch < schedule.num_microbatches(); ++microbatch) {
          const LaneWork work{.microbatch = microbatch, .layer = 0};
          in_flight += schedule.SlotOf(Lane::kForward, stage, work).time <= time &&
                       schedule.SlotOf(Lane::kBackward, stage, work).time >= time;
        }
        most = std::max(most, in_flight);
      }
      EXPECT_EQ(schedule.MaxInFlight(stage), most);
      EXPECT_LE(most, 2 * (schedule.num_stages() - stage));
    }
  });
}

// With dense forward time a and expert forward time e of a layer, backward twice that: the dense work that
// ranks do side by side, and the experts that all ranks do together, give the step time of
// parallel/SCHEDULE.md, "Why bubbles become expert time".
TEST(SlotSchedule, BubbleFormulaAsStated) {
  ForEachSchedule(false, [](const SlotSchedule& schedule) {
    int even = schedule.num_layers(0);
    for (int stage = 0; stage < schedule.num_stages(); ++stage) {
      if (schedule.num_layers(stage) != even) return;  // the formula is for stages of equal depth
    }
    const int num_stages = schedule.num_stages(), n = schedule.slots_per_time();
    int dense = 0, expert_slots = 0;  // in units of a, and of e / S (a slot's share of one stage's rows)
    for (int time = 0; time < schedule.num_times(); ++time) {
      for (int index = 0; index < n; ++index) {
        const SlotId slot{.time = time, .index = index};
        dense += schedule.AnyWork(Lane::kForward, slot) + 2 * schedule.AnyWork(Lane::kBackward, slot);
        for (int stage = 0; stage < num_stages; ++stage) {
          expert_slots += !schedule.Work(Lane::kForward, stage, slot).idle() +
                          2 * !schedule.Work(Lane::kBackward, stage, slot).idle();
        }
      }
    }
    EXPECT_EQ(dense, (schedule.num_microbatches() + num_stages - 1) * n * 3);
    EXPECT_EQ(expert_slots, schedule.num_microbatches() * n * 3 * num_stages);
  });
}

TEST(SlotSchedule, ForwardOnlyHasNoBackwardLane) {
  ForEachSchedule(true, [](const SlotSchedule& schedule) {
    EXPECT_EQ(schedule.num_times(), schedule.num_microbatches() + schedule.num_stages() - 1);
    const auto forward = Walk(schedule, Lane::kForward);
    ExpectComplete(schedule, forward);
    EXPECT_TRUE(Walk(schedule, Lane::kBackward).empty());
    for (const auto& [key, slot] : forward) {
      const auto [stage, microbatch, layer] = key;
      if (stage > 0) {
        EXPECT_EQ(forward.at({stage - 1, microbatch, 0}).time + 1, slot.time);
      }
      if (layer > 0) {
        EXPECT_EQ(forward.at({stage, microbatch, layer - 1}).index + 1, slot.index);
      }
      EXPECT_EQ(schedule.MaxInFlight(stage), 1);
    }
  });
}

TEST(SlotScheduleDeathTest, RefusesStagesWithoutLayers) {
  EXPECT_DEATH(SlotSchedule({2, 0}, 1), "every stage needs a layer");
  EXPECT_DEATH(SlotSchedule({2}, 0), "");
}

}  // namespace
}  // namespace unipool
