// How many layers each pipeline stage gets, so that the head of the last stage costs least. Pure arithmetic
// on the slot schedule that the executor walks.
#pragma once

#include <vector>

#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"

namespace unipool {

// Times of the forward of one microbatch on one rank, in any unit. A backward takes twice as long.
struct StageWork {
  double dense = 0;     // a, one layer's attention and router
  double expert = 0;    // e, one layer's experts
  double head = 0;      // final norm, logits and loss
  int head_chunks = 1;  // pieces of equal size that parts of the head are made of (SlotSchedule::Head)
};

// Time of a step on an infinitely fast wire with level routing: the walk of step_walk.h with these costs.
// Stages of n layers and no head give the formulas of parallel/SCHEDULE.md, "Why bubbles become expert time":
// (B+S-1) n 3a + B n 3e, and (B+S-1) n 3 (a+e) with PoolSpan::kStage, less what is done while waiting: at
// most (S-1) e/3, the second parts of weight gradients behind the last slots of the steps in which a pipeline
// drains.
double PredictStepTime(const SlotSchedule& schedule, const StageWork& work, PoolSpan span);

// The same work if no rank ever waited: B (L 3(a+e) + 3 head) / S.
double IdealStepTime(const SlotSchedule& schedule, const StageWork& work);

// As even as possible; the first stages take the remainder.
std::vector<int> EvenLayers(int num_layers, int num_stages);

// The layers per stage of least predicted time, and among equal ones the most even. The even cut is kept
// unless another is faster by kWorthwhile of its time, since uneven stages cost the first ones memory. Where
// there are few cuts (up to 3000), all are compared. Otherwise the compared cuts have any number of layers on
// the last stage, and the other stages as even as possible. REQUIRES: num_stages <= num_layers.
inline constexpr double kWorthwhile = 0.02;
std::vector<int> ChooseLayersPerStage(int num_layers, int num_stages, int num_microbatches,
                                      const StageWork& work, PoolSpan span,
                                      HeadPlace head_place = HeadPlace::kLastStage);

// Where the head is run. It is spread where the step is then predicted shorter by kWorthwhile of its time,
// each way with the layers chosen for it, or with `given` layers if there are any.
HeadPlace ChooseHeadPlace(int num_layers, int num_stages, int num_microbatches, const StageWork& work,
                          PoolSpan span, const std::vector<int>& given = {});

}  // namespace unipool
