#include <gflags/gflags.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/data/batch_reader.h"
#include "launcher/experts/expert_evaluation.h"
#include "launcher/experts/pool_shrinking.h"
#include "launcher/experts/saved_model.h"
#include "launcher/inference.h"
#include "launcher/nearest_name.h"
#include "launcher/standard_output.h"
#include "launcher/world_options.h"
#include "models/kept_experts.h"
#include "runtime/world.h"

DECLARE_string(out);
DECLARE_string(split);
DECLARE_int64(sequences);
DEFINE_int64(to, 0, "shrink: experts that stay");
DEFINE_string(criterion, "ucb", "shrink: what they are chosen by: ucb, counts or random");

namespace unipool {
namespace {

ShrinkBy::Value ByNamed(const std::string& name) {
  if (name == "ucb") return ShrinkBy::UCB;
  if (name == "counts") return ShrinkBy::COUNTS;
  if (name == "random") return ShrinkBy::RANDOM;
  throw UserError("--criterion=" + name + ": must be ucb, counts or random");
}

struct Shrunk {
  std::string from, checkpoint;
  std::vector<int64_t> kept;
  double loss_before = 0, loss_after = 0;
};

std::string TextOf(const Shrunk& shrunk, const Config& config, int64_t sequences) {
  std::string experts;
  for (const int64_t i : shrunk.kept) {
    if (experts.size() - std::min(experts.size(), experts.rfind('\n') + 1) > 70) experts += "\n";
    experts += (experts.empty() || experts.back() == '\n' ? "" : " ") + std::to_string(i);
  }
  return Format(
             "%s: %d of %d experts stay (by %s)\n%s\nloss on %d sequences of the %s split: %.6f before, %.6f "
             "after\n",
             shrunk.from.c_str(), shrunk.kept.size(), config.moe().experts(), FLAGS_criterion.c_str(),
             experts.c_str(), sequences, FLAGS_split.c_str(), shrunk.loss_before, shrunk.loss_after) +
         "wrote " + shrunk.checkpoint + "\nto go on: unipool train " + FLAGS_out + "/config.txtpb\n";
}

std::string JsonOf(const Shrunk& shrunk, int64_t sequences) {
  return nlohmann::ordered_json{{"from", shrunk.from},
                                {"checkpoint", shrunk.checkpoint},
                                {"criterion", FLAGS_criterion},
                                {"kept", shrunk.kept},
                                {"sequences", sequences},
                                {"loss_before", shrunk.loss_before},
                                {"loss_after", shrunk.loss_after}}
             .dump() +
         "\n";
}

double LossOf(const std::string& checkpoint, const Config& config, World& world, const TokenDataset& dataset,
              int64_t sequences) {
  TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
  LoadForInference(checkpoint, config, world, engine);
  BatchReader reader(dataset, engine, *world.communicator, config.train().micro_batch(),
                     config.model().seq_length());
  return MeanLoss(engine, reader, sequences)->loss;
}

// Experts to keep of a model that no layer has lost experts of yet.
std::vector<int64_t> Choose(const std::string& checkpoint, const Config& config, ShrinkBy::Value by) {
  ImportanceHistory history(MakeModelSpec(config));
  ReadHistory(checkpoint, history);
  if (by != ShrinkBy::RANDOM && !history.exists()) {
    throw UserError(
        checkpoint +
        ": holds no importance of experts, which ten steps of training measure; train on and save, or use "
        "--criterion random");
  }
  return KeptExperts(config, KeepScore(by, history, config.train().seed()), FLAGS_to);
}

}  // namespace

int ShrinkCommand(const CommandLine& command_line) {
  const ShrinkBy::Value by = ByNamed(FLAGS_criterion);
  const Split split = SplitNamed(FLAGS_split);
  CheckSequences(FLAGS_sequences);
  CheckOutFolder(FLAGS_out);
  if (FLAGS_to == 0) throw UserError("--to: is missing; say how many experts stay");
  Config config = LoadConfig(command_line);
  if (const std::string why = WhyNotShrink(config, FLAGS_to); !why.empty())
    throw UserError(Format("--to=%d: ", FLAGS_to) + why);
  RunAlone(config);
  return RunWorld(WorldOptionsOf(config), [&](World& world) {
    const std::string checkpoint = FindWeights(command_line, config, world);
    SavedModel model = ReadSavedModel(checkpoint);
    CheckAllMayChoose(checkpoint, model);
    Shrunk shrunk{.from = checkpoint, .kept = Choose(checkpoint, config, by)};
    const std::unique_ptr<TokenDataset> dataset = OpenDataset(DatasetOptionsOf(config), split);
    int64_t sequences = dataset->samples_per_epoch();
    if (FLAGS_sequences > 0) sequences = std::min(sequences, FLAGS_sequences);
    std::vector<double> ratios;
    {
      TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
      LoadForInference(checkpoint, config, world, engine);
      BatchReader reader(*dataset, engine, *world.communicator, config.train().micro_batch(),
                         config.model().seq_length());
      shrunk.loss_before = ExpertEvaluation(engine, reader, world, sequences).NormRatios(shrunk.kept, ratios);
    }
    ShrinkPool(model, shrunk.kept, ratios);
    shrunk.checkpoint = WriteSavedModel(FLAGS_out, model);
    Config small = config;
    *small.mutable_moe() = model.config.moe();
    shrunk.loss_after = LossOf(shrunk.checkpoint, small, world, *dataset, sequences);
    PrintResult(command_line.json ? JsonOf(shrunk, sequences) : TextOf(shrunk, config, sequences));
  });
}

}  // namespace unipool
