// What a window of steps cost, over all ranks: each rank packs its share, and rank 0 makes the window's JSON
// from all of them. runtime/TRAFFIC.md has the keys. Pure: no ranks, no files.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/traffic/window_experts.h"
#include "runtime/thread_cpu.h"
#include "runtime/traffic_recorder.h"
#include "runtime/traffic_step.h"

namespace unipool {

struct WindowSteps {
  int64_t first = 0, last = 0;  // from 0
  int64_t count() const { return last - first + 1; }
};

// Of the window's steps on this rank.
struct WindowTimes {
  int64_t step_ns = 0;
  ThreadCpu cpu;
};
// `problem`: why the rank writes no records any
// longer, or "".
std::string PackWindow(const TrafficRecorder& recorder, const WindowTimes& times, const std::string& problem);

struct WindowText {
  std::string json;
  int64_t dropped = 0;   // over all ranks
  std::string problems;  // "rank 3: ...", the first few; "" where there are none
  // Where idle times are those of one sampled step: these, as a step's numbers have them.
  std::optional<TrafficStep> sampled;
};
// `shares`: of all ranks, in rank order. `last_step`: of the last step. `experts`: of all steps.
WindowText MakeWindow(const WindowSteps& steps, const std::vector<int>& node_of_rank,
                      const std::vector<std::string>& shares, const TrafficStep& last_step,
                      const WindowExperts& experts = {});

// Above this, cells have sums and largest values instead of a number per rank.
inline constexpr int kMostRanksInCells = 64;
// Above this, matrices are by node.
inline constexpr int kMostRanksInMatrices = 256;

}  // namespace unipool
