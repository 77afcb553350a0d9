#include "launcher/reports/run_words.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "kernels/bf16_products.h"
#include "launcher/data/token_dataset.h"
#include "launcher/data/token_source.h"
#include "launcher/reports/readable_number.h"
#include "models/parameter_count.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

// "1 stage", "2 stages".
std::string Counted(int64_t count, const std::string& thing) {
  const char* ending = thing.ends_with("ch") ? "es" : "s";
  return std::to_string(count) + " " + thing + (count == 1 ? "" : ending);
}

std::string ModelLine(const Config& config) {
  const MoeConfig& moe = config.moe();
  const int layers = config.model().layers();
  std::string experts =
      Format("%s share %s", Counted(layers, "layer").c_str(), Counted(moe.experts(), "expert").c_str());
  if (moe.sharing() == Sharing::PRIVATE)
    experts = Format("%s with %s each", Counted(layers, "layer").c_str(),
                     Counted(moe.experts() / layers, "expert").c_str());
  if (moe.sharing() == Sharing::GROUPED) experts += Format(" in %d groups", moe.groups());
  if (moe.sharing() == Sharing::SLIDING) experts += Format(" in bands of %d", moe.band());
  if (moe.sharing() == Sharing::DENSE)
    experts = Counted(layers, "layer") + ", no experts";
  else
    experts += Format(", top %d", moe.top_k());
  return Format("model   %s parameters, %s active: %s", FormatCount(CountParameters(config).total()).c_str(),
                FormatCount(CountActiveParameters(config)).c_str(), experts.c_str());
}

std::string DeviceLine(const Config& config, const World& world) {
  const std::set<std::string> hosts(world.hosts.begin(), world.hosts.end());
  std::string where = hosts.size() > 1 ? Counted(static_cast<int64_t>(hosts.size()), "host") : "";
  if (hosts.size() == 1) where = *hosts.begin();
  if (world.emulation) where += ", emulating " + config.parallel().emulate();
  const std::string& name = DeviceType::Value_Name(config.device());
  const char* device = name.c_str();
  const std::string ranks = Counted(world.size(), "rank");
  if (!world.is_mpi && world.size() == 1) return Format("device  %s, 1 rank on %s", device, where.c_str());
  return Format("device  %s, %s (%s) on %s", device, ranks.c_str(),
                world.is_mpi ? "processes" : "threads of one process", where.c_str());
}

// What multiplies BF16 numbers on the CPU; nothing where that is not asked for.
std::string ProductsLine(const Config& config) {
  if (config.device() != DeviceType::CPU || TypesOfConfig(config).products != DType::kBF16) return "";
  return "products of BF16 numbers: " + Bf16ProductsText() + "\n";
}

// "book.txt", "book.txt and 3 more".
std::string SourceNames(const Config& config) {
  std::string text;
  const auto& train = config.data().train();
  const std::vector<BlendEntry> entries = ParseBlend({train.begin(), train.end()}, "data.train");
  if (!entries.empty()) text = entries[0].source;
  if (entries.size() > 1) text += Format(" and %d more", static_cast<int>(entries.size()) - 1);
  return text;
}

std::string DataLine(const Config& config, int64_t data_tokens) {
  const TrainConfig& train = config.train();
  const int64_t step_tokens = int64_t{train.global_batch()} * config.model().seq_length();
  const int64_t tokens = step_tokens * train.steps();
  return Format("data    %s tokens of %s; %d steps x %s = %s tokens, %.2g epochs",
                FormatCount(data_tokens).c_str(), SourceNames(config).c_str(), train.steps(),
                FormatCount(step_tokens).c_str(), FormatCount(tokens).c_str(),
                static_cast<double>(tokens) / static_cast<double>(data_tokens));
}

std::string LayoutLine(const Config& config, int world_size) {
  const MeshShape shape = MeshShapeOf(config.parallel(), world_size);
  const MoeConfig& moe = config.moe();
  std::string text = "layout  ";
  if (shape.replicas > 1) text += Format("%d copies", shape.replicas) + " of the pool x ";
  if (shape.stages > 1) text += Counted(shape.stages, "stage") + " x ";
  text += Counted(shape.data, "data rank");
  if (moe.sharing() != Sharing::DENSE && shape.pool() > 1) {
    text += Format("; %d experts over %d ranks", moe.experts(), shape.pool());
  }
  return text + Format("; %s of %s x %d tokens",
                       Counted(MicrobatchesPerRank(config, shape), "microbatch").c_str(),
                       FormatCount(config.train().micro_batch()).c_str(), config.model().seq_length());
}

}  // namespace

std::string OpeningText(const Config& config, const World& world, int64_t data_tokens) {
  return ModelLine(config) + "\n" + DeviceLine(config, world) + "\n" + ProductsLine(config) +
         DataLine(config, data_tokens) + "\n" + LayoutLine(config, world.size());
}

std::vector<std::string> DataWarnings(const Config& config) {
  std::vector<std::string> warnings;
  std::set<std::string> seen;
  for (const auto* sources : {&config.data().train(), &config.data().valid()}) {
    if (sources->empty()) continue;
    for (const BlendEntry& entry : ParseBlend({sources->begin(), sources->end()}, "data")) {
      const bool is_json = entry.source.ends_with(".jsonl") && FilesOfTokenSource(entry.source).size() == 1;
      if (!is_json || !seen.insert(entry.source).second) continue;
      warnings.push_back(
          entry.source +
          " is read as plain bytes, with its JSON marks; `unipool tokenize` makes a dataset of its texts");
    }
  }
  return warnings;
}

std::string ClosingText(const Config& config, const StartSummary& summary, double seconds,
                        const std::string& program) {
  if (summary.first_step == 0) return "";
  const int64_t steps = summary.last_step - summary.first_step + 1;
  const double step_seconds = std::max(summary.step_seconds, 1e-9);
  const int64_t speed = std::llround(static_cast<double>(summary.tokens) / step_seconds);
  std::string text = Format("done    %s in %s at %s tokens/s; loss %.4f -> %.4f",
                            Counted(steps, "step").c_str(), FormatDuration(seconds).c_str(),
                            FormatCount(speed).c_str(), summary.first_loss, summary.last_loss);
  if (summary.validation) text += Format(", valid %.4f", summary.validation->loss);
  if (summary.last_step < config.train().steps()) return text;
  return text +
         Format("\nnext    %s generate %s --prompt \"The \"", program.c_str(), config.run_dir().c_str());
}

std::string OwnersText(const OwnerAssignment& decided, int64_t step, int64_t lock_step) {
  const auto layers = static_cast<int64_t>(decided.coverage.size());
  const auto experts = static_cast<int64_t>(decided.owner.size());
  const auto least = std::min_element(decided.coverage.begin(), decided.coverage.end());
  std::string how;
  switch (decided.rule) {
    case AssignmentRule::kCovered:
      how = "by choices";
      break;
    case AssignmentRule::kCoveredOpen:
      how = "by choices, perhaps not the best way";
      break;
    case AssignmentRule::kMostCovered:
      how = "no way covers moe.lock.coverage, so the one that covers most";
      break;
    case AssignmentRule::kMostCoveredOpen:
      how = "none was found that covers moe.lock.coverage, so the one that covers most";
      break;
    case AssignmentRule::kRandom:
      how = "drawn";
      break;
  }
  return Format(
      "lock: at step %d each layer got %d experts (%s); they cover %.1f %% of its choices, in layer %d, "
      "which has "
      "least, %.1f %%; other experts fade until step %d",
      step, experts / layers, how.c_str(),
      100 * std::accumulate(decided.coverage.begin(), decided.coverage.end(), 0.0) /
          static_cast<double>(layers),
      least - decided.coverage.begin(), 100 * *least, lock_step);
}

}  // namespace unipool
