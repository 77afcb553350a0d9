// What a run tells while it is trained: lines for people on standard output, metrics.jsonl for programs,
// scalars for TensorBoard. Rank 0 of the job speaks; calls of other ranks do nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "launcher/reports/event_file.h"
#include "launcher/reports/metrics_file.h"
#include "launcher/reports/progress.h"
#include "models/training_engine.h"
#include "runtime/emulation_report.h"
#include "runtime/world.h"

namespace unipool {

class RunReport {
 public:
  // The configuration and the world outlive it.
  RunReport(const Config& config, World& world);
  // Whether this rank speaks.
  bool speaks() const { return progress_ != nullptr; }
  // A text of one or several lines.
  void Say(const std::string& text);
  // Opens the files of a run that continues after step `last_step`. Collective. Throws the same UserError on
  // every rank.
  void OpenFiles(int64_t last_step);
  // A step was trained; it is written to the files. Throws UserError, for example when the disk is full.
  void Step(const StepOutcome& outcome);
  void Validation(const ValidationOutcome& outcome);
  // What a step of this rank was in emulated time. The first one is left out: its memory is new.
  void AddEmulation(const EmulationReport& report);
  // Peak memory of each rank.
  void Memory(const TrainingEngine& engine);
  // The sum of what AddEmulation was given, of all ranks. Collective.
  void Emulation();
  // Says that the weights of the last step are in no checkpoint. saved_step < 0: there is none.
  void NotSaved(int64_t last_step, int64_t saved_step);
  // The closing lines.
  void End();

 private:
  // A curve that cannot be written ends no run: it says so once.
  void WriteScalars(int64_t step, const std::vector<Scalar>& scalars);

  const Config& config_;
  World& world_;
  std::unique_ptr<Progress> progress_;    // on rank 0, as the files
  std::unique_ptr<MetricsFile> metrics_;  // null before OpenFiles
  std::unique_ptr<EventFile> events_;     // null without metrics.tensorboard
  EmulationReport emulated_;
  int64_t emulated_steps_ = -1;  // in the sum; -1 before the first step
};

}  // namespace unipool
