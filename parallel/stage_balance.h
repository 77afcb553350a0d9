// How many layers each pipeline stage gets, so that the head of the last stage costs least. Pure arithmetic
// on the slot schedule that the executor walks.
#pragma once

#include <vector>

#include "parallel/meeting_walk.h"
#include "parallel/mesh.h"
#include "parallel/slot_schedule.h"

namespace unipool {

// Time of a step on an infinitely fast wire with level routing. With PoolSpan::kReplica all ranks of a pool
// meet in each slot: it is the sum over slots of (the slowest stage's dense work and head + an even share of
// all stages' expert work). With PoolSpan::kStage stages meet only at their boundaries: it is the sum over
// time steps of the slowest stage's work. Stages of n layers and no head give the formulas of
// parallel/SCHEDULE.md, "Why bubbles become expert time": (B+S-1) n 3a + B n 3e and (B+S-1) n 3 (a+e).
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
