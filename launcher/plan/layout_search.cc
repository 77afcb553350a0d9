#include "launcher/plan/layout_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>

#include "launcher/config.h"
#include "launcher/plan/forecast.h"
#include "launcher/plan/forecast_walk.h"
#include "launcher/reports/readable_number.h"
#include "models/settings.h"
#include "models/size_choice.h"
#include "models/stage_layers.h"
#include "parallel/stage_balance.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

// Layouts that are walked as `plan` walks them: the first ones, and the best of all. Of many ranks fewer, and
// of more than kMostExactRanks none, since each takes a tenth of a second and more.
struct Leaders {
  size_t first = 0, most = 0;
};
constexpr Leaders kFewRanks{.first = 100, .most = 200}, kManyRanks{.first = 20, .most = 40};
constexpr int kMostExactRanks = 64;
constexpr char kTooMuchMemory[] = "memory: even with level rows a rank needs more than it has";

std::vector<int> DivisorsOf(int n) {
  std::vector<int> divisors;
  for (int d = 1; d <= n; ++d) {
    if (n % d == 0) divisors.push_back(d);
  }
  return divisors;
}

// "parallel.stages: is 5, more than ..." -> "parallel.stages": candidates differ in the numbers.
std::string ReasonOf(const std::string& problem) {
  return problem.substr(0, problem.find(": "));
}

class Search {
 public:
  Search(const Config& config, const Cluster& cluster, const std::vector<std::string>& fixed,
         const SearchOptions& options)
      : config_(config), cluster_(cluster), fixed_(fixed), options_(options) {
    config_.mutable_moe()->set_router_constant(1);  // sizes alone are asked for: spares computing it
    room_ = options.max_memory > 0 ? options.max_memory : 1e9 * cluster.config.memory().gigabytes();
    if (room_ <= 0) room_ = std::numeric_limits<double>::infinity();
  }

  SearchResult Run() {
    for (const int ranks : options_.ranks) ForRanks(ranks);
    do {
      std::sort(result_.layouts.begin(), result_.layouts.end(), [](const Layout& a, const Layout& b) {
        return std::tie(b.tokens_per_second, a.memory, a.ranks, a.settings) <
               std::tie(a.tokens_per_second, b.memory, b.ranks, b.settings);
      });
      MarkBest();
    } while (WalkLeaders());
    return std::move(result_);
  }

 private:
  // False: all that lead were walked before.
  bool WalkLeaders() {
    const auto& ranks = options_.ranks;
    const bool has_few = *std::max_element(ranks.begin(), ranks.end()) <= kMostBlockRanks;
    const Leaders& limits = has_few ? kFewRanks : kManyRanks;
    bool has_walked = false;
    size_t leaders = 0;
    for (size_t i = 0; i < result_.layouts.size() && leaders < limits.most; ++i) {
      Layout& layout = result_.layouts[i];
      if (i >= limits.first && !layout.is_best) continue;
      ++leaders;
      if (layout.is_exact) continue;
      WalkExactly(layout);
      has_walked = true;
    }
    return has_walked;
  }

  void WalkExactly(Layout& layout) const {
    layout.is_exact = true;
    if (layout.ranks > kMostExactRanks) return;
    const Config config = ParseConfig(ResolvedConfigText(config_), "the layout", layout.settings);
    const MeshShape mesh = MeshShapeOf(config.parallel(), layout.ranks);
    const StepPlan plan = PlanStep(config, mesh, cluster_.description, cluster_.rates);
    const LevelRows rows(plan.rows, plan.experts_of);
    SetStep(layout, WalkLongStep(plan, rows, StepWalkFor(plan, rows)));
  }

  void SetStep(Layout& layout, double step) const {
    layout.step = step;
    layout.tokens_per_second =
        double{1} * config_.train().global_batch() * config_.model().seq_length() / step;
  }

  bool IsFixed(const std::string& field) const {
    return std::find(fixed_.begin(), fixed_.end(), field) != fixed_.end();
  }
  // The values to try of a field.
  std::vector<int> Values(const std::string& field, int given, const std::vector<int>& all) const {
    return IsFixed(field) ? std::vector<int>{given} : all;
  }

  void ForRanks(int ranks) {
    const ParallelConfig& p = config_.parallel();
    const TrainConfig& t = config_.train();
    std::vector<int> all_stages;
    for (int s = 1; s <= config_.model().layers(); ++s) all_stages.push_back(s);
    for (const int replicas : Values("parallel.pool_replicas", p.pool_replicas(), DivisorsOf(ranks))) {
      for (const int stages : Values("parallel.stages", p.stages(), all_stages)) {
        for (const int experts : Values("parallel.experts", p.experts(),
                                        stages > 1 ? std::vector<int>{0, 1} : std::vector<int>{0})) {
          for (const int micro : Values("train.micro_batch", t.micro_batch(), DivisorsOf(t.global_batch()))) {
            Config config = config_;
            config.mutable_parallel()->set_ranks(ranks);
            config.mutable_parallel()->set_pool_replicas(replicas);
            config.mutable_parallel()->set_stages(stages);
            config.mutable_parallel()->set_experts(static_cast<ParallelConfig::Experts>(experts));
            config.mutable_train()->set_micro_batch(micro);
            ForMesh(config, ranks);
          }
        }
      }
    }
  }

  // All candidates of one mesh and microbatch: what is wrong with one of them is wrong with all.
  void ForMesh(Config& config, int ranks) {
    const std::vector<int> both{0, 1};
    const auto recompute_experts =
        Values("train.recompute_experts", config.train().recompute_experts(), both);
    const auto recompute_attention =
        Values("train.recompute_attention", config.train().recompute_attention(), both);
    const auto lanes = Values("parallel.lanes", config.parallel().lanes(), both);
    const auto heads = Heads(config);
    const auto size = static_cast<int64_t>(recompute_experts.size() * recompute_attention.size() *
                                           lanes.size() * heads.size());
    try {
      ValidateConfig(config, ranks);
    } catch (const UserError& error) {
      result_.num_candidates += size;
      const std::string problem = error.problems().empty() ? error.what() : error.problems()[0];
      result_.refused[ReasonOf(problem)] += size;
      result_.examples.try_emplace(ReasonOf(problem), problem);
      return;
    }
    for (const int head : heads) {
      Config with_head = config;
      with_head.mutable_parallel()->set_head(static_cast<ParallelConfig::Head>(head));
      ForHead(with_head, MeshShapeOf(config.parallel(), ranks),
              {recompute_experts, recompute_attention, lanes});
    }
  }

  // AUTO_HEAD is one of the two.
  std::vector<int> Heads(const Config& config) const {
    const bool has_stages = config.parallel().stages() > 1;
    return Values("parallel.head", config.parallel().head(),
                  has_stages ? std::vector<int>{ParallelConfig::LAST_STAGE, ParallelConfig::SPREAD}
                             : std::vector<int>{config.parallel().head()});
  }

  struct Choices {
    std::vector<int> recompute_experts, recompute_attention, lanes;
  };
  void ForHead(Config& config, const MeshShape& mesh, const Choices& choices) {
    for (const std::vector<int>& layers : LayersToTry(config, mesh)) {
      config.mutable_parallel()->mutable_layers_per_stage()->Assign(layers.begin(), layers.end());
      for (const int e : choices.recompute_experts) {
        for (const int a : choices.recompute_attention) {
          config.mutable_train()->set_recompute_experts(e != 0);
          config.mutable_train()->set_recompute_attention(a != 0);
          Memory memory = MemoryOf(config, mesh);
          for (const int lane : choices.lanes) {
            config.mutable_parallel()->set_lanes(static_cast<ParallelConfig::Lanes>(lane));
            ++result_.num_candidates;
            if (static_cast<double>(memory.level) > room_) {
              ++result_.refused[kTooMuchMemory];
            } else {
              Add(config, mesh, memory);
            }
          }
        }
      }
    }
  }

  std::vector<std::vector<int>> LayersToTry(const Config& config, const MeshShape& mesh) const {
    std::vector<std::vector<int>> all{LayersPerStage(config, mesh)};
    if (IsFixed("parallel.layers_per_stage")) return all;
    const std::vector<int> even = EvenLayers(config.model().layers(), mesh.stages);
    if (even != all[0]) all.push_back(even);
    return all;
  }

  struct Memory {
    int64_t level = 0, twice = 0;
  };
  Memory MemoryOf(const Config& asked, const MeshShape& mesh) const {
    // What a run would choose on such a GPU, whatever max_memory says.
    const Config config = WithSizesFor(asked, mesh, std::llround(1e9 * cluster_.config.memory().gigabytes()));
    Memory memory;
    const double slack = 1 + cluster_.config.memory().slack();
    const double fixed = 1e9 * cluster_.config.memory().fixed_gigabytes();
    // The first stage holds most microbatches, the last one the head; others hold less than one of them.
    for (const int stage : {0, mesh.stages - 1}) {
      const int rank = RankOf(mesh, {.stage = stage});
      const auto bytes = [&](double imbalance) {
        const auto planned = static_cast<double>(PlanMemory(config, mesh, rank, imbalance).total());
        return static_cast<int64_t>(planned * slack + fixed);
      };
      memory.level = std::max(memory.level, bytes(kEvenRouting));
      memory.twice = std::max(memory.twice, bytes(2));
      if (mesh.stages == 1) break;
    }
    return memory;
  }

  void Add(const Config& config, const MeshShape& mesh, const Memory& memory) {
    const StepPlan plan = PlanStep(config, mesh, cluster_.description, cluster_.rates);
    const LevelRows rows(plan.rows, plan.experts_of);
    Layout layout{.settings = SettingsOf(config),
                  .ranks = mesh.world(),
                  .memory = memory.level,
                  .memory_twice = memory.twice};
    SetStep(layout, WalkLongStep(plan, rows, WalkOptionsForSearch()));
    result_.layouts.push_back(std::move(layout));
  }

  static WalkOptions WalkOptionsForSearch() {
    return {.detail = WalkDetail::kTotals, .ranks = WalkRanks::kOnePerStage};
  }

  static std::vector<std::string> SettingsOf(const Config& config) {
    const ParallelConfig& p = config.parallel();
    const auto yes = [](bool value) { return value ? "true" : "false"; };
    std::string layers;
    for (const int count : p.layers_per_stage())
      layers += (layers.empty() ? "" : ",") + std::to_string(count);
    std::vector<std::string> settings{Format("parallel.ranks=%d", p.ranks()),
                                      Format("parallel.pool_replicas=%d", p.pool_replicas()),
                                      Format("parallel.stages=%d", p.stages()),
                                      Format("train.micro_batch=%d", config.train().micro_batch())};
    if (p.stages() > 1) {
      settings.push_back("parallel.layers_per_stage=" + layers);
      settings.push_back("parallel.experts=" + ParallelConfig::Experts_Name(p.experts()));
      settings.push_back("parallel.head=" + ParallelConfig::Head_Name(p.head()));
    }
    settings.push_back(Format("train.recompute_experts=%s", yes(config.train().recompute_experts())));
    settings.push_back(Format("train.recompute_attention=%s", yes(config.train().recompute_attention())));
    settings.push_back("parallel.lanes=" + ParallelConfig::Lanes_Name(p.lanes()));
    return settings;
  }

  // Layouts are in descending order of speed: one is beaten by an earlier one with as little memory on as few
  // ranks.
  void MarkBest() {
    std::map<int, int64_t> least;  // memory by ranks
    for (Layout& layout : result_.layouts) {
      bool is_beaten = false;
      for (const auto& [ranks, memory] : least) is_beaten |= ranks <= layout.ranks && memory <= layout.memory;
      layout.is_best = !is_beaten;
      const auto [entry, is_new] = least.try_emplace(layout.ranks, layout.memory);
      entry->second = std::min(entry->second, layout.memory);
    }
  }

  Config config_;
  const Cluster& cluster_;
  const std::vector<std::string>& fixed_;
  const SearchOptions& options_;
  double room_ = 0;
  SearchResult result_;
};

std::string Row(const Layout& layout) {
  std::string settings;
  for (const std::string& setting : layout.settings) {
    if (setting.rfind("parallel.ranks=", 0) == 0) continue;
    settings += " " + setting.substr(setting.find('.') + 1);
  }
  return Format("  %5d %10.4g %10s %11s %11s %s\n", layout.ranks, layout.step,
                FormatCount(static_cast<int64_t>(layout.tokens_per_second)).c_str(),
                FormatBytes(layout.memory).c_str(), FormatBytes(layout.memory_twice).c_str(),
                settings.c_str());
}

}  // namespace

SearchResult SearchLayouts(const Config& config, const Cluster& cluster,
                           const std::vector<std::string>& fixed, const SearchOptions& options) {
  return Search(config, cluster, fixed, options).Run();
}

std::string JoinSettings(const std::vector<std::string>& settings) {
  std::string text;
  for (const std::string& setting : settings) text += (text.empty() ? "" : " ") + setting;
  return text;
}

std::string NoLayoutText(const SearchResult& result) {
  if (!result.layouts.empty()) return "";
  const auto most = std::max_element(result.refused.begin(), result.refused.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == result.refused.end()) return "No layout validates and fits: there is no candidate.";
  const auto example = result.examples.find(most->first);
  const auto memory = result.refused.find(kTooMuchMemory);
  const std::string others = memory == result.refused.end() || memory == most
                                 ? ""
                                 : Format("; all %d that validate need too much memory", memory->second);
  return Format("No layout validates and fits; most often (%d of %d) because of %s%s", most->second,
                result.num_candidates,
                example == result.examples.end() ? most->first.c_str() : example->second.c_str(),
                others.c_str());
}

std::string SearchText(const SearchResult& result, int top, const std::string& command) {
  const std::string head =
      Format("  %5s %10s %10s %11s %11s  settings\n", "ranks", "step s", "tokens/s", "memory", "twice rows");
  std::string text =
      Format("%d candidates, %d of them validate and fit\n", result.num_candidates, result.layouts.size());
  for (const std::string& ranks : result.left_out) text += "left out: " + ranks + "\n";
  if (!result.layouts.empty()) {
    text += "\nFastest\n" + head;
    for (size_t i = 0; i < std::min<size_t>(top, result.layouts.size()); ++i) text += Row(result.layouts[i]);
    text += "\nNo other is as fast with as little memory on as few ranks\n" + head;
    int shown = 0;
    for (const Layout& layout : result.layouts) {
      if (layout.is_best && shown++ < top) text += Row(layout);
    }
  }
  if (result.layouts.empty()) text += NoLayoutText(result) + "\n";
  if (!result.refused.empty()) text += "\nRefused, by the first reason\n";
  for (const auto& [reason, count] : result.refused) text += Format("  %8d  %s\n", count, reason.c_str());
  if (!result.layouts.empty())
    text += "\nThe fastest:\n  " + command + " " + JoinSettings(result.layouts[0].settings) + "\n";
  return text;
}

std::string SearchJson(const SearchResult& result, int top) {
  nlohmann::json layouts = nlohmann::json::array(), refused = nlohmann::json::object();
  int shown = 0;
  for (const Layout& layout : result.layouts) {
    if (shown++ >= top && !layout.is_best) continue;
    layouts.push_back({{"settings", layout.settings},
                       {"ranks", layout.ranks},
                       {"step_seconds", layout.step},
                       {"tokens_per_second", layout.tokens_per_second},
                       {"memory", layout.memory},
                       {"memory_twice", layout.memory_twice},
                       {"pareto", layout.is_best}});
  }
  for (const auto& [reason, count] : result.refused) refused[reason] = count;
  return nlohmann::json{{"candidates", result.num_candidates},
                        {"feasible", result.layouts.size()},
                        {"layouts", layouts},
                        {"refused", refused},
                        {"no_layout", NoLayoutText(result)},
                        {"left_out", result.left_out}}
      .dump();
}

}  // namespace unipool
