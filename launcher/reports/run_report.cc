#include "launcher/reports/run_report.h"

#include <cerrno>

#include "launcher/config.h"
#include "launcher/reports/readable_number.h"
#include "launcher/reports/run_words.h"
#include "runtime/format.h"
#include "runtime/watchdog.h"

namespace unipool {

RunReport::RunReport(const Config& config, World& world) : config_(config), world_(world) {
  if (world.rank() != 0) return;
  progress_ = std::make_unique<Progress>(
      stdout, ProgressOptions{.total_steps = config.train().steps(),
                              .balance = config.moe().balance(),
                              .balance_counts = config.moe().balance_counts(),
                              .balance_scope = config.moe().balance_scope(),
                              .terminal = std::make_shared<OutputTerminal>(world.is_mpi)});
}

void RunReport::Say(const std::string& text) {
  if (progress_ && !text.empty()) progress_->Say(text);
}

void RunReport::OpenFiles(int64_t last_step) {
  RunTogether(*world_.communicator, [&] {
    if (!progress_) return;
    metrics_ = std::make_unique<MetricsFile>(config_.run_dir(), last_step);
    if (config_.metrics().tensorboard()) events_ = std::make_unique<EventFile>(config_.run_dir(), last_step);
  });
}

void RunReport::Step(const StepOutcome& outcome) {
  if (!progress_) return;
  const FileWork work(*world_.communicator, "writes metrics and output");
  metrics_->Write(StepLine(outcome));
  if (events_) WriteScalars(outcome.step, StepScalars(outcome));
  progress_->Step(outcome);
}

void RunReport::Validation(const ValidationOutcome& outcome) {
  if (!progress_) return;
  metrics_->Write(ValidationLine(outcome));
  if (events_) WriteScalars(outcome.step, ValidationScalars(outcome));
  progress_->Validation(outcome);
}

void RunReport::WriteScalars(int64_t step, const std::vector<Scalar>& scalars) {
  const std::string problem = events_->Write(step, scalars);
  if (problem.empty()) return;
  Say("warning: " + events_->path() + ": cannot be written (" + problem +
      "); this start writes no more scalars");
  events_.reset();
}

void RunReport::AddEmulation(const EmulationReport& report) {
  if (++emulated_steps_ > 0) emulated_.Add(report);
}

void RunReport::Memory(const TrainingEngine& engine) {
  if (!progress_) return;
  std::string text = "peak memory of each rank";
  for (int rank = 0; rank < world_.size(); ++rank) {
    text += Format("\n%5d  %s", rank, MemoryText(engine.MemoryOfRank(rank).bytes).c_str());
  }
  progress_->Say(text);
}

void RunReport::Emulation() {
  if (!world_.emulation || emulated_steps_ < 1) return;
  const auto reports = GatherReports(*world_.communicator, emulated_);
  if (!progress_) return;
  const auto steps = static_cast<double>(emulated_steps_);
  progress_->Say(
      Format("emulated %s, virtual time per step (mean of %d, without the first);\nidle: waiting for a late "
             "rank, hidden: wire time while the rank computed or was idle\n%s\n%s",
             config_.parallel().emulate().c_str(), emulated_steps_, RankTable(reports, steps).c_str(),
             OperationTable(reports, steps).c_str()));
}

void RunReport::NotSaved(int64_t last_step, int64_t saved_step) {
  const std::string newest = saved_step < 0 ? std::string("there is no checkpoint")
                                            : Format("the newest checkpoint is of step %d", saved_step);
  Say(Format("the weights of step %d were not saved, as train.save_at_end=false says; %s", last_step,
             newest));
}

void RunReport::End() {
  if (!progress_) return;
  Say(ClosingText(config_, progress_->summary(), progress_->seconds(), program_invocation_name));
}

}  // namespace unipool
