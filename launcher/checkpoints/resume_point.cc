#include "launcher/checkpoints/resume_point.h"

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "launcher/checkpoints/checkpoint.h"
#include "launcher/checkpoints/checkpoint_choice.h"
#include "launcher/checkpoints/saved_state.h"
#include "launcher/checkpoints/weight_check.h"
#include "launcher/config.h"
#include "runtime/file_sum.h"
#include "runtime/world.h"

namespace unipool {
namespace {

constexpr ExchangeLabel kLabel{.operation = "checkpoint", .step = -1, .slot = -1};

std::string FromRankZero(Communicator& world, const std::function<std::string()>& compute) {
  std::string text;
  RunTogether(world, [&] {
    if (world.rank() == 0) text = compute();
  });
  return world.AllGatherText(text, kLabel)[0];
}

struct Later {                    // the checkpoints after train.resume_step
  bool newest_went_back = false;  // the newest that can be read was saved under the same resume_step
  bool any_sound = false;         // of those saved under it
  std::string newest_config, newest;
};

Later LookAtLater(const std::vector<std::string>& checkpoints, int64_t resume_step) {
  Later later;
  for (const std::string& dir : checkpoints) {
    if (StepOfCheckpoint(dir) <= resume_step) break;
    try {
      const SavedState state = ReadSavedState(dir);
      const bool same = state.resume_step == resume_step;
      later.any_sound |= same && state.is_sound;
      if (!later.newest.empty()) continue;
      later.newest_config = ReadTextFile((std::filesystem::path(dir) / "config.txtpb").string());
      later.newest = dir;
      later.newest_went_back = same;
    } catch (const std::exception&) {  // damaged; told when it would be used
    }
  }
  return later;
}

std::string StepsOf(const std::vector<std::string>& checkpoints) {
  std::string steps;
  for (const std::string& dir : checkpoints) {
    steps = Format("%d", StepOfCheckpoint(dir)) + (steps.empty() ? "" : ", ") + steps;
  }
  return steps;
}

// The checkpoint to go back to; "" when that has been done.
std::string CheckpointToGoBackTo(const Config& config) {
  const int64_t step = config.train().resume_step();
  const std::vector<std::string> checkpoints = ListCheckpoints(config.run_dir());
  const Later later = LookAtLater(checkpoints, step);
  if (later.newest_went_back &&
      (later.any_sound || RunDifferences(later.newest_config, ResolvedConfigText(config)).empty())) {
    return "";
  }
  for (const std::string& dir : checkpoints) {
    if (StepOfCheckpoint(dir) == step) return dir;
  }
  throw UserError(Format("train.resume_step=%d: %s/checkpoints holds no checkpoint of that step; %s", step,
                         config.run_dir().c_str(),
                         checkpoints.empty() ? "it holds none at all"
                                             : ("it holds those of steps " + StepsOf(checkpoints)).c_str()));
}

}  // namespace

ResumePoint FindResumePoint(Communicator& world, const Config& config) {
  const int64_t step = config.train().resume_step();
  if (step == 0) return {.checkpoint = FindNewestCheckpoint(world, config.run_dir())};
  const std::string dir = FromRankZero(world, [&] { return CheckpointToGoBackTo(config); });
  if (dir.empty()) {
    const std::string newest = FindNewestCheckpoint(world, config.run_dir());
    return {.checkpoint = newest,
            .note = Format("the run went back to step %d before (train.resume_step), and goes on from there; "
                           "to go back once more, move the later checkpoints away first",
                           step)};
  }
  const std::string why = WhyUnusable(world, dir);
  if (!why.empty())
    throw UserError(Format("train.resume_step=%d: %s: cannot be used: %s", step, dir.c_str(), why.c_str()));
  return {.checkpoint = dir, .goes_back = true};
}

std::string AdviceToGoBack(Communicator& world, const std::string& run_dir, int64_t last_step) {
  return FromRankZero(world, [&]() -> std::string {
    const int64_t sound = NewestSoundStep(run_dir, last_step);
    if (sound >= 0) {
      return Format(
          "go back to step %d, the newest checkpoint in %s with a sound loss: the same command with "
          "train.resume_step=%d and a lower train.lr, or a longer train.warmup_fraction",
          sound, run_dir.c_str(), sound);
    }
    const std::string lower = "; lower train.lr, or raise train.warmup_fraction";
    if (ListCheckpoints(run_dir).empty()) {
      return "start again: no checkpoint was saved yet, see train.save_every and train.save_minutes" + lower;
    }
    return "start again with --anew: no checkpoint in " + run_dir + " has a sound loss" + lower;
  });
}

}  // namespace unipool
