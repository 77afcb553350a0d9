#include <gflags/gflags.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/hf_code.h"  // made of models/huggingface by launcher/CMakeLists.txt
#include "launcher/inference.h"
#include "launcher/interop/export_folder.h"
#include "launcher/interop/hf_shards.h"
#include "launcher/interop/hf_texts.h"
#include "launcher/interop/import_settings.h"
#include "launcher/standard_output.h"
#include "launcher/tokens/tokenizer_file.h"
#include "launcher/version.h"
#include "launcher/world_options.h"

DEFINE_string(out, "", "export, import, shrink, grow: the folder to make, which must not exist");
DEFINE_string(format, "hf", "export: hf, a folder that Hugging Face's transformers loads");
DEFINE_string(
    as, "",
    "export: the architecture, llama, qwen2_moe or unipool; default: the first of them that computes "
    "the same. import: what the model becomes, pool, private or dense");
DEFINE_string(dtype, "fp32",
              "export: of the weights, fp32 or bf16 (rounded to the nearest; a pool's routers stay fp32)");
DEFINE_double(shard_gigabytes, 5, "export: most that a file of weights holds");

namespace unipool {
namespace {

void CheckFlags() {
  Problems problems;
  if (FLAGS_out.empty()) problems.Add("export: --out DIR is missing, the folder to make");
  if (FLAGS_format != "hf") problems.Add("--format=" + FLAGS_format + ": must be hf");
  if (FLAGS_dtype != "fp32" && FLAGS_dtype != "bf16")
    problems.Add("--dtype=" + FLAGS_dtype + ": must be fp32 or bf16");
  if (!(FLAGS_shard_gigabytes > 0) || FLAGS_shard_gigabytes > 1e6)
    problems.Add(Format("--shard_gigabytes=%g: must be above 0 and at most 1000000", FLAGS_shard_gigabytes));
  problems.ThrowIfAny();
  RefuseExisting(FLAGS_out);
}

HfChoice ChoiceFor(const Config& config, bool is_attenuated) {
  if (FLAGS_as.empty()) return ChooseHfArchitecture(config, is_attenuated);
  const HfArchitecture architecture = HfArchitectureNamed(FLAGS_as);
  const std::string obstacle = ObstacleTo(architecture, config, is_attenuated);
  if (!obstacle.empty()) {
    throw UserError("--as=" + FLAGS_as + ": " + ClassNameOf(architecture) +
                    " would compute something else: " + obstacle);
  }
  return {architecture, "--as asked for it"};
}

// That of the checkpoint, else bytes if the model's tokens are as many.
std::optional<TokenizerFile> TokenizerOf(const std::string& checkpoint, const Config& config) {
  std::optional<TokenizerFile> tokenizer = FindTokenizerFile(checkpoint + "/" + kTokenizerFile);
  if (!tokenizer && config.model().vocab() == 256) tokenizer = TokenizerFileFor({.kind = "bytes"});
  if (tokenizer && tokenizer->vocab_size > config.model().vocab()) {
    throw UserError(Format("%s/%s has %d tokens but model.vocab is %d", checkpoint.c_str(), kTokenizerFile,
                           tokenizer->vocab_size, config.model().vocab()));
  }
  return tokenizer;
}

std::string DigestsText(const HfTextInput& input, const std::vector<WrittenTensor>& tensors) {
  nlohmann::ordered_json json = {{"source", input.source},
                                 {"step", StepOfCheckpoint(input.source)},
                                 {"program", ProgramVersion()},
                                 {"architecture", ClassNameOf(input.choice.architecture)},
                                 {"reason", input.choice.reason}};
  for (const WrittenTensor& tensor : tensors) {
    json["tensors"][tensor.name] = {{"file", tensor.file},
                                    {"shape", tensor.shape},
                                    {"dtype", NameOf(tensor.dtype)},
                                    {"xxh3_64", tensor.sum.hash}};
  }
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string FolderName(const std::string& path) {
  const std::filesystem::path absolute = std::filesystem::absolute(path).lexically_normal();
  const std::string name = absolute.filename().string();
  return name.empty() ? absolute.parent_path().filename().string() : name;
}

// Which weights are what, on disk at once or not at all. Returns what to tell the user.
std::string Export(const Config& config, const std::string& checkpoint, TrainingEngine& engine) {
  const Visibility& visibility = engine.parts().use.visibility;
  const HfChoice choice = ChoiceFor(config, !visibility.is_as_set());
  const std::optional<TokenizerFile> tokenizer = TokenizerOf(checkpoint, config);
  const std::vector<DiskTensor> weights = engine.state().Weights();
  const HfTextInput input{.choice = choice,
                          .config = config,
                          .spec = engine.parts().spec,
                          .has_bias = !BiasNameOf(config).empty(),
                          .is_attenuated = !visibility.is_as_set(),
                          .end_of_text = tokenizer ? tokenizer->tokenizer->end_of_text() : -1,
                          .has_tokenizer = tokenizer.has_value(),
                          .dtype = FLAGS_dtype == "bf16" ? "bfloat16" : "float32",
                          .name = FolderName(FLAGS_out),
                          .source = checkpoint};
  ExportFolder folder(FLAGS_out);
  const std::vector<WrittenTensor> written = WriteHfShards(
      folder.path(), HfTensorsOf(choice.architecture, input.spec, visibility, BiasNameOf(config)), weights,
      {.max_bytes = std::llround(FLAGS_shard_gigabytes * 1e9),
       .dtype = FLAGS_dtype == "bf16" ? DType::kBF16 : DType::kF32});
  folder.Write("config.json", HfConfigJson(input));
  folder.Write("generation_config.json", HfGenerationJson(input));
  if (tokenizer) {
    folder.Write("tokenizer.json", tokenizer->text);
    folder.Write("tokenizer_config.json", HfTokenizerConfigJson(input));
  }
  if (choice.architecture == HfArchitecture::kUniPool) {
    folder.Write("configuration_unipool.py", kHfConfigurationCode);
    folder.Write("modeling_unipool.py", kHfModelingCode);
  }
  folder.Write(kExportedSettings, ResolvedConfigText(PortableSettings(config)));
  folder.Write("README.md", ModelCard(input));
  folder.Write("export.json", DigestsText(input, written));
  folder.Finish();
  int64_t bytes = 0;
  for (const WrittenTensor& tensor : written) bytes += tensor.sum.bytes;
  std::string text = Format("%s\n%s: %s, since %s; %d tensors, %d bytes\n", checkpoint.c_str(),
                            FLAGS_out.c_str(), ClassNameOf(choice.architecture), choice.reason.c_str(),
                            static_cast<int64_t>(written.size()), bytes);
  if (!tokenizer)
    text += "without a tokenizer: the checkpoint has none, so the model takes and gives token ids\n";
  return text + "next    python3 -c '" + LoadingLine(choice.architecture, FLAGS_out) + "'\n";
}

}  // namespace

int ExportCommand(const CommandLine& command_line) {
  CheckFlags();
  Config config = LoadConfig(command_line);
  ChoiceFor(config, /*is_attenuated=*/false);  // refuses before anything is read
  // Any checkpoint loads on one rank, whatever layout wrote it; its weights are FP32.
  const Config saved = config;
  config.set_device(DeviceType::CPU);
  config.mutable_train()->set_precision(TrainConfig::FP32);
  config.mutable_train()->set_micro_batch(1);
  config.mutable_parallel()->set_ranks(1);
  config.mutable_parallel()->set_stages(1);
  config.mutable_parallel()->set_pool_replicas(1);
  config.mutable_parallel()->clear_layers_per_stage();
  const WorldOptions options = WorldOptionsOf(config);
  if (WorldSize(options) != 1) throw UserError("export runs on one rank: start it without mpirun");
  ValidateConfig(config, 1);
  return RunWorld(options, [&](World& world) {
    const std::string checkpoint = FindWeights(command_line, config, world);
    TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
    LoadForInference(checkpoint, config, world, engine);
    PrintResult(Export(saved, checkpoint, engine));
  });
}

}  // namespace unipool
