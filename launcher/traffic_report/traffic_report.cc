#include "launcher/traffic_report/traffic_report.h"

#include <map>
#include <set>

#include "launcher/nearest_name.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

// What the filter names must be there.
void CheckFilter(const TrafficReport& report) {
  const ExchangeFilter& filter = report.options.filter;
  if (filter.IsAll() || !report.figures.cells.empty()) return;
  std::set<std::string> operations;
  for (const RecordedWindow& window : report.run.windows) {
    for (const WindowCell& cell : window.cells) operations.insert(cell.operation);
  }
  for (const std::string& operation : report.traffic.operations) operations.insert(operation);
  if (!filter.operation.empty() && !operations.contains(filter.operation)) {
    std::string names;
    for (const std::string& name : operations) names += (names.empty() ? "" : ", ") + ("\"" + name + "\"");
    throw UserError("--operation=\"" + filter.operation +
                    "\": no such operation in these records; there are " + names);
  }
  throw UserError("no exchange of the run is of this --layer, --lane and --operation");
}

// Hosts with more ranks than cores. Virtual clocks do not count what ranks wait for a core.
void AddSharedCores(const RecordedManifest& manifest, std::vector<std::string>& notes) {
  if (manifest.clock == "virtual" || manifest.device) return;
  std::map<std::string, std::pair<int, int>> hosts;  // ranks, cores
  for (int rank = 0; rank < manifest.world; ++rank) {
    std::pair<int, int>& host = hosts[manifest.host_of_rank[rank]];
    ++host.first;
    host.second = manifest.host_cores_of_rank[rank];
  }
  int num_short = 0;
  std::string first;
  for (const auto& [name, host] : hosts) {
    const auto& [ranks, cores] = host;
    if (cores == 0 || cores >= ranks) continue;
    if (num_short++ == 0)
      first = Format("%d ranks share %d %s of host %s", ranks, cores, cores == 1 ? "core" : "cores", name);
  }
  if (num_short == 0) return;
  const std::string more = num_short > 1 ? Format(", and so it is on %d more hosts", num_short - 1) : "";
  notes.push_back(
      first + more +
      ": a rank that waits for a core is late for others, and bytes whose rank has no core stand still. "
      "Both count as idle and exposed here");
}

// "; recorded are steps 4 to 6": what another choice of --steps would find.
std::string RecordedText(const TrafficReport& report) {
  if (report.options.steps.first == 0 && report.options.steps.last == INT64_MAX) return "";
  const RecordedRun all = ReadRecordedRun(report.run.run_dir, {});
  std::string text;
  if (const std::vector<int64_t> steps = all.RecordedSteps(); !steps.empty())
    text += Format("; one by one steps %d to %d are recorded", steps.front(), steps.back());
  if (!all.windows.empty())
    text +=
        Format("; sums cover steps %d to %d", all.windows.front().first_step, all.windows.back().last_step);
  return text;
}

void AddNotes(TrafficReport& report) {
  std::vector<std::string>& notes = report.notes;
  const RecordedManifest& manifest = report.run.manifest;
  notes.insert(notes.end(), report.run.notes.begin(), report.run.notes.end());
  if (const std::string other = report.HasRecords() ? "" : RecordedText(report);
      other.find("one by one") != other.npos)
    notes.push_back("none of these --steps is recorded one by one, so sums are shown" + other);
  if (!report.HasRecords() && manifest.record == "FULL" && report.run.RecordedSteps().empty())
    notes.push_back(
        "traffic.record=FULL recorded no step: the run did not come to step traffic.first_step of its start, "
        "or its "
        "records are gone");
  if (!report.HasRecords()) {
    notes.push_back(
        "there are sums of steps only. traffic.record=FULL, or a file RUN_DIR/traffic/record with a number "
        "of steps "
        "in it while the run goes on, adds every exchange: causes by layer and slot, time lines (--trace), "
        "sizes, "
        "what-if");
  }
  for (int rank = 0; rank < manifest.world; ++rank) {
    if (!report.HasRecords() || report.clocks->IsKnown(rank)) continue;
    notes.push_back(
        Format("the clock of rank %d's host %s was never compared with that of rank 0: its times cannot be "
               "put beside the others', and what waits between them were for is not known",
               rank, manifest.host_of_rank[rank]));
    break;
  }
  int64_t steps = 0, split_steps = 0, other_steps = 0;
  for (const RecordedWindow& window : report.run.windows) {
    (window.split_steps > 0 ? steps : other_steps) += window.steps;
    split_steps += window.split_steps;
  }
  if (!report.HasRecords() && split_steps > 0 && other_steps > 0)
    notes.push_back(
        Format("%d steps are left out: what ranks waited for in them was not found out", other_steps));
  if (!report.HasRecords() && split_steps > 0 && split_steps < steps)
    notes.push_back(Format("idle and exposed times are those of %d of these %d steps, which stand for all",
                           split_steps, steps));
  if (report.figures.dropped > 0)
    notes.push_back(
        Format("%.0f exchanges found no room and were dropped from the records", report.figures.dropped));
  if (report.traffic.incomplete > 0)
    notes.push_back(Format("%d exchanges lack a rank's record; what they waited for is not known",
                           report.traffic.incomplete));
  AddSharedCores(manifest, notes);
  if (!manifest.ended) notes.push_back("the run has not ended, or was killed: what it wrote so far is shown");
  if (report.figures.by_node && !report.options.by_node)
    notes.push_back("matrices are by node: ranks are too many");
}

}  // namespace

TrafficReport MakeTrafficReport(const std::string& run_dir, const ReportOptions& options) {
  TrafficReport report{.options = options, .run = ReadRecordedRun(run_dir, options.steps)};
  const RecordedManifest& manifest = report.run.manifest;
  report.clocks = std::make_unique<ClockMap>(report.run);
  report.traffic = JoinTraffic(report.run, *report.clocks);
  if (!report.run.windows.empty()) report.windows = FiguresOfWindows(report.run, options.filter);
  VerdictInputs inputs{.manifest = &manifest, .figures = &report.figures};
  if (!report.traffic.steps.empty()) {
    report.evidence = SplitExchanges(report.traffic, manifest, *report.clocks);
    report.figures = FiguresOfRecords(report.run, report.traffic, options.filter);
    report.what_if = Replay(report.traffic, manifest, report.evidence);
    inputs.traffic = &report.traffic;
    inputs.evidence = &report.evidence;
  } else if (!report.run.windows.empty()) {
    report.figures = report.windows;
  } else {
    throw UserError(Format("%s/traffic: no step of this choice was recorded by all %d ranks%s", run_dir,
                           manifest.world, RecordedText(report)));
  }
  CheckFilter(report);
  const std::vector<StepFigures>& steps = report.figures.steps;
  const int64_t first = steps.empty() ? 0 : steps.front().first,
                last = steps.empty() ? INT64_MAX : steps.back().last;
  const ExpertRows experts = ExpertRowsOf(report.run, first, last);
  report.experts = ExpertRowsOf(report.run, first, last, options.filter.layer);
  inputs.experts = &experts;
  // Waits for what the filter leaves out are no computing, and causes are those of all.
  TrafficFigures all;
  if (!options.filter.IsAll()) {
    all = report.HasRecords() ? FiguresOfRecords(report.run, report.traffic, {})
                              : FiguresOfWindows(report.run, {});
    inputs.figures = &all;
  }
  report.verdict = Judge(inputs);
  AddNotes(report);
  if (options.by_node) {
    report.figures = ByNode(report.figures, manifest.node_of_rank);
    if (!report.windows.ranks.empty()) report.windows = ByNode(report.windows, manifest.node_of_rank);
  }
  return report;
}

}  // namespace unipool
