// Saves and loads what a run needs to continue, and weights alone to start from. A checkpoint does not know
// the layout that wrote it: weights lie under their names, moments as ranges of their tensors' elements.
//
//   RUN_DIR/checkpoints/step-N/
//     model.safetensors | model-0000i-of-0000n.safetensors + model.safetensors.index.json    weights
//     optimizer-0000i-of-0000n.safetensors   exp_avg/NAME/BEGIN and exp_avg_sq/NAME/BEGIN [elements],
//     state/NAME config.json          the model in Hugging Face's keys config.txtpb         resolved settings
//     of the run training_state.json  step, number of optimizer files, and the caller's state
//
// All functions are collective over `world`; what fails on one rank is thrown as one UserError on all.
#pragma once

#include <string>
#include <vector>

#include "launcher/checkpoint_folder.h"
#include "models/parameter.h"
#include "runtime/communicator.h"

namespace unipool {

struct CheckpointView {
  std::vector<DiskTensor> tensors;     // weights; a tensor is written by the one rank that has `writes` set
  std::vector<OptimizerPiece> pieces;  // moments
  std::vector<DiskTensor>
      state;                   // whatever else a bit-identical continuation needs, under names of the caller
  std::string config_text;     // ResolvedConfigText of the run
  std::string training_state;  // JSON object of the caller: step, tokens, ...
  std::string hf_config_json;  // HuggingFaceConfigText; not read back
};

// Writes step N and returns its folder. Everything is on disk before the folder gets its name; a problem
// (full disk) leaves nothing behind and is thrown on every rank. Keeps the newest `keep` checkpoints (0:
// all).
std::string SaveCheckpoint(Communicator& world, const std::string& run_dir, int64_t step,
                           const CheckpointView& view, int keep);

// NewestCheckpoint as rank 0 sees it, on every rank.
std::string FindNewestCheckpoint(Communicator& world, const std::string& run_dir);

// Fills the memory behind view.tensors, pieces and state, bit for bit, and training_state. When
// the checkpoint is of another model than view.config_text, the message names the settings that differ;
// otherwise view.config_text becomes the saved one.
// Returns what the user should know of it on rank 0 (missing biases, state that other settings or another
// number of ranks would need), or "".
std::string LoadCheckpoint(Communicator& world, const std::string& dir, CheckpointView& view);

// Fills the tensors from a folder of safetensors in F32, BF16, F16 or F64 (train.init_from). Missing tensors
// that are not optional, unknown and misshaped ones are named in one message, the first 20 of them.
// Returns what the user should know of it on rank 0 (MissingBiases), or "".
std::string LoadWeights(Communicator& world, const std::string& dir, const std::vector<DiskTensor>& tensors);

}  // namespace unipool
