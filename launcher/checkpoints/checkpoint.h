// Saves and loads what a run needs to continue, and weights alone to start from. A checkpoint does not know
// the layout that wrote it: weights lie under their names, moments as ranges of their tensors' elements.
// launcher/checkpoints/CHECKPOINT.md has the whole format and an example of two ranks.
//
//   RUN_DIR/checkpoints/step-N/
//     model.safetensors                     weights, where one rank writes them all; otherwise
//     model-0000i-of-0000n.safetensors      weights of the i-th rank that writes some, with
//     model.safetensors.index.json          which file holds which weight
//     optimizer-0000i-of-0000n.safetensors  exp_avg/NAME/BEGIN, exp_avg_sq/NAME/BEGIN [elements], state/NAME
//     config.json                           the model in Hugging Face's keys
//     config.txtpb                          resolved settings of the run
//     tokenizer.json                        the tokenizer of its data, where that is known
//     training_state.json                   step, number of optimizer files, and the caller's state
//
// All functions are collective over `world`. What fails on one rank is thrown as one UserError on all.
#pragma once

#include <string>
#include <vector>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "models/parameter.h"
#include "runtime/communicator.h"

namespace unipool {

// Everything that a checkpoint holds, as views of this rank's memory.
struct CheckpointView {
  std::vector<DiskTensor> tensors;     // weights; exactly one rank has `writes` set for each
  std::vector<OptimizerPiece> pieces;  // moments
  // Whatever else a continuation needs bit for bit, under names of the caller.
  std::vector<DiskTensor> state;
  std::string config_text;     // ResolvedConfigText of the run
  std::string training_state;  // JSON object of the caller: the step
  std::string hf_config_json;  // HuggingFaceConfigText; not read back
  std::string tokenizer_json;  // of the data (tokens/tokenizer_file.h); "": not known; not read back
};

// Writes step N and returns its folder. Everything is on disk before the folder gets its name. A problem
// (full disk) leaves nothing behind and is thrown on every rank. Keeps the newest `keep` checkpoints; 0 keeps
// all.
std::string SaveCheckpoint(Communicator& world, const std::string& run_dir, int64_t step,
                           const CheckpointView& view, int keep);

// Fills the memory behind view.tensors, view.pieces and view.state bit for bit, and view.training_state. Sets
// view.config_text to the saved settings. Throws UserError when the checkpoint holds another model than
// view.config_text describes; the message names the settings that differ.
// Returns what the user should know, on rank 0, or "": missing biases, or state that other settings or
// another number of ranks would need.
std::string LoadCheckpoint(Communicator& world, const std::string& dir, CheckpointView& view);

// Fills the tensors from a folder of safetensors in F32, BF16, F16 or F64 (train.init_from). Throws UserError
// with the first 20 tensors that are missing and not optional, unknown, or of another shape.
// Returns what the user should know, on rank 0 (MissingBiases), or "".
std::string LoadWeights(Communicator& world, const std::string& dir, const std::vector<DiskTensor>& tensors);

}  // namespace unipool
