// A training run on one rank: data, start, steps, validation, checkpoints, metrics. Everything that can be
// wrong with files is found before the first step.
#pragma once

#include <memory>

#include "launcher/checkpoints/checkpoint.h"
#include "launcher/checkpoints/loss_record.h"
#include "launcher/checkpoints/resume_effect.h"
#include "launcher/checkpoints/resume_point.h"
#include "launcher/data/batch_reader.h"
#include "launcher/data/data_tokenizer.h"
#include "launcher/data/token_dataset.h"
#include "launcher/experts/pool_fading.h"
#include "launcher/reports/run_report.h"
#include "launcher/run_control/run_control.h"
#include "launcher/tasks/training_tasks.h"
#include "launcher/traffic/traffic_run.h"
#include "models/training_engine.h"

namespace unipool {

class Trainer {
 public:
  // Builds the engine, opens the data and starts: from the newest checkpoint of run_dir or that of
  // train.resume_step, else from train.init_from, else from random weights. Collective. Throws the same
  // UserError on every rank. REQUIRES: the configuration is valid for the world of `traffic`.
  Trainer(const Config& config, TrafficRun& traffic, RunControl& control);
  // Trains from the step that the start gave to train.steps, or until it is asked to stop. Returns the
  // process's exit code: 0, or kStoppedExitCode when it stopped early, with a checkpoint. Or kPoolShrinks,
  // where another trainer has to go on with a smaller pool (experts/pool_of_run.h). Throws UserError
  // when LossRecord::kMostSkipped steps in a row were skipped, or weights are no numbers. Collective.
  int Run();
  static constexpr int kPoolShrinks = -1;

 private:
  void OpenData();
  void CheckSpace();    // collective
  std::string Start();  // sets step_ and the weights; returns from what, a text for people
  std::string Continue(const ResumePoint& point);
  void Step();
  // The step was skipped: says so, and ends the run when it was one too many.
  void TellSkipped(const StepReport& report, double lr);
  void ReplaceExperts();         // when parallel.replace_every says so
  double Seconds() const;        // by this rank's clock; virtual where a cluster is emulated
  bool IsValidationDue() const;  // after step_ updates
  void ValidateIfDue();
  // Tells what the lock saw in a validation, and ends the run where the loss is too high. Collective.
  void TellLock(const LockObservation& seen);
  void SaveIfDue();
  void Save();
  // The ends of Run.
  int Shrink();
  int Finish();
  int Stop();
  CheckpointView View(const SavedLoss& saved = {});
  std::string TrainingStateText(const SavedLoss& saved) const;
  double LossNow();                                      // of one microbatch of the last step; collective
  [[noreturn]] void Diverged(std::vector<std::string>);  // with advice; collective
  bool ValidationIsWritten() const;                      // collective

  const Config& config_;
  TrafficRun& traffic_;
  World& world_;  // of traffic_
  RunControl& control_;
  RunRequests requests_;                  // of all ranks, that are not answered yet
  std::unique_ptr<WorkMeter> told_work_;  // null: none
  std::unique_ptr<TrainingEngine> engine_;
  struct {
    std::unique_ptr<TokenDataset> train, valid;
    std::optional<TokenizerFile> tokenizer;  // of the data, or else of the start's weights
    std::optional<TrainingTasks> tasks;      // of train.eval_tasks
    double bytes_per_token = 0;  // of what validations read, on rank 0; 0: not counted, or not known
  } data_;
  std::unique_ptr<BatchReader> reader_;
  std::unique_ptr<PoolFading> fading_;
  RunReport report_;
  int64_t step_ = 0;   // updates done
  DataCount trained_;  // what these updates have seen; the next sample is number trained_.samples
  LossRecord losses_;
  bool validation_due_ = false;  // of the weights as they are; a stop leaves it to the next start
  int64_t saved_step_ = -1;      // of the newest checkpoint; -1: there is none
};

}  // namespace unipool
