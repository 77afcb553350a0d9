// A training run on one rank: data, start (fresh, from weights, or from the newest checkpoint), steps,
// validation, checkpoints, metrics. Everything that can be wrong with files is found before the first step.
#pragma once

#include <memory>

#include "launcher/batch_reader.h"
#include "launcher/checkpoint.h"
#include "launcher/metrics_file.h"
#include "launcher/progress.h"
#include "launcher/run_lock.h"
#include "launcher/token_dataset.h"
#include "models/learning_rate.h"
#include "models/training_engine.h"
#include "runtime/emulation_report.h"

namespace unipool {

// The datasets of a configuration.
DatasetOptions DatasetOptionsOf(const Config& config);

class Trainer {
 public:
  // Collective. REQUIRES: the configuration is valid for this world. Throws UserError on every rank alike.
  Trainer(const Config& config, World& world);
  // Trains from where the run directory stands to train.steps.
  void Run();

 private:
  void OpenData();
  std::string Start();  // sets step_ and the weights; says from what
  void Step();
  void ReplaceExperts();   // where and when that is due
  double Seconds() const;  // by this rank's clock; virtual where a cluster is emulated
  void ReportMemory();
  void ReportEmulation();  // collective
  void Validate();
  void Save();
  CheckpointView View();

  const Config& config_;
  World& world_;
  std::unique_ptr<RunLock> lock_;  // on rank 0
  std::unique_ptr<TrainingEngine> engine_;
  std::unique_ptr<TokenDataset> train_, valid_;
  std::unique_ptr<BatchReader> reader_;
  std::unique_ptr<MetricsFile> metrics_;  // on rank 0
  std::unique_ptr<Progress> progress_;    // on rank 0
  LearningRateSchedule learning_rate_;
  int64_t step_ = 0;          // updates done
  bool has_stepped_ = false;  // in this run
  // Of this rank where a cluster is emulated, over steps but the first, whose memory is new.
  EmulationReport emulation_;
  int64_t emulated_steps_ = -1;
  int64_t saved_step_ = -1;  // of the newest checkpoint
};

}  // namespace unipool
