#include <gflags/gflags.h>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/data/data_tokenizer.h"
#include "launcher/data/text_bytes.h"
#include "launcher/inference.h"
#include "launcher/logits_file.h"
#include "launcher/reports/run_words.h"
#include "launcher/standard_output.h"
#include "launcher/start_check.h"
#include "launcher/tasks/eval_tasks.h"
#include "launcher/trainer.h"
#include "launcher/world_options.h"
#include "runtime/communicator.h"

DEFINE_string(split, "valid", "eval: which split of the data: train, valid or test");
DEFINE_int64(
    sequences, 0,
    "eval: sequences to evaluate, from the first; 0: the whole split, each sequence of each source once, "
    "sources counting by their weights");
DEFINE_string(
    logits, "",
    "eval: also write tokens and logits of the --sequences first sequences to this safetensors file; "
    "on one rank");
DEFINE_string(
    tasks, "",
    "eval: instead of a split these tasks, NAME=FILE or NAME=FOLDER with commas between, or NAME of "
    "--task_data: lambada, hellaswag, piqa, arc_easy, arc_challenge, winogrande, boolq, openbookqa, "
    "siqa; the files are JSON lines (launcher/tasks/TASKS.md)");
DEFINE_string(task_data, "", "eval: folder with files NAME.jsonl for --tasks");
DEFINE_int64(limit, 0, "eval: of each of --tasks only so many items, the first; 0: all");
DEFINE_string(log_samples, "",
              "eval: also write each item's scores of --tasks to this file, a JSON line each");

namespace unipool {

namespace {

void CheckLogitsFlag(const WorldOptions& options) {
  if (FLAGS_logits.empty()) return;
  Problems problems;
  if (FLAGS_sequences < 1)
    problems.Add("--logits=" + FLAGS_logits + ": needs --sequences N, of how many sequences");
  if (WorldSize(options) != 1)
    problems.Add(
        Format("--logits=%s: needs one rank, and there are %d; give parallel.ranks=1, without mpirun",
               FLAGS_logits.c_str(), WorldSize(options)));
  problems.ThrowIfAny();
}

bool IsGiven(const char* flag) {
  return !gflags::GetCommandLineFlagInfoOrDie(flag).is_default;
}

void CheckTaskFlags() {
  Problems problems;
  const bool has_tasks = IsGiven("tasks");
  for (const char* flag : {"split", "sequences", "logits"}) {
    if (has_tasks && IsGiven(flag))
      problems.Add(Format("--%s is of a split and --tasks are none: leave one of them out", flag));
  }
  for (const char* flag : {"task_data", "limit", "log_samples"}) {
    if (!has_tasks && IsGiven(flag))
      problems.Add(Format("--%s: goes with --tasks, which is not given", flag));
  }
  if (FLAGS_limit < 0) problems.Add(Format("--limit=%d: must be 0 (all items) or more", FLAGS_limit));
  problems.ThrowIfAny();
}

struct Evaluation {
  std::string checkpoint;
  MeanLosses losses;
  int64_t sequences = 0, tokens = 0;
  double bytes_per_token = 0;  // text_bytes.h; 0: not known
};

void Print(const CommandLine& line, const Evaluation& evaluation) {
  const double loss = evaluation.losses.loss, bytes = evaluation.bytes_per_token;
  const std::vector<NamedNumber>& by_source = evaluation.losses.by_source;
  if (line.json) {
    nlohmann::json result{{"split", FLAGS_split},
                          {"loss", loss},
                          {"perplexity", std::exp(loss)},
                          {"checkpoint", evaluation.checkpoint},
                          {"sequences", evaluation.sequences},
                          {"tokens", evaluation.tokens}};
    if (bytes > 0) result["loss_per_byte"] = loss / bytes;
    if (bytes > 0) result["bits_per_byte"] = BitsPerByte(loss, bytes);
    for (const NamedNumber& source : by_source)
      result["by_source"].push_back({{"source", source.name}, {"loss", source.value}});
    PrintResult(result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return;
  }
  std::string text = Format("%s\n%s split, %d tokens: loss %.6f, perplexity %.4f", evaluation.checkpoint,
                            FLAGS_split, evaluation.tokens, loss, std::exp(loss));
  if (bytes > 0) {
    text += Format(", %.6f nats a byte, %.6f bits a byte", loss / bytes, BitsPerByte(loss, bytes));
  }
  text += "\n";
  for (const NamedNumber& source : by_source)
    text += Format("  %s: loss %.6f, perplexity %.4f\n", source.name, source.value, std::exp(source.value));
  PrintResult(text);
}

}  // namespace

int EvalCommand(const CommandLine& command_line) {
  CheckTaskFlags();
  if (IsGiven("tasks")) {
    return EvalTasks(command_line, {.tasks = FLAGS_tasks,
                                    .folder = FLAGS_task_data,
                                    .limit = FLAGS_limit,
                                    .samples = FLAGS_log_samples});
  }
  const Split split = SplitNamed(FLAGS_split);
  CheckSequences(FLAGS_sequences);
  Config config = LoadConfig(command_line);
  const WorldOptions options = WorldOptionsOf(config);
  CheckLogitsFlag(options);
  FitToRanks(WorldSize(options), config);
  ValidateConfig(config, WorldSize(options));
  return RunWorld(options, [&](World& world) {
    CheckSameSettings(config, world);
    CheckSameData(config, world);
    std::unique_ptr<TokenDataset> dataset;
    std::optional<TokenizerFile> tokenizer;
    RunTogether(*world.communicator, [&] {
      tokenizer = TokenizerOfData(config);  // first: it knows how many tokens there are
      dataset = OpenDataset(DatasetOptionsOf(config), split);
    });
    for (const std::string& warning : DataWarnings(config)) {
      if (world.rank() == 0) PrintErrorLine("warning: " + warning);
    }
    const std::string checkpoint = FindWeights(command_line, config, world);
    RunTogether(*world.communicator, [&] {
      if (world.rank() == 0) CheckDataTokenizer(checkpoint, config);
      if (world.rank() == 0 && !tokenizer) tokenizer = FindTokenizerFile(checkpoint + "/" + kTokenizerFile);
    });
    TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
    LoadForInference(checkpoint, config, world, engine);
    int64_t sequences = dataset->samples_per_epoch();
    if (FLAGS_sequences > 0) sequences = std::min(sequences, FLAGS_sequences);
    const int64_t seq_length = config.model().seq_length();
    BatchReader reader(*dataset, engine, *world.communicator, config.train().micro_batch(), seq_length);
    const MeanLosses losses = *MeanLoss(engine, reader, sequences);
    RunTogether(*world.communicator, [&] {
      if (std::isfinite(std::exp(losses.loss))) return;
      throw UserError(
          Format("%s: its loss on %d tokens of the %s split is %g, so there is no perplexity: these weights "
                 "have diverged; evaluate an earlier checkpoint",
                 checkpoint.c_str(), sequences * seq_length, FLAGS_split.c_str(), losses.loss));
    });
    if (!FLAGS_logits.empty()) WriteLogits(FLAGS_logits, engine, *dataset, sequences);
    if (world.rank() != 0) return;
    Evaluation evaluation{
        .checkpoint = checkpoint, .losses = losses, .sequences = sequences, .tokens = sequences * seq_length};
    if (tokenizer) {
      const FileWork work(*world.communicator, "counts the bytes of the text");
      evaluation.bytes_per_token = BytesPerToken(*dataset, sequences, seq_length, *tokenizer->tokenizer);
    }
    Print(command_line, evaluation);
  });
}

}  // namespace unipool
