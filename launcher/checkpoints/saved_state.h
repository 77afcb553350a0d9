// training_state.json of a checkpoint: its step, the sums of all other files, and the trainer's own state. It
// holds a hash of itself, so that not a byte of a checkpoint can change unseen.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "runtime/file_sum.h"

namespace unipool {

inline constexpr char kSavedStateFile[] = "training_state.json";

struct SavedState {
  int64_t step = 0;
  int optimizer_files = 0;               // that belong to the checkpoint
  std::map<std::string, FileSum> files;  // name -> sum; empty in checkpoints of older programs
  std::string trainer;                   // the JSON object that the trainer saved, with "step"
  // Of that object: the loss was sound (loss_record.h), as that of checkpoints of older programs counts; and
  // the train.resume_step of the start that saved, 0 for none.
  bool is_sound = true;
  int64_t resume_step = 0;
};

std::string SavedStateText(const SavedState& state);
// Of the checkpoint in `dir`. Throws UserError where the file is damaged, or tells of another step than the
// folder's name, and UnreadableError (file_sum.h).
SavedState ReadSavedState(const std::string& dir);

// Compares the sums of the files i, i + stride, i + 2 stride, ... of the checkpoint with those saved; i =
// `first`. Reads every byte of them. A checkpoint without sums is judged by its files' headers instead, by
// the caller with first = 0. Throws UserError that names each damaged file, and UnreadableError.
void VerifyFiles(const std::string& dir, int first, int stride);

}  // namespace unipool
