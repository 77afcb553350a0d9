// A checkpoint in this process's memory, to be changed and written as the first checkpoint of another run:
// weights with their moments, and the state between steps. It knows names and no layout.
// launcher/checkpoints/CHECKPOINT.md, "Files" has the names.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "models/importance_history.h"

namespace unipool {

struct SavedModel {
  // A weight and its two moments, row-major. The moments are empty where it has none (biases).
  struct Weight {
    std::vector<int64_t> shape;
    std::array<std::vector<float>, 3> values;
  };
  struct State {
    std::vector<int64_t> shape;
    std::vector<double> values;
  };
  Config config;
  int64_t step = 0;
  std::string training_state;  // JSON of the trainer
  std::string tokenizer;       // tokenizer.json; "": there is none
  std::map<std::string, Weight> weights;
  std::map<std::string, State> state;        // but for placement.*: who owns what is decided anew
  std::map<std::string, std::string> files;  // texts that go into the run's folder, by name
};

// Whether an optimizer updates the weight: biases of moe.balance BIAS and factors move by rules.
bool HasMoments(const std::string& name);

// Of the checkpoint in `dir`, which is read as a whole: three times the bytes of its weights. Throws
// UserError where it is damaged, or holds state that is not known here.
SavedModel ReadSavedModel(const std::string& dir);

// Fills the history from the checkpoint in `dir`; it stays as it is where that has none. Throws UserError.
void ReadHistory(const std::string& dir, ImportanceHistory& history);

// Throws UserError where layers of the model in `dir` have given up experts that they see.
void CheckAllMayChoose(const std::string& dir, const SavedModel& model);

// Selects rows (slices of the first axis) of a weight or a state: the new row j is the old row rows[j].
void SelectRows(SavedModel::Weight& weight, const std::vector<int64_t>& rows);
// Of a state [..., n] the entries of its last axis, or [..., n, m] those of the last but one.
void SelectLast(SavedModel::State& state, const std::vector<int64_t>& entries);
void SelectLastButOne(SavedModel::State& state, const std::vector<int64_t>& entries);

// Writes the model as the checkpoint of its step in `run_dir`, in place of an earlier one. Returns its
// folder. Throws UserError.
std::string SaveModel(const std::string& run_dir, SavedModel& model);

// Writes the folder `run_dir` of a run that goes on from the model: config.txtpb, whose run_dir is set, and
// one checkpoint. It is written under another name and renamed as a whole. Returns the checkpoint's folder.
// Throws UserError where `run_dir` exists, or cannot be written.
std::string WriteSavedModel(const std::string& run_dir, SavedModel& model);
// Throws UserError where `run_dir`, the value of --out, is empty or exists. To be called before any work.
void CheckOutFolder(const std::string& run_dir);

}  // namespace unipool
