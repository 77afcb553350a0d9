// Which checkpoint a start goes on from: the newest whole one, or that of train.resume_step.
#pragma once

#include <string>

#include "configs/config.pb.h"
#include "runtime/communicator.h"

namespace unipool {

struct ResumePoint {
  std::string checkpoint;  // "": there is none
  bool goes_back = false;  // later checkpoints must be abandoned (AbandonAfter), once this one is loaded
  std::string note;        // a sentence for people, or ""
};

// Collective; the same on all ranks. Changes nothing. Throws UserError where the checkpoint of
// train.resume_step is not there or damaged, and as FindNewestCheckpoint (checkpoint.h).
//
// A command may be repeated, by a requeue for example, and must not go back again. So each checkpoint holds
// the train.resume_step that was in force (SavedState::resume_step). Where the newest is later and holds the
// same number, it is gone on from. Two things together make the run go back once more: no checkpoint since
// then is sound, and the settings are other ones.
ResumePoint FindResumePoint(Communicator& world, const Config& config);

// How to go on after a divergence, a sentence: the newest sound checkpoint up to `last_step`, and the setting
// that goes back to it. Collective; the same on all ranks.
std::string AdviceToGoBack(Communicator& world, const std::string& run_dir, int64_t last_step);

}  // namespace unipool
