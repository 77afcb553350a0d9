// Where checkpoints lie, and when one counts. RUN_DIR/checkpoints/step-N/ is written under another name and
// renamed as the last act, so that a folder of that name is whole. These are functions of one process;
// checkpoint.h joins the ranks.
//
//   step-N            a checkpoint
//   step-N.partial    being written, or left by a job that ended while writing; the next start or save
//                     removes it
//   step-N.replaced   the former step-N while a new one takes its place, where a file system cannot swap two
//                     names; still whole
//   step-N.abandoned  a checkpoint after the one that train.resume_step went back to; kept, and not counted
//   step-N.damaged    a damaged step-N that was in the way of a new one; kept, and not counted
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace unipool {

// What makes the folder `dir` incomplete. "" when all files are there, each as long as its header says.
std::string WhyIncomplete(const std::string& dir);

// The folders step-N (and step-N.replaced) of the run, whole or not, the newest first. Throws UserError where
// the folder cannot be listed: that is no sign that there are none.
std::vector<std::string> ListCheckpoints(const std::string& run_dir);

// The folders step-N.abandoned and step-N.damaged of the run, sorted.
std::vector<std::string> ListSetAside(const std::string& run_dir);

// The step of the newest checkpoint up to `last_step` that is sound (saved_state.h); -1: there is none. Reads
// training_state.json alone. What cannot be read counts as not sound.
int64_t NewestSoundStep(const std::string& run_dir, int64_t last_step);

// Renames the checkpoints after `step` to step-M.abandoned. Returns what is called how now, or "". Throws
// UserError.
std::string AbandonAfter(const std::string& run_dir, int64_t step);

// Removes the folders step-N.partial that interrupted saves have left, and nothing else.
void RemoveUnfinished(const std::string& run_dir);

// Moves checkpoints and metrics of earlier starts to names of their own, so that a run may begin anew.
// Returns what was moved where, or "". Throws UserError.
std::string SetAside(const std::string& run_dir);

// RUN_DIR/checkpoints/step-N, whether it is there or not.
std::string CheckpointPath(const std::string& run_dir, int64_t step);
// The step in a checkpoint's name, or -1.
int64_t StepOfCheckpoint(const std::string& dir);

// Removes what interrupted saves have left, creates the empty folder step-N.partial and returns its path.
// Throws UserError.
std::string BeginCheckpoint(const std::string& run_dir, int64_t step);

// Makes `partial` the checkpoint of its step, in place of an earlier one, and returns its path. A damaged one
// in its place is renamed. Then removes all but the newest `keep` checkpoints up to this step and the newest
// sound one (saved_state.h); 0 keeps all. Throws UserError. REQUIRES: `partial` is from BeginCheckpoint, and
// its files are written and synced.
std::string CommitCheckpoint(const std::string& partial, int keep);

}  // namespace unipool
