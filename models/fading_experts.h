// Experts that leave all layers while a run goes on (moe.shrink_to; models/EXPERTS.md, "Shrinking"). Of a run
// whose updates are counted by `step`:
//
//   shrink_begin       the experts that stay are chosen, from the history of importance
//   from there on      scores of the others are multiplied by 1 - a, a = (1 - cos(pi x)) / 2,
//                      x = (step + 1 - shrink_begin) / (shrink_end - shrink_begin)
//   shrink_end - 1     a = 1: they are barred from the choice
//   shrink_end         they can be taken out of the run's checkpoint
//
// It keeps nothing of its own: which experts fade is seen from the visibility, which checkpoints hold.
#pragma once

#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "models/expert_use.h"

namespace unipool {

class FadingExperts {
 public:
  // `use` must outlive it. REQUIRES: the settings are valid (launcher/config.h).
  FadingExperts(const Config& config, ExpertUse& use) : config_(config), use_(use) {}

  // Whether step `step` (updates done) is amid the fading. False where the pool has its size already.
  bool IsAmid(int64_t step) const;
  // Whether the experts have faded and are still in the run.
  bool IsOver(int64_t step) const;
  // Before the step, on all ranks alike: sets the visibility. Nothing unless IsAmid. Returns whether this was
  // the step at which the choice was made. Throws UserError where the importance is not known.
  bool Apply(int64_t step);
  // Experts that stay, ascending. REQUIRES: they were chosen.
  std::vector<int64_t> Kept() const;

 private:
  bool IsOn() const {
    return config_.moe().shrink_to() > 0 && config_.moe().experts() > config_.moe().shrink_to();
  }
  const Config& config_;
  ExpertUse& use_;
};

// What is wrong with moe.shrink_to and its kin, as sentences.
std::vector<std::string> FadingProblems(const Config& config);

}  // namespace unipool
