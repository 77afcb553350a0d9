#include "launcher/experts/saved_model.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "launcher/checkpoints/checkpoint.h"
#include "launcher/checkpoints/hf_config.h"
#include "launcher/checkpoints/optimizer_folder.h"
#include "launcher/checkpoints/saved_state.h"
#include "launcher/checkpoints/weight_folder.h"
#include "launcher/config.h"
#include "launcher/tokens/tokenizer_file.h"
#include "runtime/errors.h"
#include "runtime/thread_communicator.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

int64_t SizeOfShape(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

Tensor View(std::vector<float>& values) {
  return Tensor(values.data(), DType::kF32, {static_cast<int64_t>(values.size())});
}

void ReadWeights(const std::string& dir, const OptimizerFolder& optimizer, SavedModel& model) {
  WeightFolder folder(dir);
  std::vector<std::string> problems;
  for (const std::string& name : folder.Names()) {
    SavedModel::Weight& weight = model.weights[name];
    weight.shape = folder.Entry(name).shape;
    const int64_t size = SizeOfShape(weight.shape);
    weight.values[0].resize(size);
    folder.Read(name, View(weight.values[0]));
    if (!HasMoments(name)) continue;
    for (const int i : {1, 2}) {
      weight.values[i].resize(size);
      const std::string moment = (i == 1 ? "exp_avg/" : "exp_avg_sq/") + name;
      optimizer.ReadRange(moment, {0, size}, View(weight.values[i]), problems);
    }
  }
  if (!problems.empty()) throw UserError(dir + ": lacks optimizer state: " + problems[0]);
}

void ReadState(const std::string& dir, const OptimizerFolder& optimizer, SavedModel& model) {
  for (const auto& [name, entry] : optimizer.States()) {
    if (name.starts_with("placement.")) continue;
    if (entry->dtype != "F64")
      throw UserError(dir + ": " + name + " is of type " + entry->dtype + ", not F64");
    SavedModel::State& state = model.state[name];
    state.shape = entry->shape;
    state.values.resize(SizeOfShape(state.shape));
    std::vector<std::string> problems, missing;
    optimizer.ReadState(
        {.name = name,
         .shape = state.shape,
         .value = Tensor(state.values.data(), DType::kF64, {static_cast<int64_t>(state.values.size())})},
        problems, missing);
  }
}

// Slices of `length` numbers of each of `outer` blocks of n slices.
template <class T>
void Select(std::vector<T>& values, int64_t outer, int64_t n, int64_t length,
            const std::vector<int64_t>& picks) {
  if (values.empty()) return;
  std::vector<T> selected;
  selected.reserve(outer * picks.size() * length);
  for (int64_t block = 0; block < outer; ++block) {
    for (const int64_t pick : picks) {
      const auto begin = values.begin() + (block * n + pick) * length;
      selected.insert(selected.end(), begin, begin + length);
    }
  }
  values = std::move(selected);
}

void SelectAxis(SavedModel::State& state, size_t from_end, const std::vector<int64_t>& picks) {
  const size_t axis = state.shape.size() - 1 - from_end;
  const int64_t n = state.shape[axis], length = from_end == 0 ? 1 : state.shape.back();
  Select(state.values, SizeOfShape(state.shape) / (n * length), n, length, picks);
  state.shape[axis] = static_cast<int64_t>(picks.size());
}

}  // namespace

bool HasMoments(const std::string& name) {
  for (const char* part : {".router.bias", ".router.layer_bias", ".router.attenuation"}) {
    if (name.ends_with(part)) return false;
  }
  return true;
}

SavedModel ReadSavedModel(const std::string& dir) {
  std::error_code ignored;
  if (!fs::exists(fs::path(dir) / kSavedStateFile, ignored)) {
    throw UserError(dir + ": holds weights alone; a checkpoint with optimizer state is needed");
  }
  VerifyFiles(dir, 0, 1);
  const SavedState saved = ReadSavedState(dir);
  SavedModel model{.config = LoadConfig((fs::path(dir) / "config.txtpb").string(), {}),
                   .step = saved.step,
                   .training_state = saved.trainer};
  const fs::path tokenizer = fs::path(dir) / kTokenizerFile;
  if (fs::exists(tokenizer, ignored)) model.tokenizer = ReadTextFile(tokenizer.string());
  const OptimizerFolder optimizer(dir, saved.optimizer_files);
  ReadWeights(dir, optimizer, model);
  ReadState(dir, optimizer, model);
  return model;
}

void ReadHistory(const std::string& dir, ImportanceHistory& history) {
  std::error_code ignored;
  if (!fs::exists(fs::path(dir) / kSavedStateFile, ignored)) return;
  const OptimizerFolder optimizer(dir, ReadSavedState(dir).optimizer_files);
  std::vector<std::string> problems, missing;
  for (const DiskTensor& tensor : history.State()) optimizer.ReadState(tensor, problems, missing);
  if (!problems.empty()) throw UserError(dir + ": " + problems[0]);
}

void CheckAllMayChoose(const std::string& dir, const SavedModel& model) {
  for (const auto& [name, weight] : model.weights) {
    if (!name.ends_with(".router.attenuation")) continue;
    throw UserError(
        dir +
        ": its layers have given up experts already (UniPool-lock, or a pool that shrinks); take a "
        "checkpoint from before that");
  }
}

void SelectRows(SavedModel::Weight& weight, const std::vector<int64_t>& rows) {
  const int64_t n = weight.shape[0], length = SizeOfShape(weight.shape) / n;
  for (std::vector<float>& values : weight.values) Select(values, 1, n, length, rows);
  weight.shape[0] = static_cast<int64_t>(rows.size());
}

void SelectLast(SavedModel::State& state, const std::vector<int64_t>& entries) {
  SelectAxis(state, 0, entries);
}

void SelectLastButOne(SavedModel::State& state, const std::vector<int64_t>& entries) {
  SelectAxis(state, 1, entries);
}

void CheckOutFolder(const std::string& run_dir) {
  if (run_dir.empty())
    throw UserError("--out: is missing; name the folder of the new run, which must not exist");
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(run_dir, ignored)))
    throw UserError("--out=" + run_dir +
                    ": exists; name a folder that does not, for it becomes a run of its own");
}

std::string SaveModel(const std::string& run_dir, SavedModel& model) {
  CheckpointView view{.config_text = ResolvedConfigText(model.config),
                      .training_state = model.training_state,
                      .hf_config_json = HuggingFaceConfigText(model.config),
                      .tokenizer_json = model.tokenizer};
  for (auto& [name, weight] : model.weights) {
    const auto size = static_cast<int64_t>(weight.values[0].size());
    view.tensors.push_back(
        {.name = name, .shape = weight.shape, .value = View(weight.values[0]), .writes = true});
    if (weight.values[1].empty()) continue;
    view.pieces.push_back({.name = name,
                           .elements = {0, size},
                           .first_moment = View(weight.values[1]),
                           .second_moment = View(weight.values[2]),
                           .writes = true});
  }
  for (auto& [name, state] : model.state) {
    const auto size = static_cast<int64_t>(state.values.size());
    view.state.push_back({.name = name,
                          .shape = state.shape,
                          .value = Tensor(state.values.data(), DType::kF64, {size}),
                          .writes = true});
  }
  const std::unique_ptr<Communicator> alone =
      std::move(MakeThreadCommunicators(1, {.exchange = std::chrono::minutes(1)})[0]);
  return SaveCheckpoint(*alone, run_dir, model.step, view, 0);
}

std::string WriteSavedModel(const std::string& run_dir, SavedModel& model) {
  CheckOutFolder(run_dir);
  fs::path out = fs::path(run_dir).lexically_normal();
  if (!out.has_filename()) out = out.parent_path();
  const fs::path partial = out.string() + ".partial";
  std::error_code ignored;
  fs::remove_all(partial, ignored);
  model.config.set_run_dir(out.string());
  nlohmann::json trainer = nlohmann::json::parse(model.training_state);
  for (const char* of_the_other_run : {"validation_due", "resume_step"}) trainer.erase(of_the_other_run);
  model.training_state = trainer.dump();
  try {
    const fs::path written = SaveModel(partial.string(), model);
    WriteTextFile((partial / "config.txtpb").string(), ResolvedConfigText(model.config));
    for (const auto& [name, text] : model.files) WriteTextFile((partial / name).string(), text);
    fs::rename(partial, out);
    return (out / "checkpoints" / written.filename()).string();
  } catch (const fs::filesystem_error& error) {
    fs::remove_all(partial, ignored);
    throw UserError(out.string() + ": cannot be written (" + error.code().message() + ")");
  } catch (const UserError& error) {
    fs::remove_all(partial, ignored);
    throw UserError(out.string() + ": is not written: " + error.problems()[0], error.exit_code());
  }
}

}  // namespace unipool
