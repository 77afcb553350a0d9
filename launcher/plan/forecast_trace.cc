#include "launcher/plan/forecast_trace.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "runtime/errors.h"

namespace unipool {

std::string ForecastTrace(const StepPlan& plan, const RoutedRows& rows, WalkOptions options) {
  using Json = nlohmann::json;
  options.keeps_pieces = true;
  const StepTimes times = WalkStep(plan, rows, options);
  Json events = Json::array();
  const auto add = [&](int rank, const char* name, double begin, double seconds) {
    events.push_back({{"ph", "X"},
                      {"name", name},
                      {"cat", "planned"},
                      {"pid", rank},
                      {"tid", 0},
                      {"ts", 1e6 * begin},
                      {"dur", 1e6 * seconds}});
  };
  for (size_t i = 0; i < times.ranks.size(); ++i) {
    const std::string name =
        Format("rank %d, stage %d, planned", times.ranks[i], PositionOf(plan.mesh, times.ranks[i]).stage);
    events.push_back({{"ph", "M"},
                      {"name", "process_name"},
                      {"pid", times.ranks[i]},
                      {"tid", 0},
                      {"args", {{"name", name}}}});
  }
  std::vector<double> before(times.ranks.size(), 0);
  const double smallest = 1e-9 * times.seconds;
  for (const WalkedPiece& piece : times.pieces) {
    const int rank = times.ranks[piece.walked];
    double& last = before[piece.walked];
    if (piece.begin - last > smallest) add(rank, "waits", last, piece.begin - last);
    add(rank, NameOf(piece.kind), piece.begin, piece.seconds);
    last = piece.begin + piece.seconds;
  }
  return Json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}}.dump();
}

}  // namespace unipool
