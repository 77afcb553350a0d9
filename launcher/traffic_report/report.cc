#include <gflags/gflags.h>

#include <filesystem>
#include <memory>

#include "launcher/commands.h"
#include "launcher/reports/own_file.h"
#include "launcher/standard_output.h"
#include "launcher/traffic_report/exchange_lines.h"
#include "launcher/traffic_report/matrix_file.h"
#include "launcher/traffic_report/report_comparison.h"
#include "launcher/traffic_report/report_html.h"
#include "launcher/traffic_report/report_text.h"
#include "launcher/traffic_report/trace_file.h"
#include "launcher/traffic_report/traffic_report.h"
#include "runtime/format.h"

DEFINE_string(compare, "", "report: folder of another run, whose numbers are put beside those of the first");
DEFINE_bool(text, false, "report: print the text too when files are asked for");
DEFINE_string(html, "",
              "report: file for the page; without flags for files it is RUN_DIR/traffic/report.html");
DEFINE_string(trace, "",
              "report: file for a time line that Perfetto opens; the median step, or all of --steps");
DEFINE_string(matrix, "", "report: file for the bytes between ranks, as nccl-tests' alltoallv takes them");
DEFINE_string(jsonl, "", "report: file for every recorded exchange, a line of JSON each");
DEFINE_string(steps, "", "report: only these steps, as A-B or A; the first step of a start is 0");
DEFINE_int32(layer, -1, "report: only exchanges of this layer of the model; -1: all");
DEFINE_string(lane, "", "report: only exchanges of this lane of the slots: forward or backward");
DEFINE_string(operation, "", "report: only exchanges of this operation, as \"dispatch forward\"");
DEFINE_string(by, "rank", "report: one line for each rank or node");

namespace unipool {
namespace {

// What this command makes, by its first bytes.
const OwnFile kPage{"page of this command",
                    [](std::string_view begin) { return begin.find("<title>Traffic of ") != begin.npos; }};
const OwnFile kTrace{"time line of this command",
                     [](std::string_view begin) { return begin.starts_with(R"({"displayTimeUnit")"); }};
const OwnFile kMatrix{"matrix of bytes", [](std::string_view begin) {
                        return !begin.empty() && begin.find_first_not_of("0123456789 \n") == begin.npos;
                      }};
const OwnFile kLines{"file of recorded exchanges", [](std::string_view begin) {
                       return begin.starts_with(R"({"step":)") &&
                              begin.find(R"("communicator":)") != begin.npos;
                     }};

void WriteFile(const OwnFile& file, const std::string& path, const std::string& text,
               const std::string& use) {
  if (!WriteOwnFile(file, path, text)) PrintResult("wrote " + path + use + "\n");
}

// "5-7", "5".
StepRange ParseSteps(const std::string& text, Problems& problems) {
  if (text.empty()) return {};
  const size_t dash = text.find('-');
  const std::string first = text.substr(0, dash), last = dash == text.npos ? first : text.substr(dash + 1);
  const auto is_number = [](const std::string& word) {
    return !word.empty() && word.size() < 18 && word.find_first_not_of("0123456789") == word.npos;
  };
  if (is_number(first) && is_number(last)) {
    const StepRange range{.first = std::stoll(first), .last = std::stoll(last)};
    if (range.first <= range.last) return range;
  }
  problems.Add("--steps: expected two steps as 5-7, or one, found \"" + text + "\"");
  return {};
}

ReportOptions OptionsOfFlags() {
  Problems problems;
  ReportOptions options{.steps = ParseSteps(FLAGS_steps, problems)};
  options.filter = {.layer = FLAGS_layer, .lane = -1, .operation = FLAGS_operation};
  if (FLAGS_lane == "forward") options.filter.lane = 0;
  if (FLAGS_lane == "backward") options.filter.lane = 1;
  if (!FLAGS_lane.empty() && options.filter.lane < 0)
    problems.Add("--lane: expected forward or backward, found \"" + FLAGS_lane + "\"");
  if (FLAGS_layer < -1)
    problems.Add(Format("--layer: expected a layer of the model, or -1 for all, found %d", FLAGS_layer));
  if (FLAGS_by != "rank" && FLAGS_by != "node")
    problems.Add("--by: expected rank or node, found \"" + FLAGS_by + "\"");
  options.by_node = FLAGS_by == "node";
  problems.ThrowIfAny();
  return options;
}

void WriteHtml(const TrafficReport& report, const std::string& path, std::vector<HtmlScreen> first = {}) {
  std::unique_ptr<RunRecord> run;
  if (std::filesystem::exists(report.run.run_dir + "/metrics.jsonl")) {
    try {
      run = std::make_unique<RunRecord>(report.run.run_dir);
      run->Read();
    } catch (const UserError& error) {
      run = nullptr;
      PrintResult(std::string("the page has no curves: ") + error.what() + "\n");
    }
  }
  WriteFile(kPage, path, ReportHtml(report, run.get(), std::move(first)), ", a page that any browser opens");
}

// Where the records are; they may lie where nobody may write.
void WriteHtmlBeside(const TrafficReport& report) {
  try {
    WriteHtml(report, report.run.run_dir + "/traffic/report.html");
  } catch (const OutputError&) {
    throw;
  } catch (const UserError& error) {
    PrintResult(std::string("no page was written: ") + error.what() + "; --html names another file\n");
  }
}

void WriteTrace(const TrafficReport& report) {
  if (FLAGS_trace.ends_with(".gz"))
    throw UserError(
        "--trace: the file is plain JSON; name it without .gz, and let gzip compress it (Perfetto opens "
        "both)");
  std::vector<int64_t> steps;
  for (const JoinedStep& step : report.traffic.steps) steps.push_back(step.step);
  if (FLAGS_steps.empty()) steps = {MedianStep(report)};
  WriteFile(kTrace, FLAGS_trace, TraceText(report, steps), "; ui.perfetto.dev opens it");
}

// "bytes of a step, the mean of steps 5 to 7, layer 1".
std::string MatrixWords(const TrafficReport& report) {
  const std::vector<StepFigures>& steps = report.figures.steps;
  const ExchangeFilter& filter = report.options.filter;
  std::string words = report.figures.num_steps > 1 ? Format("bytes of a step, the mean of steps %d to %d",
                                                            steps.front().first, steps.back().last)
                                                   : Format("bytes of step %d", steps.front().first);
  if (!filter.operation.empty()) words += ", " + filter.operation;
  if (filter.lane >= 0) words += std::string(", ") + LaneName(filter.lane) + " lane";
  if (filter.layer >= 0) words += Format(", layer %d", filter.layer);
  return words + (report.figures.by_node ? ", between nodes" : "");
}

void WriteMatrix(const TrafficReport& report) {
  const auto found = report.figures.matrices.find(FLAGS_operation);
  if (found == report.figures.matrices.end() || found->second.empty())
    throw UserError(
        report.HasRecords()
            ? "--matrix: these records have no matrix of this choice"
            : "--matrix: sums of steps have no matrices of layers and lanes; traffic.record=FULL, "
              "or a file RUN_DIR/traffic/record with a number of steps in it while the run goes "
              "on, records them");
  WriteFile(kMatrix, FLAGS_matrix, MatrixText(found->second),
            ": " + MatrixWords(report) + "; to replay them with nccl-tests:\n" +
                ReplayCommand(found->second, FLAGS_matrix));
}

void WriteLines(const TrafficReport& report) {
  if (!report.HasRecords())
    throw UserError(
        "--jsonl: no exchange of this choice is recorded one by one; traffic.record=FULL does so");
  std::string text;
  WriteExchangeLines(report, [&](const std::string& line) { text += line; });
  if (text.empty()) throw UserError("--jsonl: the recorded steps have no exchange of this choice");
  WriteFile(kLines, FLAGS_jsonl, text, "");
}

}  // namespace

int ReportCommand(const CommandLine& command_line) {
  const TrafficReport report = MakeTrafficReport(command_line.config_path, OptionsOfFlags());
  if (!IsPrintingProcess()) return 0;
  const bool writes_files =
      !FLAGS_html.empty() || !FLAGS_trace.empty() || !FLAGS_matrix.empty() || !FLAGS_jsonl.empty();
  std::vector<HtmlScreen> first;
  std::string text = ReportText(report);
  if (!FLAGS_compare.empty()) {
    const TrafficComparison comparison =
        CompareTraffic(report, MakeTrafficReport(FLAGS_compare, report.options));
    text = TrafficComparisonText(comparison);
    first = {ComparisonScreen(comparison)};
  }
  if (FLAGS_text || !writes_files) PrintResult(text);
  if (!FLAGS_html.empty()) WriteHtml(report, FLAGS_html, first);
  if (!writes_files && !FLAGS_text && FLAGS_compare.empty()) WriteHtmlBeside(report);
  if (!FLAGS_trace.empty()) WriteTrace(report);
  if (!FLAGS_matrix.empty()) WriteMatrix(report);
  if (!FLAGS_jsonl.empty()) WriteLines(report);
  return 0;
}

}  // namespace unipool
