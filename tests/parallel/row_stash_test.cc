// The stash walks whole schedules without any rank: what a source sent in a forward slot comes back in the
// backward slot of its gradients. Every number says where it comes from.
#include "parallel/row_stash.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace unipool {
namespace {

constexpr int kRowSize = 4, kKeptColumns = 2, kMostRows = 3;  // of a source and expert

// The rows that a source sends to a local expert in its microbatch and layer: 0 to kMostRows.
int RowsOf(int source, LaneWork work, int expert) {
  return (source * 5 + work.microbatch * 3 + work.layer * 7 + expert) % (kMostRows + 1);
}

class Walk {
 public:
  Walk(const std::vector<int>& layers, int num_microbatches, int data_ranks, int num_experts,
       bool forward_only = false)
      : schedule_(layers, num_microbatches, forward_only),
        stages_(Stages(schedule_.num_stages(), data_ranks)),
        num_experts_(num_experts),
        stash_({.stage_of_source = stages_,
                .num_experts = num_experts,
                .row_size = kRowSize,
                .kept_columns = kKeptColumns,
                .max_rows = int64_t{kMostRows} * num_experts * static_cast<int64_t>(stages_.size())},
               stream_, memory_),
        backward_plan_(static_cast<int>(stages_.size()), num_experts) {
    stash_.SetSchedule(schedule_);
  }

  void Run() {
    for (int time = 0; time < schedule_.num_times(); ++time) {
      for (int index = 0; index < schedule_.slots_per_time(); ++index) {
        const SlotId slot{.time = time, .index = index};
        if (schedule_.AnyWork(Lane::kForward, slot)) Forward(slot);
        if (schedule_.AnyWork(Lane::kBackward, slot)) Backward(slot);
      }
    }
  }

  const SlotSchedule& schedule() const { return schedule_; }
  RowStash& stash() { return stash_; }
  OwnerPlan& backward_plan() { return backward_plan_; }
  int64_t bytes() const { return memory_.current_bytes(MemoryKind::kActivations); }
  int64_t rows_back() const { return rows_back_; }
  int num_joined() const { return num_joined_; }  // backward slots with copies

  void Forward(SlotId slot) {
    OwnerPlan& plan = stash_.Begin(slot);
    FillRows(Lane::kForward, slot, plan.rows);
    BuildOwnerPlan(plan);
    const Tensor x = stash_.X(slot), kept = stash_.Kept(slot);
    ASSERT_EQ(kept.empty(), schedule_.forward_only());
    ForEachRow(Lane::kForward, slot, plan, [&](int64_t at, LaneWork work, int source, int expert, int row) {
      const float values[kRowSize] = {float(source), float(work.microbatch * 100 + work.layer), float(expert),
                                      float(row)};
      std::copy_n(values, kRowSize, x.as<float>() + at * kRowSize);
      if (kept.empty()) return;
      for (int c = 0; c < kKeptColumns; ++c) kept.as<float>()[at * kKeptColumns + c] = -values[c] - 1;
    });
  }

  void Backward(SlotId slot) {
    std::fill(backward_plan_.rows.begin(), backward_plan_.rows.end(), 99);
    stash_.FillRows(slot, backward_plan_);
    std::vector<int32_t> expected(backward_plan_.rows.size());
    FillRows(Lane::kBackward, slot, expected);
    ASSERT_EQ(backward_plan_.rows, expected) << "time " << slot.time << ", slot " << slot.index;
    BuildOwnerPlan(backward_plan_);
    const RowStash::Joined joined = stash_.Join(slot, backward_plan_);
    ASSERT_EQ(stash_.IsCopied(slot, backward_plan_), !IsAnEntry(slot, joined.x.data));
    if (num_experts_ > 1) {  // of two experts every source has rows
      ASSERT_EQ(stash_.IsCopied(slot, backward_plan_), schedule_.JoinsForwardSlots(slot))
          << "time " << slot.time << ", slot " << slot.index;
    }
    ASSERT_EQ(joined.x.rows(), backward_plan_.num_rows);
    ASSERT_EQ(joined.kept.rows(), backward_plan_.num_rows);
    num_joined_ += !IsAnEntry(slot, joined.x.data);
    ForEachRow(Lane::kBackward, slot, backward_plan_,
               [&](int64_t at, LaneWork work, int source, int expert, int row) {
                 const float values[kRowSize] = {float(source), float(work.microbatch * 100 + work.layer),
                                                 float(expert), float(row)};
                 ++rows_back_;
                 for (int c = 0; c < kRowSize; ++c)
                   ASSERT_EQ(joined.x.as<float>()[at * kRowSize + c], values[c]) << "column " << c;
                 for (int c = 0; c < kKeptColumns; ++c)
                   ASSERT_EQ(joined.kept.as<float>()[at * kKeptColumns + c], -values[c] - 1)
                       << "column " << c;
               });
  }

 private:
  static std::vector<int> Stages(int num_stages, int data_ranks) {
    std::vector<int> stages;
    for (int rank = 0; rank < num_stages * data_ranks; ++rank) stages.push_back(rank / data_ranks);
    return stages;
  }
  void FillRows(Lane lane, SlotId slot, std::vector<int32_t>& rows) const {
    for (size_t source = 0; source < stages_.size(); ++source) {
      const LaneWork work = schedule_.Work(lane, stages_[source], slot);
      for (int e = 0; e < num_experts_; ++e) {
        rows[source * num_experts_ + e] = work.idle() ? 0 : RowsOf(static_cast<int>(source), work, e);
      }
    }
  }
  template <class Body>
  void ForEachRow(Lane lane, SlotId slot, const OwnerPlan& plan, Body body) const {
    for (int source = 0; source < plan.num_ranks; ++source) {
      const LaneWork work = schedule_.Work(lane, stages_[source], slot);
      for (int e = 0; e < num_experts_; ++e) {
        const int64_t first = plan.first_expert_row[source * num_experts_ + e];
        for (int row = 0; row < plan.rows[source * num_experts_ + e]; ++row)
          body(first + row, work, source, e, row);
      }
    }
  }
  // Is this where one of the forward slots of the backward slot was stored?
  bool IsAnEntry(SlotId slot, const void* data) {
    for (const int stage : stages_) {
      const LaneWork work = schedule_.Work(Lane::kBackward, stage, slot);
      if (!work.idle() && stash_.X(schedule_.SlotOf(Lane::kForward, stage, work)).data == data) return true;
    }
    return false;
  }

  MemoryMeter memory_;
  Stream stream_{memory_};
  SlotSchedule schedule_;
  std::vector<int> stages_;
  const int num_experts_;
  RowStash stash_;
  OwnerPlan backward_plan_;
  int64_t rows_back_ = 0;
  int num_joined_ = 0;
};

TEST(RowStash, EveryRowComesBackWithItsGradient) {
  for (int stages = 1; stages <= 4; ++stages) {
    for (int data = 1; data <= 2; ++data) {
      for (int last_layers = 1; last_layers <= 3; ++last_layers) {
        std::vector<int> layers(stages, 2);
        layers.back() = last_layers;
        Walk walk(layers, 7, data, 3);
        walk.Run();
        if (HasFailure()) return;
        int64_t rows = 0;
        for (int source = 0; source < stages * data; ++source) {
          for (int m = 0; m < 7; ++m) {
            for (int layer = 0; layer < layers[source / data]; ++layer) {
              for (int e = 0; e < 3; ++e) rows += RowsOf(source, {.microbatch = m, .layer = layer}, e);
            }
          }
        }
        EXPECT_EQ(walk.rows_back(), rows);
        // With one stage a backward slot's rows are those of one forward slot.
        EXPECT_EQ(walk.num_joined() > 0, stages > 1) << stages << " stages";
      }
    }
  }
}

// Two stages, one layer each: at most (2 S - 1) n + 1 = 4 entries hold rows, and one when forward only.
TEST(RowStash, NoMoreEntriesThanAreAlive) {
  constexpr int64_t kRowBytes = (kRowSize + kKeptColumns) * sizeof(float), kMost = kMostRows * 2;
  Walk walk({1, 1}, 20, 1, 1);
  walk.Run();
  const int64_t joined_bytes = kMost * kRowBytes;
  EXPECT_GT(walk.bytes(), 0);
  EXPECT_LE(walk.bytes(), 4 * kMost * kRowBytes + joined_bytes);
  Walk forward_only({1, 1}, 20, 1, 1, true);
  forward_only.Run();
  EXPECT_GT(forward_only.bytes(), 0);
  EXPECT_LE(forward_only.bytes(), kMost * kRowSize * static_cast<int64_t>(sizeof(float)));
}

// Example of the header: rows of time step 2 are asked for in time steps 3 and 5, and their entry is taken
// anew in time step 6. An entry that is still needed is never taken.
TEST(RowStash, AnEntryIsFreeAfterTheLowestStagesBackward) {
  Walk walk({1, 1}, 20, 1, 1);
  const void* at_two = nullptr;
  for (int time = 0; time < 7; ++time) {
    const SlotId slot{.time = time, .index = 0};
    walk.Forward(slot);
    const void* x = walk.stash().X(slot).data;
    if (time == 2) at_two = x;
    if (time > 2 && time < 6) {
      EXPECT_NE(x, at_two) << "time step " << time;
    }
    if (time == 6) {
      EXPECT_EQ(x, at_two);
    }
    if (walk.schedule().AnyWork(Lane::kBackward, slot)) walk.Backward(slot);
  }
}

TEST(RowStash, ANewPassForgets) {
  Walk walk({2, 1}, 5, 1, 2);
  walk.Run();
  const int64_t rows = walk.rows_back();
  walk.stash().SetSchedule(walk.schedule());
  walk.Run();
  EXPECT_EQ(walk.rows_back(), 2 * rows);
}

TEST(RowStashDeathTest, RowsThatAreGoneAreNotGivenOut) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  Walk walk({1, 1}, 9, 1, 1);
  for (int time = 0; time < 7; ++time) walk.Forward({.time = time, .index = 0});
  // In time step 3 gradients of stage 0's forward of time step 0 and of stage 1's of time step 2 come back.
  // The entry of time step 0 has been taken by time step 4.
  EXPECT_DEATH(walk.stash().FillRows({.time = 3, .index = 0}, walk.backward_plan()), "are gone");
  EXPECT_DEATH(walk.stash().X({.time = 1, .index = 0}), "are gone");
}

}  // namespace
}  // namespace unipool
