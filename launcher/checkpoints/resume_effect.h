// What a continued run does otherwise than the run that saved would have done, because settings have changed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "models/learning_rate.h"

namespace unipool {

LearningRateSchedule ScheduleOf(const TrainConfig& train);

// The settings that a checkpoint was saved with (config.txtpb); `otherwise` where this program cannot read
// them.
Config SettingsOf(const std::string& config_text, const Config& otherwise);

// The run's position in its data. It is counted, since the batch may change on the way.
struct DataCount {
  int64_t samples = 0;             // sequences trained on
  int64_t tokens = 0;              // tokens trained on
  std::vector<std::string> files;  // DescribeData of them, on rank 0
};
// Of a checkpoint: what its state (training_state.json) says, else `step` batches of the settings that saved
// it, as checkpoints without counts mean.
DataCount CountOf(const std::string& training_state, const Config& before, int64_t step);

// "book.txt: 60000 bytes, contents 12ab here, and 60000 bytes, contents 34cd there" of files of one name that
// have become others, behind a sentence on what that means; "" when none has.
std::string DataEffect(const std::string& training_state, const std::vector<std::string>& files);

// Sentences about the next step, each on a line of its own; "" when nothing changes. `step` updates are done.
// Example: "the learning rate of step 11 is 1.54e-03, and would be 3e-04 with the settings before
// (train.steps is 10 there and 20 here)"
std::string ResumeEffects(const Config& before, const Config& now, int64_t step);

}  // namespace unipool
