#include <gflags/gflags.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/plan/forecast_check.h"
#include "launcher/plan/forecast_html.h"
#include "launcher/plan/forecast_text.h"
#include "launcher/plan/forecast_trace.h"
#include "launcher/plan/forecast_walk.h"
#include "launcher/plan/layout_search.h"
#include "launcher/plan/placement_gain.h"
#include "launcher/plan/saved_forecast.h"
#include "launcher/plan/search_html.h"
#include "launcher/plan/shared_cores.h"
#include "launcher/reports/own_file.h"
#include "launcher/standard_output.h"
#include "models/settings.h"

DEFINE_string(cluster, "", "plan: the described cluster (configs/clusters/*.txtpb, or what calibrate wrote)");
DEFINE_string(counts, "", "plan: the folder of a run that tells where rows go");
DEFINE_string(imbalance, "level", "plan: how rows go where no run tells: level, early or late (in training)");
DEFINE_bool(check, false, "plan: compare the plan of the run in a DIR with what the run measured");
DEFINE_double(tolerance, 10, "plan --check: percent that the step may be off; beyond it the exit code is 1");
DEFINE_double(bytes_tolerance, 10, "plan --check: percent that bytes of steps without records may be off");
DEFINE_double(memory_tolerance, 5, "plan --check: percent that memory may be planned too high; none too low");
DECLARE_string(html);
DECLARE_string(trace);
DEFINE_string(save, "", "plan: folder of a run that is to begin; its end tells how the plan held");
DEFINE_bool(search, false, "plan: compare all layouts that validate");
DEFINE_string(ranks, "", "plan --search: numbers of ranks to try, 8,16,32; default: parallel.ranks");
DEFINE_double(max_memory, 0, "plan --search: GB that a rank may use; 0: what the cluster's file says");
DEFINE_int32(top, 10, "plan --search: layouts to show");

namespace unipool {
namespace {

// What this command makes, by its first bytes.
const OwnFile kTrace{"time line of this program",
                     [](std::string_view begin) { return begin.starts_with(R"({"displayTimeUnit")"); }};
const OwnFile kPage{"page of this command", [](std::string_view begin) {
                      return begin.find("<title>Plan of ") != std::string_view::npos;
                    }};
const OwnFile kSaved{"plan of this command",
                     [](std::string_view begin) { return begin.starts_with("{\n  \"breakdown\""); }};

constexpr int kMostRanks = 1'000'000;
constexpr int kMostPlacedRanks = 512;  // of more it would take minutes to place experts and walk all ranks

RowsWanted WantedRows() {
  RowsWanted wanted{.counts = FLAGS_counts, .name = "--counts=" + FLAGS_counts};
  if (FLAGS_imbalance == "early") {
    wanted.imbalance = Imbalance::kEarly;
  } else if (FLAGS_imbalance == "late") {
    wanted.imbalance = Imbalance::kLate;
  } else if (FLAGS_imbalance != "level") {
    throw UserError("--imbalance=" + FLAGS_imbalance + ": must be level, early or late");
  }
  if (!wanted.counts.empty() && wanted.imbalance != Imbalance::kLevel)
    throw UserError("--imbalance: the run of --counts tells where rows go; leave one of the two out");
  return wanted;
}

Cluster ClusterToPlanFor() {
  if (FLAGS_cluster.empty()) {
    throw UserError(
        "--cluster: is missing; give the description of a cluster, for example "
        "--cluster configs/clusters/h100_nodes.txtpb");
  }
  return LoadClusterFile(FLAGS_cluster);
}

// N of a microbatch.
double RowsOf(const Config& config) {
  return double{1} * config.train().micro_batch() * config.model().seq_length() * config.moe().top_k();
}

// What the run recorded of its rows: those of a single step, or else the shares of its experts.
void WantRecordedRows(const RecordedRun& run, const Config& config, RowsWanted& wanted) {
  if (!run.RecordedSteps().empty()) {
    wanted.counts = wanted.name = run.run_dir;
  } else {
    wanted.shares = RecordedShares(run, config);
  }
}

// What the folder traffic/ of a run has; none where there is no such folder.
std::optional<RecordedRun> TrafficOf(const std::string& run_dir) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(run_dir + "/traffic", ignored)) return {};
  return ReadRecordedRun(run_dir, {});
}

// A recorded step has the run's own layout, so the run tells how many experts had rows.
void SetUsedExperts(const std::string& run_dir, const RowsFound& found) {
  RunRecord run(run_dir);
  run.Read();
  for (const auto& draw : found.draws) draw->set_used_experts(UsedExpertsOf(run, found.step));
}

std::vector<int> RanksToTry(const Config& config) {
  if (FLAGS_ranks.empty()) return {config.parallel().ranks()};
  std::vector<int> ranks;
  std::istringstream words(FLAGS_ranks);
  for (std::string word; std::getline(words, word, ',');) {
    char* end = nullptr;
    const long number = std::strtol(word.c_str(), &end, 10);
    if (word.empty() || *end != '\0' || number < 1 || number > kMostRanks) {
      throw UserError(
          Format("--ranks=%s: '%s' is no number of ranks; give numbers from 1 to %d, as in 8,16,32",
                 FLAGS_ranks.c_str(), word.c_str(), kMostRanks));
    }
    ranks.push_back(static_cast<int>(number));
  }
  return ranks;
}

bool IsGiven(const char* flag) {
  return !gflags::GetCommandLineFlagInfoOrDie(flag).is_default;
}

// Flags that would have no effect beside the others.
void AddUselessFlags(Problems& problems) {
  for (const char* flag : {"html", "trace", "save"}) {
    if (!IsGiven(flag)) continue;
    if (FLAGS_search && flag != std::string_view("html"))
      problems.Add(Format("--%s: is for the plan of one layout; leave it or --search out", flag));
    if (FLAGS_check) problems.Add(Format("--%s: is for a plan alone; leave it or --check out", flag));
  }
  for (const char* flag : {"tolerance", "bytes_tolerance", "memory_tolerance"}) {
    if (!FLAGS_check && IsGiven(flag))
      problems.Add(Format("--%s: is for --check, which judges by it; leave it out or add --check", flag));
  }
  if (FLAGS_search) return;
  if (IsGiven("ranks")) problems.Add("--ranks: is for --search; set parallel.ranks instead");
  if (IsGiven("max_memory"))
    problems.Add("--max_memory: is for --search; a plan of one layout says whether it fits");
  if (IsGiven("top")) problems.Add("--top: is for --search; leave it out or add --search");
}

void CheckFlags() {
  Problems problems;
  AddUselessFlags(problems);
  for (const auto& [name, value] : {std::pair("tolerance", FLAGS_tolerance),
                                    {"bytes_tolerance", FLAGS_bytes_tolerance},
                                    {"memory_tolerance", FLAGS_memory_tolerance}}) {
    if (!(value >= 0)) problems.Add(Format("--%s=%g: must be 0 or more percent", name, value));
  }
  if (FLAGS_search && FLAGS_check)
    problems.Add("--check: does not go with --search; leave one of the two out");
  if (FLAGS_top < 1) problems.Add(Format("--top=%d: must be at least 1", FLAGS_top));
  if (!(FLAGS_max_memory >= 0))
    problems.Add(Format("--max_memory=%g: must be 0 or more GB", FLAGS_max_memory));
  if (FLAGS_search && (!FLAGS_counts.empty() || FLAGS_imbalance != "level"))
    problems.Add("--search: compares layouts with level rows; leave --counts and --imbalance out");
  problems.ThrowIfAny();
}

// The plan of a run's settings and ranks beside what it measured.
int CheckAndPrint(const CommandLine& command_line, Config config, const Cluster& cluster) {
  if (command_line.run_dir.empty())
    throw UserError("--check: needs the folder of a run in place of CONFIG, as in `plan --check runs/book`");
  const std::string& dir = command_line.run_dir;
  RunRecord run(dir);
  run.Read();
  const int ranks = config.parallel().ranks();
  CheckForPlan(cluster, ranks);
  const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
  RowsWanted wanted = WantedRows();
  const std::optional<RecordedRun> traffic = TrafficOf(dir);
  if (traffic && wanted.counts.empty() && wanted.imbalance == Imbalance::kLevel)
    WantRecordedRows(*traffic, config, wanted);
  wanted.used_experts = UsedExpertsOf(run);
  const RowsFound found = FindRows(wanted, config, mesh, RowsOf(config) * (1 - UnsentShare(run)));
  if (found.step >= 0) SetUsedExperts(wanted.counts, found);
  const Forecast forecast = MakeForecast(config, ranks, cluster, found);
  const Tolerances tolerances{.step = FLAGS_tolerance / 100,
                              .bytes = FLAGS_bytes_tolerance / 100,
                              .memory = FLAGS_memory_tolerance / 100};
  const MeasuredRun measured{.run = run, .traffic = traffic ? &*traffic : nullptr, .step = found.step};
  const ForecastCheck check = CheckForecast(forecast, config, ranks, measured, tolerances);
  PrintResult(command_line.json ? CheckJson(check) + "\n" : CheckText(check));
  return check.Holds() ? 0 : 1;
}

struct RanksFound {
  std::vector<int> ranks;
  std::vector<std::string> left_out;  // sentences: numbers of ranks that the cluster has no room for
};
// Throws the UserError of CheckForPlan where the cluster can be planned for with none of them, or lacks what
// a plan for one of the others needs.
RanksFound RanksThatFit(const std::vector<int>& all, const Cluster& cluster) {
  const int64_t per_node = cluster.config.ranks_per_node(), nodes = cluster.config.nodes();
  const int64_t room = per_node > 0 && nodes > 0 ? per_node * nodes : kMostRanks;
  RanksFound found;
  for (const int ranks : all) {
    if (ranks <= room) {
      CheckForPlan(cluster, ranks);
      found.ranks.push_back(ranks);
    } else {
      found.left_out.push_back(Format("%d ranks: %s has room for %d (nodes %d, ranks_per_node %d)", ranks,
                                      cluster.path.c_str(), room, nodes, per_node));
    }
  }
  if (found.ranks.empty()) CheckForPlan(cluster, all.front());
  return found;
}

int SearchAndPrint(const CommandLine& command_line, const Config& config, const Cluster& cluster) {
  const RanksFound found = RanksThatFit(RanksToTry(config), cluster);
  const SearchOptions options{.ranks = found.ranks, .max_memory = 1e9 * FLAGS_max_memory};
  std::vector<std::string> fixed;
  std::string command = "unipool train " + command_line.config_path;
  for (const std::string& setting : command_line.overrides) {
    fixed.push_back(setting.substr(0, setting.find('=')));
    if (setting.rfind("parallel.ranks=", 0) != 0) command += " " + setting;
  }
  SearchResult result = SearchLayouts(config, cluster, fixed, options);
  result.left_out = found.left_out;
  const int exit_code = result.layouts.empty() ? 1 : 0;
  if (!FLAGS_html.empty())
    WriteOwnFile(kPage, FLAGS_html, SearchHtml(result, FLAGS_top, cluster.path, command));
  if (command_line.json) {
    PrintResult(SearchJson(result, FLAGS_top) + "\n");
    return exit_code;
  }
  std::string head = CalibrationText(cluster);
  if (!head.empty()) head += "\n";
  for (const int ranks : options.ranks) {
    const std::string shared = SharedCoresText(cluster.config, ranks);
    if (!shared.empty()) head += "not planned for: " + shared + "\n";
  }
  PrintResult(head + SearchText(result, FLAGS_top, command));
  return exit_code;
}

void Save(const std::string& json) {
  std::error_code failed;
  std::filesystem::create_directories(FLAGS_save, failed);
  if (failed) throw UserError("--save=" + FLAGS_save + ": cannot be made (" + failed.message() + ")");
  WriteOwnFile(kSaved, FLAGS_save + "/" + kSavedForecast, json);
}

}  // namespace

int PlanCommand(const CommandLine& command_line) {
  const RowsWanted wanted = WantedRows();
  const Cluster cluster = ClusterToPlanFor();
  CheckFlags();
  Config config = LoadConfig(command_line);
  if (FLAGS_search) return IsPrintingProcess() ? SearchAndPrint(command_line, config, cluster) : 0;
  const int ranks = config.parallel().ranks();
  ValidateConfig(config, ranks);
  if (!IsPrintingProcess()) return 0;
  config.mutable_moe()->set_router_constant(1);  // sizes alone are asked for: spares computing it
  if (FLAGS_check) return CheckAndPrint(command_line, std::move(config), cluster);
  CheckForPlan(cluster, ranks);
  const MeshShape mesh = MeshShapeOf(config.parallel(), ranks);
  const RowsFound found = FindRows(wanted, config, mesh, RowsOf(config));
  if (found.step >= 0) SetUsedExperts(wanted.counts, found);
  const Forecast forecast = MakeForecast(config, ranks, cluster, found);
  const std::vector<Sensitivity> sensitivities = Sensitivities(config, ranks, cluster, found);
  if (!FLAGS_trace.empty()) {
    const StepPlan plan = PlanStep(config, mesh, cluster.description, cluster.rates);
    const RoutedRows& draw = *found.draws[0];
    WriteOwnFile(kTrace, FLAGS_trace, ForecastTrace(plan, draw, OutlineWalkFor(mesh, draw)) + "\n");
  }
  if (!FLAGS_html.empty())
    WriteOwnFile(kPage, FLAGS_html, ForecastHtml(forecast, config, ranks, cluster, found));
  const std::vector<PlacedStep> placed = ranks > kMostPlacedRanks
                                             ? std::vector<PlacedStep>{}
                                             : PlacedSteps(config, ranks, cluster, found.shares);
  nlohmann::json json = ForecastJson(forecast, cluster, sensitivities);
  json["placement"] = PlacedStepsJson(placed);
  if (!FLAGS_save.empty()) {
    nlohmann::json saved = json;
    saved["settings"] = LayoutSettings(config, ranks);
    Save(saved.dump(2) + "\n");
  }
  PrintResult(command_line.json ? json.dump() + "\n"
                                : ForecastText(forecast, cluster, sensitivities) + PlacedStepsText(placed));
  return 0;
}

}  // namespace unipool
