// Two runs' traffic beside each other. A difference that is smaller than what steps of either run differ by
// among themselves (from the first to the third quarter of them) is noise, and is said to be.
#pragma once

#include <string>
#include <vector>

#include "launcher/traffic_report/html_page.h"
#include "launcher/traffic_report/traffic_report.h"

namespace unipool {

struct ComparedNumber {
  std::string name, unit;
  double other = 0, own = 0;  // medians of steps; of cells: means
  double noise = 0;           // half of the larger range between the quarters; NaN: of one step, not known
  bool IsNoise() const { return IsKnown(noise) && std::abs(own - other) <= noise; }
};

struct TrafficComparison {
  std::string own, other;                // folders
  std::vector<ComparedNumber> numbers;   // of the step
  std::vector<ComparedNumber> cells;     // ms blocked, by operation, lane, layer; largest difference first
  std::vector<std::string> differences;  // in what the runs are unlike: "ranks: 4 in this, 2 in the other"
};

TrafficComparison CompareTraffic(const TrafficReport& own, const TrafficReport& other);
std::string TrafficComparisonText(const TrafficComparison& comparison);
HtmlScreen ComparisonScreen(const TrafficComparison& comparison);

}  // namespace unipool
