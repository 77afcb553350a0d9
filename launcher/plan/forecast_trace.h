// The time line of a planned step as JSON of Chrome's trace format, beside which that of a recorded step
// (`report --trace`) opens.
#pragma once

#include <string>

#include "parallel/step_walk.h"

namespace unipool {

// A process for each walked rank; its work by kind, and waiting in between.
std::string ForecastTrace(const StepPlan& plan, const RoutedRows& rows, WalkOptions options);

}  // namespace unipool
