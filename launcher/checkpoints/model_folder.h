// A folder in place of a configuration file: that of a run, or of one checkpoint.
#pragma once

#include <string>

namespace unipool {

struct ModelFolder {
  std::string config_path;  // the file of settings in it
  std::string run_dir;      // the folder, if it is a run's; its checkpoint is chosen later (inference.h)
  std::string checkpoint;   // the folder, if it is a checkpoint
};

// What the existing folder is. A run's has config.txtpb, or checkpoints/step-N with one; its settings are
// those of its newest start. A checkpoint's has training_state.json, the name step-N, or weights. Throws
// UserError with what to do: nothing is saved yet, it is being written, it holds several runs, or it is
// another program's.
ModelFolder FindModelFolder(const std::string& folder);

// Whether FindModelFolder would take it as a run's.
bool IsRunFolder(const std::string& folder);

// Why a run has no checkpoint to use, and what to do: it is at work and has not saved, or nobody trained.
std::string WhyNoCheckpoint(const std::string& run_dir);

}  // namespace unipool
