// Whether the disk has room for the checkpoints of a run, looked at before its first step.
#pragma once

#include <cstdint>
#include <string>

#include "configs/config.pb.h"
#include "launcher/checkpoints/checkpoint.h"

namespace unipool {

// Bytes of the data of a checkpoint, over all ranks; the files are larger by their headers, a few KB each.
// Collective.
int64_t CheckpointBytes(Communicator& world, const CheckpointView& view);

// Checkpoints that the run will add, at most, to the `existing` ones before the first of them is removed:
// one is written before an older one goes. train.keep_checkpoints 0 keeps all that fall due by their step.
int64_t CheckpointsToAdd(const TrainConfig& train, int64_t step, int64_t existing);

// What is said of `free` bytes of a disk where `count` checkpoints of `bytes` are to be written: "" where
// they fit, a sentence where only some do. Throws UserError with kNotSavedExitCode where not one does. A
// quota is not seen.
std::string SpaceWarning(const std::string& run_dir, int64_t bytes, int64_t count, int64_t free);

// Bytes that this user may write below `folder`, or -1 where the system does not say.
int64_t FreeBytes(const std::string& folder);

}  // namespace unipool
