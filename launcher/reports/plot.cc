#include <gflags/gflags.h>

#include <filesystem>
#include <map>
#include <set>

#include "launcher/commands.h"
#include "launcher/nearest_name.h"
#include "launcher/reports/chart.h"
#include "launcher/reports/metric_list.h"
#include "launcher/reports/own_file.h"
#include "launcher/reports/run_record.h"
#include "launcher/reports/svg_chart.h"
#include "launcher/reports/terminal.h"
#include "launcher/reports/terminal_chart.h"
#include "launcher/standard_output.h"
#include "runtime/errors.h"

DEFINE_string(metric, "",
              "plot: a number of metrics.jsonl (see `unipool metrics`); default: loss and valid_loss");
DEFINE_string(x, "step", "plot: what is to the right: step or tokens");
DEFINE_int64(smooth, 1, "plot: each point is the mean of so many steps");
DEFINE_string(svg, "", "plot: file for a picture (SVG), instead of curves in the terminal");

namespace unipool {
namespace {

void CheckFlags(const std::vector<std::string>& runs) {
  Problems problems;
  if (runs.empty()) problems.Add("plot: the folder of a run is missing, for example: unipool plot runs/demo");
  if (FLAGS_x != "step" && FLAGS_x != "tokens")
    problems.Add("--x: expected step or tokens, found \"" + FLAGS_x + "\"");
  if (FLAGS_svg.empty() && !gflags::GetCommandLineFlagInfoOrDie("svg").is_default)
    problems.Add("--svg: is empty; give a file for the picture, for example --svg loss.svg");
  if (FLAGS_smooth < 1) problems.Add(Format("--smooth=%d: must be 1 or more", FLAGS_smooth));
  std::set<std::string> seen;
  for (const std::string& run : runs) {
    // "./run/." -> "run"
    if (!seen.insert((std::filesystem::path(run) / ".").lexically_normal().string()).second)
      problems.Add(run + ": is named twice");
  }
  problems.ThrowIfAny();
}

// x of a step: itself, or the tokens up to it.
CurvePoints PointsOf(const RunRecord& run, const std::string& metric) {
  std::map<int64_t, double> tokens;
  if (FLAGS_x == "tokens") {
    const auto& series = run.Series("tokens");
    tokens.insert(series.begin(), series.end());
  }
  CurvePoints points;
  for (const auto& [step, value] : run.Series(metric)) {
    if (FLAGS_x == "step") {
      points.emplace_back(static_cast<double>(step), value);
    } else if (const auto found = tokens.find(step); found != tokens.end()) {
      points.emplace_back(found->second, value);
    }
  }
  return points;
}

Curve CurveOf(const RunRecord& run, const std::string& metric, const std::string& name) {
  Curve curve{.name = name, .points = PointsOf(run, metric)};
  if (!metric.starts_with("valid_")) curve.points = Smoothed(curve.points, FLAGS_smooth);
  curve.is_sparse = curve.points.size() < 20;
  return curve;
}

std::string UnitOf(const std::string& metric) {
  const std::string name = metric.substr(0, metric.find('.'));
  for (const auto& step_metric : StepMetrics()) {
    if (name == step_metric.name) return step_metric.unit;
  }
  for (const auto& validation_metric : ValidationMetrics()) {
    if (name == validation_metric.name) return validation_metric.unit;
  }
  return "";
}

// Why a run has no such curve.
std::string WhyNot(const RunRecord& run, const std::string& metric) {
  try {
    run.Series(metric);
  } catch (const UserError& error) {
    return error.problems()[0];
  }
  return "";
}

Chart ChartOf(const std::vector<std::string>& paths) {
  const std::string metric = FLAGS_metric.empty() ? "loss" : FLAGS_metric;
  const std::string unit = UnitOf(metric);
  Chart chart{.title = metric + (unit.empty() ? "" : ", " + unit), .x_label = FLAGS_x};
  if (FLAGS_smooth > 1) chart.title += Format(", mean of %d steps", FLAGS_smooth);
  Problems problems;
  std::vector<std::string> skipped;  // why; they say nothing where another run has a curve
  for (const std::string& path : paths) {
    try {
      const RunRecord run(path);
      TellNote(run.LeftOut());
      if (!run.series().contains(metric)) {
        skipped.push_back(WhyNot(run, metric));
        continue;
      }
      chart.curves.push_back(CurveOf(run, metric, run.path()));
      if (FLAGS_metric.empty() && run.series().contains("valid_loss"))
        chart.curves.push_back(CurveOf(run, "valid_loss", run.path() + ", validation"));
    } catch (const UserError& error) {
      for (const std::string& problem : error.problems()) problems.Add(problem);
    }
  }
  if (chart.curves.empty()) {
    for (const std::string& why : skipped) problems.Add(why);
  }
  problems.ThrowIfAny();
  for (const std::string& why : skipped) TellNote(why);
  return chart;
}

}  // namespace

int PlotCommand(const CommandLine& command_line) {
  CheckFlags(command_line.inputs);
  const Chart chart = ChartOf(command_line.inputs);
  if (!IsPrintingProcess()) return 0;
  if (!FLAGS_svg.empty()) {
    const bool is_standard_output = WritePicture(FLAGS_svg, DrawSvg(chart));
    if (!is_standard_output) PrintResult("wrote " + TerminalText(FLAGS_svg) + "\n");
    return 0;
  }
  const OutputTerminal terminal(IsUnderMpirun());
  const TerminalSize size = SizeOfTerminal(terminal.fd());
  const TerminalChartOptions options{.columns = size.columns,
                                     .rows = std::min(size.rows - 1, 30),
                                     .utf8 = ShowsUtf8(),
                                     .colors = ShowsColors(terminal.fd())};
  PrintResult(DrawInTerminal(chart, options));
  return 0;
}

}  // namespace unipool
