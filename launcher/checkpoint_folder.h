// Where checkpoints lie and when one counts: RUN_DIR/checkpoints/step-N/ is written under another name and
// renamed as the last act, so that a folder of that name is whole. Functions of one process; checkpoint.h
// joins the ranks.
//
//   step-N            a checkpoint
//   step-N.partial    being written, or left by a job that ended while writing; removed by the next save
//   step-N.replaced   the former step-N during a replacement on file systems that can not swap two names;
//   still whole
#pragma once

#include <cstdint>
#include <string>

namespace unipool {

// What makes the folder `dir` incomplete: "" when all files are there with the sizes their headers say.
std::string WhyIncomplete(const std::string& dir);

// training_state.json: how many optimizer files belong to the checkpoint, and the JSON object that the
// trainer saved.
struct TrainingState {
  int optimizer_files = 0;
  std::string trainer;
};
TrainingState ReadTrainingState(const std::string& dir);  // throws UserError

// The newest complete checkpoint of the run, or "" when there is none. Incomplete ones are skipped, each with
// a line on the standard error stream.
std::string NewestCheckpoint(const std::string& run_dir);

// The step in a checkpoint's name, or -1.
int64_t StepOfCheckpoint(const std::string& dir);

// Creates the empty folder to write step N into, removing what interrupted saves have left, and returns its
// path. Throws UserError.
std::string BeginCheckpoint(const std::string& run_dir, int64_t step);

// Makes `partial` (from BeginCheckpoint, its files written and synced) the checkpoint of its step, in place
// of an earlier one, and removes all but the newest `keep` checkpoints up to this step (0: keeps all).
// Returns its path. Throws UserError.
std::string CommitCheckpoint(const std::string& partial, int keep);

}  // namespace unipool
