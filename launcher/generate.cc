#include <gflags/gflags.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "launcher/checkpoints/finite_check.h"
#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/inference.h"
#include "launcher/sampler.h"
#include "launcher/standard_output.h"
#include "launcher/tokens/tokenizer.h"
#include "launcher/world_options.h"
#include "runtime/watchdog.h"

DEFINE_string(prompt, "",
              "generate: text to continue; without one a text begins: behind the end of a document (gpt2) or "
              "of a line (bytes)");
DEFINE_int64(max_tokens, 200, "generate: tokens to add");
DEFINE_double(temperature, 0, "generate: 0 takes the most likely token each time");
DEFINE_int64(top_k, 0, "generate: choose among the k most likely tokens; 0: all");
DEFINE_double(top_p, 1, "generate: choose among the fewest tokens whose probabilities reach p");
DEFINE_uint64(sample_seed, 1, "generate: seed of the random choices");

namespace unipool {

namespace {

void CheckFlags() {
  Problems problems;
  if (FLAGS_max_tokens < 1) problems.Add(Format("--max_tokens=%d: must be 1 or more", FLAGS_max_tokens));
  if (!(FLAGS_temperature >= 0) || !std::isfinite(FLAGS_temperature))
    problems.Add(Format("--temperature=%g: must be a finite number, 0 or more", FLAGS_temperature));
  if (FLAGS_top_k < 0) problems.Add(Format("--top_k=%d: must be 0 or more", FLAGS_top_k));
  if (!(FLAGS_top_p > 0 && FLAGS_top_p <= 1))
    problems.Add(Format("--top_p=%g: must be above 0 and at most 1", FLAGS_top_p));
  problems.ThrowIfAny();
  if (FLAGS_temperature == 0 && (FLAGS_top_k != 0 || FLAGS_top_p != 1)) {
    PrintErrorLine(
        "note: --top_k and --top_p choose nothing at --temperature=0, which takes the most likely token");
  }
}

std::unique_ptr<Tokenizer> TokenizerFor(const Config& config) {
  TokenizerOptions options = TokenizerOptionsFromFlags();
  const bool is_chosen = !gflags::GetCommandLineFlagInfoOrDie("tokenizer").is_default;
  if (!is_chosen && config.model().vocab() == 256) options.kind = "bytes";
  std::unique_ptr<Tokenizer> tokenizer = MakeTokenizer(options);
  if (tokenizer->vocab_size() > config.model().vocab()) {
    throw UserError(Format(
        "--tokenizer=%s has %d tokens but model.vocab is %d: choose the tokenizer of the training data",
        options.kind.c_str(), tokenizer->vocab_size(), config.model().vocab()));
  }
  return tokenizer;
}

// Feeds tokens and keeps the last ones in reach: when the context is full, its later half is read again.
class Context {
 public:
  Context(TrainingEngine& engine, int64_t length) : engine_(engine), length_(length) {}
  std::span<const float> Feed(int32_t token) {
    if (static_cast<int64_t>(tokens_.size()) == length_) {
      const std::vector<int32_t> later(tokens_.begin() + length_ / 2, tokens_.end());
      tokens_.clear();
      for (int32_t old : later) Feed(old);
    }
    const Tensor logits = engine_.NextLogits(token, static_cast<int64_t>(tokens_.size()));
    const std::string problem = FirstNotFinite(logits);
    if (!problem.empty()) {
      throw UserError(
          Format("the model's answer to token %d is no number (logit %s): these weights have diverged; "
                 "use an earlier checkpoint",
                 token, problem.c_str()));
    }
    tokens_.push_back(token);
    return {logits.as<float>(), static_cast<size_t>(engine_.parts().spec.vocab)};
  }

 private:
  TrainingEngine& engine_;
  int64_t length_;
  std::vector<int32_t> tokens_;
};

std::string Continue(TrainingEngine& engine, const Tokenizer& tokenizer, const std::vector<int32_t>& prompt) {
  Sampler sampler({.temperature = FLAGS_temperature,
                   .top_k = FLAGS_top_k,
                   .top_p = FLAGS_top_p,
                   .seed = FLAGS_sample_seed});
  Context context(engine, engine.parts().spec.seq_length);
  std::span<const float> logits;
  for (int32_t token : prompt) logits = context.Feed(token);
  std::vector<int32_t> added;
  for (int64_t i = 0; i < FLAGS_max_tokens; ++i) {
    const int32_t token = sampler.Choose(logits, i);
    if (token == tokenizer.end_of_text()) break;
    if (token < tokenizer.vocab_size()) added.push_back(token);
    logits = context.Feed(token);
  }
  return tokenizer.Decode(added);
}

// The token before the first of a text: the end of a document, or of a line where documents have no end.
int32_t BeginOfText(const Tokenizer& tokenizer) {
  if (tokenizer.end_of_text() >= 0) return tokenizer.end_of_text();
  std::vector<int32_t> line_end;
  tokenizer.Encode("\n", line_end);
  return line_end[0];
}

// Without a configuration file the checkpoint's own is used.
CommandLine WithConfigOfCheckpoint(CommandLine line) {
  if (!line.config_path.empty()) return line;
  if (line.checkpoint.empty()) {
    throw UserError(
        "generate: the configuration file is missing, for example: unipool generate "
        "runs/default/config.txtpb; "
        "or name a checkpoint with --checkpoint, whose own config.txtpb is then used");
  }
  line.config_path = (std::filesystem::path(line.checkpoint) / "config.txtpb").string();
  std::error_code ignored;
  if (std::filesystem::exists(line.config_path, ignored)) return line;
  throw UserError(line.checkpoint +
                  ": holds no config.txtpb; give the configuration file of its model before the flags");
}

}  // namespace

int GenerateCommand(const CommandLine& command_line) {
  CheckFlags();
  Config config = LoadConfig(WithConfigOfCheckpoint(command_line));
  // Any checkpoint loads on one rank, whatever layout wrote it.
  config.mutable_parallel()->set_ranks(1);
  config.mutable_parallel()->set_stages(1);
  config.mutable_parallel()->set_pool_replicas(1);
  config.mutable_train()->set_micro_batch(1);
  const WorldOptions options = WorldOptionsOf(config);
  if (WorldSize(options) != 1) throw UserError("generate runs on one rank: start it without mpirun");
  ValidateConfig(config, 1);
  return RunWorld(options, [&](World& world) {
    const std::unique_ptr<Tokenizer> tokenizer = TokenizerFor(config);
    std::vector<int32_t> prompt;
    tokenizer->Encode(FLAGS_prompt, prompt);
    if (prompt.empty()) prompt.push_back(BeginOfText(*tokenizer));
    TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
    const std::string checkpoint = LoadForInference(command_line, config, world, engine);
    const std::string text = Continue(engine, *tokenizer, prompt);
    if (command_line.json) {
      using nlohmann::json;
      const json result{{"checkpoint", checkpoint}, {"prompt", FLAGS_prompt}, {"text", text}};
      PrintResult(result.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
    } else {
      PrintResult(FLAGS_prompt + text + "\n");
    }
  });
}

}  // namespace unipool
