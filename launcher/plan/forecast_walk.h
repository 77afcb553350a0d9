// How a forecast walks a step (parallel/step_walk.h): block by block where that takes a part of a second,
// and by the totals of each rank where there are more.
#pragma once

#include <memory>
#include <vector>

#include "parallel/step_walk.h"

namespace unipool {

// Up to so many ranks every walk goes block by block.
inline constexpr int kMostBlockRanks = 32;

// The walk that a step's time is taken from. With level rows one replica stands for all where all are too
// many. REQUIRES of `rows`: of this plan.
WalkOptions StepWalkFor(const StepPlan& plan, const RoutedRows& rows);
// That walk. Where the blocks of all ranks are too many and those of one replica are not, slots take as much
// longer than in totals as the first replica's do.
StepTimes WalkForecast(const StepPlan& plan, const RoutedRows& rows);

// Of several draws of rows the one whose step is the median, walked so, and the shortest and longest step. An
// outline tells which it is, and how far the others lie from it.
struct DrawnSteps {
  size_t median = 0;         // index of the draw
  StepTimes times;           // of the median
  double low = 0, high = 0;  // seconds
};
DrawnSteps WalkDraws(const StepPlan& plan, const std::vector<std::unique_ptr<RoutedRows>>& draws);

// A short walk of many ranks: for free wires, on which totals are exact, and for what is drawn or compared
// with itself.
WalkOptions OutlineWalkFor(const MeshShape& mesh, const RoutedRows& rows);

}  // namespace unipool
