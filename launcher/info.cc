#include "launcher/info.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "kernels/bf16_products.h"
#include "kernels/cuda_context.h"
#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/reports/readable_number.h"
#include "launcher/standard_output.h"
#include "models/memory_plan.h"
#include "models/model_spec.h"
#include "models/parameter_count.h"
#include "models/settings.h"
#include "models/size_choice.h"
#include "models/stage_layers.h"
#include "parallel/mesh.h"
#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

Json ParametersJson(const Config& config) {
  const ParameterCount count = CountParameters(config);
  return {{"embedding", count.embedding}, {"head", count.head},
          {"attention", count.attention}, {"router", count.router},
          {"experts", count.experts},     {"norms", count.norms},
          {"total", count.total()},       {"active", CountActiveParameters(config)}};
}

// Early in training a rank gets up to about this many times its even share of the rows.
constexpr double kEarlyImbalance = 2;

// Predicted peak of a rank by kind.
Json MemoryJson(const Config& config, const MeshShape& shape, int rank, double imbalance) {
  const MemoryPlan plan = PlanMemory(config, shape, rank, imbalance);
  Json bytes;
  for (int i = 0; i < kNumMemoryKinds; ++i) bytes[NameOf(static_cast<MemoryKind>(i))] = plan.parts()[i];
  bytes["total"] = plan.total();
  return bytes;
}

Json RankJson(const Config& config, const MeshShape& shape, int rank) {
  const ParameterCount count = CountParametersOfRank(config, shape, rank);
  const int pool_rank = rank % shape.pool(), stage = PositionOf(shape, rank).stage;
  return {{"rank", rank},
          {"stage", stage},
          {"layers", LayersPerStage(config, shape)[stage]},
          {"experts", EvenPartition(config.moe().experts(), shape.pool(), pool_rank).size()},
          {"parameters", count.total()},
          {"memory_bytes", MemoryJson(config, shape, rank, kEvenRouting)},
          {"memory_bytes_at_imbalance_2", MemoryJson(config, shape, rank, kEarlyImbalance)},
          {"memory_bytes_worst_case", MemoryJson(config, shape, rank, kAllRowsHere)}};
}

// Layers of the stages and what waiting is predicted to cost, beside an even cut.
Json PipelineJson(const Config& config, const MeshShape& shape) {
  const StageWork work = EstimateWork(config);
  const HeadPlace head_place = HeadPlaceOf(config, shape);
  const auto bubble = [&](const std::vector<int>& layers, HeadPlace place) {
    const SlotSchedule schedule(layers, MicrobatchesPerRank(config, shape), /*forward_only=*/false, place);
    return std::max(0.0, 1 - IdealStepTime(schedule, work) / PredictStepTime(schedule, work, shape.span));
  };
  // With the head at its other place, the layers that are best for it.
  const bool is_spread = head_place == HeadPlace::kSpread;
  Config other = config;
  other.mutable_parallel()->set_head(is_spread ? ParallelConfig::LAST_STAGE : ParallelConfig::SPREAD);
  const std::vector<int> layers = LayersPerStage(config, shape), other_layers = LayersPerStage(other, shape);
  return {{"layers_per_stage", layers},
          {"chosen", config.parallel().layers_per_stage().empty()},
          {"microbatches", MicrobatchesPerRank(config, shape)},
          {"head_in_layers", work.head / work.dense},
          {"head", is_spread ? "SPREAD" : "LAST_STAGE"},
          {"head_chosen", config.parallel().head() == ParallelConfig::AUTO_HEAD},
          {"bubble", bubble(layers, head_place)},
          {"bubble_of_even_layers", bubble(EvenLayers(config.model().layers(), shape.stages), head_place)},
          {"bubble_of_other_head", bubble(other_layers, HeadPlaceOf(other, shape))}};
}

std::string PipelineText(const Json& pipeline) {
  std::string layers;
  for (const Json& count : pipeline["layers_per_stage"]) {
    layers += (layers.empty() ? "" : ", ") + std::to_string(count.get<int>());
  }
  const bool is_spread = pipeline["head"] == "SPREAD";
  return Format(
      "\nStages: layers %s (%s; the head is %.1f layers' dense work)\n"
      "Predicted bubble: %.1f %% of a step of %d microbatches, %.1f %% with even layers\n"
      "Head: %s (%s), %s\n"
      "Predicted bubble with parallel.head=%s: %.1f %%\n",
      layers.c_str(), pipeline["chosen"].get<bool>() ? "chosen" : "given",
      pipeline["head_in_layers"].get<double>(), 100 * pipeline["bubble"].get<double>(),
      pipeline["microbatches"].get<int>(), 100 * pipeline["bubble_of_even_layers"].get<double>(),
      pipeline["head"].get<std::string>().c_str(), pipeline["head_chosen"].get<bool>() ? "chosen" : "given",
      is_spread ? "every stage computes a share of the tokens" : "on the last stage",
      is_spread ? "LAST_STAGE" : "SPREAD", 100 * pipeline["bubble_of_other_head"].get<double>());
}

// Of copies of other ranks' experts: what their room takes on a rank, and what the rank receives and sends in
// a step in which all of them are used.
Json ShadowsJson(const Config& config, const MeshShape& shape) {
  const DType dtype = TypesOfConfig(config).products;
  const int64_t elements =
      int64_t{ShadowsPerRank(config, shape)} * 3 * config.moe().width() * config.model().hidden();
  const int64_t weights = elements * SizeOf(dtype), gradients = elements * SizeOf(AccumulatorOf(dtype));
  return {{"per_rank", ShadowsPerRank(config, shape)},
          {"memory_bytes", weights + gradients},
          {"most_bytes_received_per_step", weights},
          {"most_bytes_sent_per_step", gradients}};
}

std::string PrecisionText(const Config& config) {
  const ComputeTypes types = TypesOfConfig(config);
  if (types.products != DType::kBF16) return "fp32";
  if (types.activations == DType::kBF16) return "bf16 with fp32 masters";
  return std::string("products of bf16 with fp32 masters, ") + Bf16ProductsText();
}

std::string ShadowsText(const Json& shadows) {
  return Format(
      "\nShadows: room for %d on each rank, %s of its memory. In a step in which all\n"
      "are used a rank receives %s of weights and sends %s of gradients\n",
      shadows["per_rank"].get<int>(), FormatBytes(shadows["memory_bytes"]).c_str(),
      FormatBytes(shadows["most_bytes_received_per_step"]).c_str(),
      FormatBytes(shadows["most_bytes_sent_per_step"]).c_str());
}

// Neighbouring ranks that hold the same, as one.
struct RankGroup {
  std::string name;  // "0-3"
  const Json& row;
};
std::vector<RankGroup> GroupRanks(const Json& ranks) {
  auto same = [](Json a, Json b) {
    a.erase("rank");
    b.erase("rank");
    return a == b;
  };
  std::vector<RankGroup> groups;
  for (size_t begin = 0, end = 0; begin < ranks.size(); begin = end) {
    while (end < ranks.size() && same(ranks[begin], ranks[end])) ++end;
    std::string name = std::to_string(begin);
    if (end - begin > 1) name.append("-").append(std::to_string(end - 1));
    groups.push_back({name, ranks[begin]});
  }
  return groups;
}

// Two tables that fit 80 columns: what a rank holds with its peaks, and the parts of the first peak.
std::string RankTables(const Json& ranks) {
  std::string text = Format("%-9s %5s %6s %7s %10s %11s %11s %11s\n", "rank", "stage", "layers", "experts",
                            "parameters", "even", "twice", "all");
  const std::vector<RankGroup> groups = GroupRanks(ranks);
  for (const auto& [name, row] : groups) {
    const Json& json = row;
    auto total = [&](const char* key) { return FormatBytes(json[key]["total"].get<int64_t>()); };
    text += Format("%-9s %5d %6d %7d %10s %11s %11s %11s\n", name.c_str(), json["stage"].get<int>(),
                   json["layers"].get<int>(), json["experts"].get<int>(),
                   FormatCount(json["parameters"]).c_str(), total("memory_bytes").c_str(),
                   total("memory_bytes_at_imbalance_2").c_str(), total("memory_bytes_worst_case").c_str());
  }
  text += Format("\nOf which with even routing\n%-9s %11s %11s %11s %11s %10s %10s\n", "rank", "weights",
                 "gradients", "optimizer", "activations", "exchange", "scratch");
  for (const auto& [name, row] : groups) {
    const Json& memory = row["memory_bytes"];
    auto bytes = [&](const char* kind) { return FormatBytes(memory[kind].get<int64_t>()); };
    text += Format("%-9s %11s %11s %11s %11s %10s %10s\n", name.c_str(), bytes("weights").c_str(),
                   bytes("gradients").c_str(), bytes("optimizer").c_str(), bytes("activations").c_str(),
                   bytes("exchange").c_str(), bytes("scratch").c_str());
  }
  return text;
}

}  // namespace

Json InfoJson(const Config& config, int world_size) {
  const MeshShape shape = MeshShapeOf(config.parallel(), world_size);
  Json info = {
      {"vocab_rows", PaddedVocab(config.model())},
      {"parameters", ParametersJson(config)},
      {"world",
       {{"ranks", world_size}, {"replicas", shape.replicas}, {"stages", shape.stages}, {"data", shape.data}}},
      {"pipeline", PipelineJson(config, shape)},
      {"shadows", ShadowsJson(config, shape)},
      {"ranks", Json::array()}};
  const Config resolved = WithChoices(config, shape);
  for (int rank = 0; rank < world_size; ++rank) info["ranks"].push_back(RankJson(resolved, shape, rank));
  return info;
}

std::string InfoText(const Config& config, int world_size) {
  const Json info = InfoJson(config, world_size);
  const Json& parameters = info["parameters"];
  const ModelConfig& model = config.model();
  std::string text = Format("Parameters (%d layers, %d experts,\n  vocabulary %d", model.layers(),
                            config.moe().experts(), model.vocab());
  if (PaddedVocab(model) != model.vocab()) {
    text += Format(" padded to %d rows, a multiple of %d", PaddedVocab(model), model.vocab_multiple());
  }
  text += ")\n";
  for (const char* kind :
       {"embedding", "head", "attention", "router", "experts", "norms", "total", "active"}) {
    const int64_t count = parameters[kind];
    text += Format("  %-10s %9s  %14d\n", kind, FormatCount(count).c_str(), count);
  }
  const Json& world = info["world"];
  if (world["stages"] > 1) text += PipelineText(info["pipeline"]);
  if (info["shadows"]["per_rank"] > 0) text += ShadowsText(info["shadows"]);
  text += Format(
      "\nPer rank: %d ranks = %d pool replicas x %d stages x %d data ranks; %s, AdamW.\n"
      "Predicted peak of its memory in training: with even routing, when it gets twice\n"
      "its share of the rows (as early in training), and when it gets all of them\n",
      world["ranks"].get<int>(), world["replicas"].get<int>(), world["stages"].get<int>(),
      world["data"].get<int>(), PrecisionText(config).c_str());
  text += RankTables(info["ranks"]);
  if (config.device() == DeviceType::CUDA) {
    text += Format("with weight gradients of %d slots at once (train.weight_grad_slots)\n",
                   WeightGradSlots(config));
    text += Format("and logits of %d tokens (train.head_tokens)\n", HeadTokens(config));
    text += "what CUDA, cuBLAS and NCCL hold of each GPU is not in this, and not measured yet\n";
  }
  return text;
}

namespace {

// Memory of this machine's GPU; 0 where it has none, since `info` says what is needed elsewhere too.
int64_t DeviceBytes() {
  try {
    return AskCudaDevice(0).total_bytes;
  } catch (const UserError&) {
    return 0;
  }
}

// The plan of a run here: each rank with a GPU as this machine's.
Config WithSizesOfThisMachine(const Config& config, int world_size) {
  if (!LeavesSizesOpen(config)) return config;
  return WithSizesFor(config, MeshShapeOf(config.parallel(), world_size), DeviceBytes());
}

}  // namespace

int InfoCommand(const CommandLine& command_line) {
  const Config asked = LoadConfig(command_line);
  const int world_size = asked.parallel().ranks();
  ValidateConfig(asked, world_size);
  if (!IsPrintingProcess()) return 0;
  const Config config = WithSizesOfThisMachine(asked, world_size);
  const std::string text =
      command_line.json ? InfoJson(config, world_size).dump() + "\n" : InfoText(config, world_size);
  PrintResult(text);
  return 0;
}

}  // namespace unipool
