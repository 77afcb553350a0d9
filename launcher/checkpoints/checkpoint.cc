#include "launcher/checkpoints/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "launcher/checkpoints/finite_check.h"
#include "launcher/checkpoints/optimizer_folder.h"
#include "launcher/checkpoints/saved_state.h"
#include "launcher/checkpoints/weight_check.h"
#include "launcher/checkpoints/weight_folder.h"
#include "launcher/config.h"
#include "launcher/nearest_name.h"
#include "launcher/tokens/tokenizer_file.h"
#include "runtime/errors.h"
#include "runtime/file_sum.h"
#include "runtime/tensor_file.h"
#include "runtime/watchdog.h"
#include "runtime/world.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr ExchangeLabel kLabel{.operation = "checkpoint", .step = -1, .slot = -1};

// What each rank will write, known to all: it decides the numbers in the file names.
struct Inventory {
  std::vector<Json> weights;    // per rank: [[name, bytes], ...]
  std::vector<bool> optimizer;  // per rank: writes moments or state
};

Inventory ShareInventory(Communicator& world, const CheckpointView& view) {
  Json mine = {{"weights", Json::array()}, {"optimizer", false}};
  for (const DiskTensor& tensor : view.tensors) {
    if (tensor.is_saved()) mine["weights"].push_back({tensor.name, tensor.value.bytes()});
  }
  for (const OptimizerPiece& piece : view.pieces) {
    if (piece.writes) mine["optimizer"] = true;
  }
  for (const DiskTensor& tensor : view.state) {
    if (tensor.writes) mine["optimizer"] = true;
  }
  Inventory inventory;
  for (const std::string& text : world.AllGatherText(mine.dump(), kLabel)) {
    const Json rank = Json::parse(text);
    inventory.weights.push_back(rank["weights"]);
    inventory.optimizer.push_back(rank["optimizer"]);
  }
  return inventory;
}

// Position of each rank among those that have a file to write, and their number.
struct Numbering {
  std::vector<int> index;  // -1: writes none
  int count = 0;
};
Numbering Number(int num_ranks, const std::function<bool(int)>& writes) {
  Numbering numbering;
  for (int rank = 0; rank < num_ranks; ++rank)
    numbering.index.push_back(writes(rank) ? numbering.count++ : -1);
  return numbering;
}

FileSum WriteWeights(const std::string& path, const std::vector<DiskTensor>& tensors) {
  TensorFileWriter writer(path);
  writer.SetMetadata("format", "pt");
  for (const DiskTensor& tensor : tensors) {
    if (tensor.is_saved()) writer.Declare(tensor.name, tensor.value.dtype, tensor.shape);
  }
  for (const DiskTensor& tensor : tensors) {
    if (tensor.is_saved()) writer.Append(tensor.value.data, tensor.value.bytes());
  }
  return writer.Close();
}

std::string PieceName(const char* moment, const OptimizerPiece& piece) {
  return Format("%s/%s/%d", moment, piece.name.c_str(), piece.elements.begin);
}

FileSum WriteOptimizer(const std::string& path, const CheckpointView& view) {
  TensorFileWriter writer(path);
  std::vector<Tensor> values;
  auto add = [&](const std::string& name, const Tensor& value, const std::vector<int64_t>& shape) {
    writer.Declare(name, value.dtype, shape);
    values.push_back(value);
  };
  for (const OptimizerPiece& piece : view.pieces) {
    if (!piece.writes) continue;
    add(PieceName("exp_avg", piece), piece.first_moment, {piece.elements.size()});
    add(PieceName("exp_avg_sq", piece), piece.second_moment, {piece.elements.size()});
  }
  for (const DiskTensor& tensor : view.state) {
    if (tensor.writes) add("state/" + tensor.name, tensor.value, tensor.shape);
  }
  for (const Tensor& value : values) writer.Append(value.data, value.bytes());
  return writer.Close();
}

using Sums = std::map<std::string, FileSum>;  // by file name

void WriteSummed(const std::string& dir, const std::string& name, const std::string& text, Sums& sums) {
  WriteTextFile((fs::path(dir) / name).string(), text);
  sums[name] = SumOfText(text);
}

void WriteIndex(const std::string& dir, const Inventory& inventory, const Numbering& numbering, Sums& sums) {
  Json map = Json::object();
  int64_t total_bytes = 0;
  for (size_t rank = 0; rank < inventory.weights.size(); ++rank) {
    for (const Json& tensor : inventory.weights[rank]) {
      const std::string name = tensor[0];
      CHECK(!map.contains(name)) << "two ranks write " << name;
      map[name] = fs::path(WeightFile(dir, numbering.index[rank], numbering.count)).filename().string();
      total_bytes += tensor[1].get<int64_t>();
    }
  }
  if (numbering.count <= 1) return;
  const Json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", map}};
  WriteSummed(dir, kWeightIndexFile, index.dump(2) + "\n", sums);
}

// Returns the sums of all files but training_state.json, as this rank knows them: of its own.
Sums WriteFiles(const std::string& partial, int rank, const Inventory& inventory, const CheckpointView& view,
                const Numbering& weights, const Numbering& optimizer) {
  Sums sums;
  const auto note = [&](const std::string& path, const FileSum& sum) {
    sums[fs::path(path).filename().string()] = sum;
  };
  if (weights.index[rank] >= 0) {
    const std::string path = WeightFile(partial, weights.index[rank], weights.count);
    note(path, WriteWeights(path, view.tensors));
  }
  if (optimizer.index[rank] >= 0) {
    const std::string path = OptimizerFile(partial, optimizer.index[rank], optimizer.count);
    note(path, WriteOptimizer(path, view));
  }
  if (rank != 0) return sums;
  WriteIndex(partial, inventory, weights, sums);
  WriteSummed(partial, "config.json", view.hf_config_json, sums);
  WriteSummed(partial, "config.txtpb", view.config_text, sums);
  if (!view.tokenizer_json.empty()) WriteSummed(partial, kTokenizerFile, view.tokenizer_json, sums);
  return sums;
}

// The sums of all ranks. Collective.
Sums ShareSums(Communicator& world, const Sums& own) {
  Json mine = Json::object();
  for (const auto& [name, sum] : own) mine[name] = {sum.bytes, sum.hash};
  Sums all;
  for (const std::string& text : world.AllGatherText(mine.dump(), kLabel)) {
    const Json rank = Json::parse(text);
    for (const auto& [name, sum] : rank.items()) {
      all[name] = {.bytes = sum[0].get<int64_t>(), .hash = sum[1].get<std::string>()};
    }
  }
  return all;
}

void WriteAll(Communicator& world, const std::string& partial, int64_t step, const CheckpointView& view) {
  const Inventory inventory = ShareInventory(world, view);
  const Numbering weights = Number(world.size(), [&](int r) { return !inventory.weights[r].empty(); });
  const Numbering optimizer = Number(world.size(), [&](int r) { return inventory.optimizer[r]; });
  Sums sums;
  RunTogether(
      world, [&] { sums = WriteFiles(partial, world.rank(), inventory, view, weights, optimizer); },
      "writes the checkpoint");
  sums = ShareSums(world, sums);
  RunTogether(world, [&] {
    if (world.rank() != 0) return;
    const SavedState state{.step = step,
                           .optimizer_files = optimizer.count,
                           .files = sums,
                           .trainer = view.training_state.empty() ? "{}" : view.training_state};
    WriteTextFile((fs::path(partial) / kSavedStateFile).string(), SavedStateText(state));
  });
}

// Problems of files with one cause as one: "FILE and 2 more files: cannot be written (...)".
std::vector<std::string> MergedCauses(const std::vector<std::string>& problems) {
  std::vector<std::pair<std::string, std::vector<std::string>>> files_of;  // by cause, in order of appearance
  for (const std::string& problem : problems) {
    const size_t colon = problem.find(": ");
    const std::string file = colon == std::string::npos ? "" : problem.substr(0, colon);
    const std::string cause = problem.substr(file.size());
    auto found =
        std::find_if(files_of.begin(), files_of.end(), [&](const auto& e) { return e.first == cause; });
    if (found == files_of.end()) found = files_of.insert(found, {cause, {}});
    found->second.push_back(file);
  }
  std::vector<std::string> merged;
  for (const auto& [cause, files] : files_of) {
    const size_t more = files.size() - 1;
    merged.push_back(files[0] + (more == 0 ? "" : Format(" and %d more file%s", more, more == 1 ? "" : "s")) +
                     cause);
  }
  return merged;
}

// A text that rank 0 computes, on every rank; what rank 0 throws is thrown on every rank.
std::string FromRankZero(Communicator& world, const std::function<std::string()>& compute) {
  std::string text;
  RunTogether(world, [&] {
    if (world.rank() == 0) text = compute();
  });
  return world.AllGatherText(text, kLabel)[0];
}

// Returns the names of state that is not there and need not be.
std::vector<std::string> LoadOptimizer(const OptimizerFolder& folder, const std::string& dir,
                                       CheckpointView& view) {
  std::vector<std::string> problems, missing;
  for (const OptimizerPiece& piece : view.pieces) {
    folder.ReadRange("exp_avg/" + piece.name, piece.elements, piece.first_moment, problems);
    folder.ReadRange("exp_avg_sq/" + piece.name, piece.elements, piece.second_moment, problems);
  }
  for (const DiskTensor& tensor : view.state) folder.ReadState(tensor, problems, missing);
  if (!problems.empty())
    throw UserError(ListOfProblems(dir + ": its optimizer state does not fit these settings", problems));
  return missing;
}

std::string MissingState(const std::string& dir, const std::vector<std::string>& names) {
  std::vector<std::string> others;
  bool has_placement = true, has_importance = true;
  for (const std::string& name : names) {
    if (name.rfind("placement.", 0) == 0) {
      has_placement = false;
    } else if (name.rfind("importance.", 0) == 0) {
      has_importance = false;
    } else {
      others.push_back(name);
    }
  }
  // Neither has an influence on what is computed.
  std::string text;
  if (!has_placement) text = "experts are placed anew, for this number of ranks; no loss changes by it";
  if (!has_importance) {
    text += (text.empty() ? "" : "; ") + dir + ": holds no importance of experts, which is measured anew";
  }
  if (others.empty()) return text;
  if (!text.empty()) text += "; ";
  text += dir + ": holds no " + JoinNames(others);
  return text + ", since it was saved with other settings or on another number of ranks; they begin anew";
}

void ReadTensors(WeightFolder& folder, const std::vector<DiskTensor>& tensors) {
  for (const DiskTensor& tensor : tensors) {
    if (folder.Has(tensor.name)) folder.Read(tensor.name, tensor.value);
  }
}

// The rank's tensors of a damaged folder that hold numbers that are none, as far as they can be read.
std::vector<std::string> NotFiniteInDamaged(const std::string& dir, const std::vector<DiskTensor>& tensors) {
  try {
    WeightFolder folder(dir);
    std::vector<DiskTensor> readable;
    for (const DiskTensor& tensor : tensors) {
      if (!folder.Has(tensor.name) || folder.Entry(tensor.name).shape != tensor.shape) continue;
      folder.Read(tensor.name, tensor.value);
      readable.push_back(tensor);
    }
    return NotFinite(readable, {}, [&](const std::string& name, int64_t) { return folder.FileOf(name); });
  } catch (const std::exception&) {
    return {};
  }
}

// VerifyFiles, whose message also names numbers that are none.
void VerifyWeights(const std::string& dir, const Communicator& world,
                   const std::vector<DiskTensor>& tensors) {
  try {
    VerifyFiles(dir, world.rank(), world.size());
  } catch (const UnreadableError&) {
    throw;
  } catch (const UserError& error) {
    std::vector<std::string> problems = error.problems();
    for (const std::string& problem : NotFiniteInDamaged(dir, tensors)) problems.push_back(problem);
    throw UserError(std::move(problems));
  }
}

}  // namespace

std::string SaveCheckpoint(Communicator& world, const std::string& run_dir, int64_t step,
                           const CheckpointView& view, int keep) {
  RunTogether(world, [&] { CheckFinite(Format("step %d: the model", step), view.tensors, view.pieces); });
  std::string partial;
  try {
    partial = FromRankZero(world, [&] { return BeginCheckpoint(run_dir, step); });
    WriteAll(world, partial, step, view);
    return FromRankZero(world, [&] { return CommitCheckpoint(partial, keep); });
  } catch (const UserError& error) {
    std::error_code ignored;
    if (world.rank() == 0 && !partial.empty()) fs::remove_all(partial, ignored);
    std::vector<std::string> problems = MergedCauses(error.problems());
    problems.push_back(
        Format("the checkpoint of step %d was not saved in %s; make room or choose another run_dir, then "
               "start again: the run continues from its last complete checkpoint",
               step, run_dir.c_str()));
    throw UserError(std::move(problems), kNotSavedExitCode);
  }
}

std::string LoadCheckpoint(Communicator& world, const std::string& dir, CheckpointView& view) {
  const std::vector<WantedTensor> wanted = GatherWanted(world, view.tensors);
  std::string note;
  RunTogether(world, [&] {
    WeightFolder folder(dir);
    if (world.rank() == 0) {
      const std::string saved_config = ReadTextFile((fs::path(dir) / "config.txtpb").string());
      CheckWeights(folder, wanted, DescribeDifferences(saved_config, view.config_text));
      CheckSameModel(dir, saved_config, view.config_text);
      note = MissingBiases(folder, wanted);
    }
  });
  RunTogether(world, [&] {
    const SavedState state = ReadSavedState(dir);
    WeightFolder folder(dir);
    ReadTensors(folder, view.tensors);
    const OptimizerFolder optimizer(dir, state.optimizer_files);
    const std::string missing = MissingState(dir, LoadOptimizer(optimizer, dir, view));
    std::vector<DiskTensor> tensors = view.tensors;
    tensors.insert(tensors.end(), view.state.begin(), view.state.end());
    CheckFinite(dir, tensors, view.pieces, [&](const std::string& name, int64_t first) {
      return folder.Has(name) ? folder.FileOf(name) : optimizer.FileOf(name, first);
    });
    const bool has_stepped = state.step > 0;  // before the first step there is no state between steps
    if (world.rank() == 0 && has_stepped && !missing.empty())
      note += (note.empty() ? "" : "\nwarning: ") + missing;
    view.training_state = state.trainer;
    view.config_text = ReadTextFile((fs::path(dir) / "config.txtpb").string());
  });
  return note;
}

std::string LoadWeights(Communicator& world, const std::string& dir, const std::vector<DiskTensor>& tensors) {
  const std::vector<WantedTensor> wanted = GatherWanted(world, tensors);
  std::string note;
  RunTogether(world, [&] {
    std::error_code ignored;
    const bool is_checkpoint = fs::exists(fs::path(dir) / kSavedStateFile, ignored);
    if (is_checkpoint) VerifyWeights(dir, world, tensors);
    WeightFolder folder(dir);
    if (world.rank() != 0) return;
    CheckWeights(folder, wanted, "");
    note = MissingBiases(folder, wanted);
  });
  RunTogether(world, [&] {
    WeightFolder folder(dir);
    ReadTensors(folder, tensors);
    CheckFinite(dir, tensors, {}, [&](const std::string& name, int64_t) { return folder.FileOf(name); });
  });
  return note;
}

}  // namespace unipool
