#include <gflags/gflags.h>

#include <algorithm>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/data/batch_reader.h"
#include "launcher/data/data_tokenizer.h"
#include "launcher/experts/expert_evaluation.h"
#include "launcher/experts/expert_figures.h"
#include "launcher/experts/saved_model.h"
#include "launcher/inference.h"
#include "launcher/standard_output.h"
#include "launcher/start_check.h"
#include "launcher/world_options.h"

DECLARE_string(split);
DECLARE_int64(sequences);
DEFINE_int64(
    without, 0,
    "experts: also the exact loss without each of so many most important and least important experts");
DEFINE_bool(margin, false, "experts: also the decision margin behind each layer");

namespace unipool {
namespace {

void CheckFlags(const Config& config) {
  CheckSequences(FLAGS_sequences);
  if (FLAGS_without < 0) throw UserError(Format("--without=%d: must be 0 (none) or more", FLAGS_without));
  if (FLAGS_without > 0 && config.moe().sharing() == Sharing::DENSE)
    throw UserError("--without: a dense model chooses no experts, so none can be left out");
}

// The first and last n of the ranked experts.
std::vector<ExpertUseOf*> Ends(std::vector<ExpertUseOf>& ranked, int64_t n) {
  const auto size = static_cast<int64_t>(ranked.size());
  std::vector<ExpertUseOf*> ends;
  for (int64_t i = 0; i < size; ++i) {
    if (i < n || i >= size - n) ends.push_back(&ranked[i]);
  }
  return ends;
}

}  // namespace

int ExpertsCommand(const CommandLine& command_line) {
  const Split split = SplitNamed(FLAGS_split);
  Config config = LoadConfig(command_line);
  CheckFlags(config);
  const WorldOptions options = WorldOptionsOf(config);
  FitToRanks(WorldSize(options), config);
  ValidateConfig(config, WorldSize(options));
  return RunWorld(options, [&](World& world) {
    CheckSameSettings(config, world);
    CheckSameData(config, world);
    std::unique_ptr<TokenDataset> dataset;
    RunTogether(*world.communicator, [&] { dataset = OpenDataset(DatasetOptionsOf(config), split); });
    ExpertReport report{.checkpoint = FindWeights(command_line, config, world), .split = FLAGS_split};
    RunTogether(*world.communicator, [&] {
      if (world.rank() == 0) CheckDataTokenizer(report.checkpoint, config);
    });
    TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
    LoadForInference(report.checkpoint, config, world, engine);
    ImportanceHistory& history = engine.parts().use.history;
    RunTogether(*world.communicator, [&] { ReadHistory(report.checkpoint, history); });
    report.sequences = dataset->samples_per_epoch();
    if (FLAGS_sequences > 0) report.sequences = std::min(report.sequences, FLAGS_sequences);
    BatchReader reader(*dataset, engine, *world.communicator, config.train().micro_batch(),
                       config.model().seq_length());
    ExpertEvaluation evaluation(engine, reader, world, report.sequences);
    report.loss = evaluation.Count(FLAGS_margin, report.tables);
    report.experts = RankedExperts(report.tables);
    for (ExpertUseOf* expert : Ends(report.experts, FLAGS_without))
      expert->loss_without = evaluation.LossWithout(expert->expert);
    if (world.rank() != 0) return;
    PrintResult(command_line.json ? ExpertReportJson(report).dump() + "\n" : ExpertReportText(report));
  });
}

}  // namespace unipool
