#include <gflags/gflags.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/inference.h"
#include "launcher/model_tokenizer.h"
#include "launcher/sampler.h"
#include "launcher/standard_output.h"
#include "launcher/token_context.h"
#include "launcher/tokens/prompts.h"
#include "launcher/tokens/shown_text.h"
#include "launcher/world_options.h"
#include "runtime/watchdog.h"

DEFINE_string(prompt, "",
              "generate: text to continue; - (also in place of the flag): all of the standard input; without "
              "one a text begins: behind the end of a document (gpt2) or of a line (bytes)");
DEFINE_string(
    prompt_file, "",
    "generate: file with a prompt a line, each of them continued; of NAME.jsonl the \"text\" of each "
    "line; - is the standard input");
DEFINE_int64(max_tokens, 200, "generate: tokens to add");
DEFINE_string(stop, "",
              "generate: text that ends a sample and is not shown; \\n is a line end; may be given several "
              "times, and the one that comes first counts");
DEFINE_int64(samples, 1, "generate: texts for each prompt; number i has the seed --sample_seed + i - 1");
DEFINE_double(temperature, 0.8, "generate: below 1 likely tokens come more often; 0: the likeliest always");
DEFINE_int64(top_k, 0, "generate: choose among the k most likely tokens; 0: all");
DEFINE_double(top_p, 1, "generate: choose among the fewest tokens whose probabilities reach p");
DEFINE_uint64(sample_seed, 1, "generate: seed of the random choices; the same seed gives the same text");

namespace unipool {

namespace {

void CheckFlags(const CommandLine& line) {
  Problems problems;
  if (FLAGS_max_tokens < 1) problems.Add(Format("--max_tokens=%d: must be 1 or more", FLAGS_max_tokens));
  if (FLAGS_samples < 1) problems.Add(Format("--samples=%d: must be 1 or more", FLAGS_samples));
  if (!(FLAGS_temperature >= 0) || !std::isfinite(FLAGS_temperature))
    problems.Add(Format("--temperature=%g: must be a finite number, 0 or more", FLAGS_temperature));
  if (FLAGS_top_k < 0) problems.Add(Format("--top_k=%d: must be 0 or more", FLAGS_top_k));
  if (!(FLAGS_top_p > 0 && FLAGS_top_p <= 1))
    problems.Add(Format("--top_p=%g: must be above 0 and at most 1", FLAGS_top_p));
  const int prompts = (FLAGS_prompt.empty() ? 0 : 1) + (FLAGS_prompt_file.empty() ? 0 : 1);
  if (prompts + static_cast<int>(line.inputs.size()) > 1)
    problems.Add("--prompt, --prompt_file and - are prompts in three ways: give one of them");
  problems.ThrowIfAny();
  if (FLAGS_temperature == 0 && (FLAGS_top_k != 0 || FLAGS_top_p != 1)) {
    PrintErrorLine(
        "note: --top_k and --top_p choose nothing at --temperature=0, which takes the most likely token");
  }
}

std::vector<std::string> StopStrings(const CommandLine& line) {
  std::vector<std::string> stops;
  for (const std::string& given : line.stops) stops.push_back(StopString(given));
  return stops;
}

std::vector<Prompt> PromptsFromFlags(const CommandLine& line) {
  const bool from_input = FLAGS_prompt == "-" || FLAGS_prompt_file == "-" || !line.inputs.empty();
  if (from_input && isatty(STDIN_FILENO))
    PrintErrorLine("note: the prompt is read from the terminal; Ctrl-D at the begin of a line ends it");
  if (!FLAGS_prompt_file.empty()) {
    PromptFile file = ReadPrompts(FLAGS_prompt_file);
    if (file.blank_lines > 0) {
      PrintErrorLine(
          Format("note: %s: %d blank line%s no prompt; a text without a prompt is asked for by none, or by a "
                 "line {\"text\": \"\"} of a .jsonl file",
                 FLAGS_prompt_file.c_str(), file.blank_lines, file.blank_lines == 1 ? " is" : "s are"));
    }
    return std::move(file.prompts);
  }
  if (from_input) return {ReadPromptOfInput()};
  return {{.text = FLAGS_prompt, .origin = "--prompt"}};
}

// SIGINT and SIGTERM, while this lives: the text ends with its line, and the process then as by the signal. A
// second one ends it at once. What is ignored stays so.
class Interrupts {
 public:
  Interrupts() {
    for (size_t i = 0; i < std::size(kSignals); ++i) {
      sigaction(kSignals[i], nullptr, &before_[i]);
      if (before_[i].sa_handler == SIG_IGN) continue;
      struct sigaction action {};
      action.sa_handler = [](int signal) { caught_ = signal; };
      action.sa_flags = static_cast<int>(SA_RESETHAND);
      sigaction(kSignals[i], &action, nullptr);
    }
  }
  ~Interrupts() {
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  static int caught() { return caught_; }  // 0: none

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM};
  static inline volatile std::sig_atomic_t caught_ = 0;
  struct sigaction before_[std::size(kSignals)] = {};
};

int64_t SeqLength(const TrainingEngine& engine) {
  return engine.parts().spec.seq_length;
}

// One prompt's tokens in the engine, and what follows on them.
class Writer {
 public:
  Writer(TrainingEngine& engine, const Tokenizer& tokenizer, std::vector<int32_t> prompt)
      : engine_(engine), tokenizer_(tokenizer), prompt_(std::move(prompt)) {
    prompt_.erase(prompt_.begin(),
                  prompt_.begin() + TokenContext::TokensOutOfReach(prompt_.size(), SeqLength(engine)));
  }

  // Hands what may be shown to `show`, token by token. Returns what ended the text: "stop", "end_of_text",
  // "max_tokens" or "signal".
  template <class Show>
  const char* Write(uint64_t seed, const std::vector<std::string>& stops, const Show& show) {
    Sampler sampler(
        {.temperature = FLAGS_temperature, .top_k = FLAGS_top_k, .top_p = FLAGS_top_p, .seed = seed});
    ShownText shown(stops);
    ReadPrompt();
    std::span<const float> logits = behind_prompt_;
    const char* end = "max_tokens";
    for (int64_t i = 0; i < FLAGS_max_tokens; ++i) {
      if (Interrupts::caught() != 0) return "signal";
      const int32_t token = sampler.Choose(logits, i);
      if (token == tokenizer_.end_of_text()) {
        end = "end_of_text";
        break;
      }
      if (token < tokenizer_.vocab_size()) show(shown.Add(tokenizer_.Decode({&token, 1})));
      if (shown.has_stopped()) return "stop";
      if (i + 1 < FLAGS_max_tokens) logits = context_->Feed(token);
    }
    show(shown.Rest());
    return end;
  }

 private:
  void ReadPrompt() {
    if (context_ && context_->Rewind(prompt_.size())) return;
    context_.emplace(engine_);
    std::span<const float> logits;
    for (int32_t token : prompt_) {
      if (Interrupts::caught() != 0) return;
      logits = context_->Feed(token);
    }
    behind_prompt_.assign(logits.begin(), logits.end());
  }

  TrainingEngine& engine_;
  const Tokenizer& tokenizer_;
  std::vector<int32_t> prompt_;  // as far as the model sees it
  std::optional<TokenContext> context_;
  std::vector<float> behind_prompt_;
};

std::vector<int32_t> Encoded(const Prompt& prompt, const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens;
  try {
    tokenizer.Encode(prompt.text, tokens);
  } catch (const UserError& error) {
    throw UserError(prompt.origin + ": " + error.what());
  }
  if (tokens.empty()) tokens.push_back(BeginOfText(tokenizer));
  return tokens;
}

// For people: each piece as soon as it is there, samples apart if there are several. For programs (--json): a
// line for each sample when it has ended.
void WriteAll(TrainingEngine& engine, const Tokenizer& tokenizer, const std::vector<Prompt>& prompts,
              const CommandLine& line, const std::string& checkpoint) {
  std::vector<std::vector<int32_t>> encoded;
  for (const Prompt& prompt : prompts) encoded.push_back(Encoded(prompt, tokenizer));
  const std::vector<std::string> stops = StopStrings(line);
  const bool several = prompts.size() > 1 || FLAGS_samples > 1;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto tokens = static_cast<int64_t>(encoded[i].size());
    if (const int64_t lost = TokenContext::TokensOutOfReach(tokens, SeqLength(engine)); lost > 0) {
      PrintErrorLine(
          Format("note: prompt %d has %d tokens; the model sees the last %d (model.seq_length is %d)", i + 1,
                 tokens, tokens - lost, SeqLength(engine)));
    }
    Writer writer(engine, tokenizer, encoded[i]);
    for (int64_t sample = 1; sample <= FLAGS_samples && Interrupts::caught() == 0; ++sample) {
      const uint64_t seed = FLAGS_sample_seed + static_cast<uint64_t>(sample - 1);
      if (line.json) {
        std::string text;
        const char* end = writer.Write(seed, stops, [&](const std::string& piece) { text += piece; });
        using nlohmann::json;
        const json result{{"checkpoint", checkpoint}, {"prompt", prompts[i].text}, {"text", text},
                          {"sample", sample},         {"sample_seed", seed},       {"end", end}};
        PrintResult(result.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
        continue;
      }
      if (several) PrintResult(Format("--- prompt %d, sample %d\n", i + 1, sample));
      PrintResult(prompts[i].text);
      try {
        writer.Write(seed, stops, PrintResult);
      } catch (const UserError&) {  // its sentence begins a line
        PrintResult("\n");
        throw;
      }
      PrintResult("\n");
    }
  }
}

}  // namespace

int GenerateCommand(const CommandLine& command_line) {
  CheckFlags(command_line);
  StopStrings(command_line);
  Config config = LoadConfig(command_line);
  // Any checkpoint loads on one rank, whatever layout wrote it.
  config.mutable_parallel()->set_ranks(1);
  config.mutable_parallel()->set_stages(1);
  config.mutable_parallel()->set_pool_replicas(1);
  config.mutable_train()->set_micro_batch(1);
  const WorldOptions options = WorldOptionsOf(config);
  if (WorldSize(options) != 1) throw UserError("generate runs on one rank: start it without mpirun");
  ValidateConfig(config, 1);
  const int exit_code = RunWorld(options, [&](World& world) {
    const std::string checkpoint = FindWeights(command_line, config, world);
    const std::shared_ptr<const Tokenizer> tokenizer = TokenizerOfModel(checkpoint, config);
    const std::vector<Prompt> prompts = PromptsFromFlags(command_line);
    TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
    LoadForInference(checkpoint, config, world, engine);
    const Interrupts interrupts;
    WriteAll(engine, *tokenizer, prompts, command_line, checkpoint);
  });
  if (Interrupts::caught() != 0) std::raise(Interrupts::caught());
  return exit_code;
}

}  // namespace unipool
