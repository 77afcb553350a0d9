#include "launcher/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "launcher/checkpoints/finite_check.h"
#include "launcher/checkpoints/hf_config.h"
#include "launcher/checkpoints/space_check.h"
#include "launcher/checkpoints/weight_check.h"
#include "launcher/config.h"
#include "launcher/data/data_print.h"
#include "launcher/data/text_bytes.h"
#include "launcher/reports/metrics_file.h"
#include "launcher/reports/readable_number.h"
#include "launcher/reports/run_words.h"
#include "launcher/told_work.h"
#include "runtime/emulated_communicator.h"
#include "runtime/tensor_file.h"

namespace unipool {

Trainer::Trainer(const Config& config, TrafficRun& traffic, RunControl& control)
    : config_(config),
      traffic_(traffic),
      world_(traffic.world()),
      control_(control),
      report_(config, world_),
      losses_(config.model().vocab(), MakeModelSpec(config).padded_vocab) {
  control_.Begin();
  const TrainConfig& train = config.train();
  RunTogether(
      *world_.communicator, [&] { OpenData(); }, "opens data");
  told_work_ = TellWork(config, world_);
  engine_ = std::make_unique<TrainingEngine>(
      config, world_, EngineOptions{.recorder = traffic.recorder(), .meter = told_work_.get()});
  reader_ = std::make_unique<BatchReader>(*data_.train, *engine_, *world_.communicator, train.micro_batch(),
                                          config.model().seq_length());
  fading_ = std::make_unique<PoolFading>(config_, *engine_, *world_.communicator);
  const std::string origin = Start();
  engine_->parts().use.SetStep(step_);
  CheckSpace();
  control_.Started(step_, saved_step_ >= 0);
  if (report_.speaks()) {
    report_.Say(OpeningText(config, world_, data_.train->num_tokens()));
    for (const std::string& warning : DataWarnings(config)) report_.Say("warning: " + warning);
    report_.Say(origin);
    if (const std::string lost = control_.HowTheLastWasLost(); !lost.empty()) report_.Say("note: " + lost);
    report_.Say(engine_->parts().AboutDevice());
  }
  report_.OpenFiles(step_);
  RunTogether(*world_.communicator, [&] {
    // A start that has nothing to do leaves the settings that the run was trained with.
    if (world_.rank() == 0 && step_ < train.steps())
      WriteTextFile(config.run_dir() + "/config.txtpb", ResolvedConfigText(config));
  });
}

// By rank 0, who sees the disk of all.
void Trainer::CheckSpace() {
  const int64_t bytes = CheckpointBytes(*world_.communicator, View());
  RunTogether(*world_.communicator, [&] {
    if (world_.rank() != 0) return;
    const auto existing = static_cast<int64_t>(ListCheckpoints(config_.run_dir()).size());
    const std::string warning =
        SpaceWarning(config_.run_dir(), bytes, CheckpointsToAdd(config_.train(), step_, existing),
                     FreeBytes(config_.run_dir()));
    if (!warning.empty()) PrintErrorLine("warning: " + warning);
  });
}

void Trainer::OpenData() {
  data_.tokenizer = TokenizerOfData(config_);  // first: it knows how many tokens there are
  const DatasetOptions options = DatasetOptionsOf(config_);
  data_.train = OpenDataset(options, Split::kTrain);
  if (config_.train().eval_every() > 0 || HasLock(config_)) data_.valid = OpenDataset(options, Split::kValid);
  data_.tasks = TrainingTasks::Of(config_, data_.tokenizer ? data_.tokenizer->tokenizer.get() : nullptr);
}

// Whether metrics.jsonl ends with the validation of step_: a start before made good what a stop had left.
bool Trainer::ValidationIsWritten() const {
  const bool is_written = world_.rank() == 0 && HasValidation(config_.run_dir(), step_);
  return world_.communicator->AllReduceMax(is_written ? 1 : 0, {.operation = "look for a validation"}) > 0;
}

std::string Trainer::Continue(const ResumePoint& point) {
  CheckpointView view = View();
  const std::string note = LoadCheckpoint(*world_.communicator, point.checkpoint, view);
  engine_->state().AllLoaded();
  const nlohmann::json state = nlohmann::json::parse(view.training_state);
  step_ = state.at("step").get<int64_t>();
  const auto& lock = engine_->parts().use.lock;
  if (lock) lock->CheckAt(step_);
  // What a validation decides is lost with the start that did it, unless it was saved.
  const bool is_observed = !lock || lock->has_observed(step_);
  validation_due_ = state.contains("validation_due") && (!ValidationIsWritten() || !is_observed);
  saved_step_ = step_;
  losses_.Continue(view.training_state);
  std::string origin = "continuing from " + point.checkpoint;
  const auto warn = [&](const std::string& text) { origin += text.empty() ? "" : "\nwarning: " + text; };
  warn(point.note);
  if (point.goes_back) {
    std::string moved;
    RunTogether(*world_.communicator, [&] {
      if (world_.rank() == 0) moved = AbandonAfter(config_.run_dir(), step_);
    });
    if (!moved.empty()) origin += "\nwent back to step " + std::to_string(step_) + ": " + moved;
  } else if (state.contains("sound") && state["sound"] == false) {
    warn("its loss was not sound; " + AdviceToGoBack(*world_.communicator, config_.run_dir(), step_));
  }
  const std::string changes = RunDifferences(view.config_text, ResolvedConfigText(config_));
  warn(changes.empty() ? "" : "other settings than before: " + changes);
  warn(note);
  warn(TakeSavedTokenizer(point.checkpoint, data_.tokenizer));
  const Config before = SettingsOf(view.config_text, config_);
  trained_ = CountOf(view.training_state, before, step_);
  if (world_.rank() == 0) warn(DataEffect(view.training_state, trained_.files = DescribeData(config_)));
  warn(ResumeEffects(before, config_, step_));
  if (step_ >= config_.train().steps()) {
    origin += Format("\nthe run has done %d steps, and train.steps is %d: raise train.steps to go on", step_,
                     config_.train().steps());
  }
  return origin;
}

std::string Trainer::Start() {
  if (!control_.anew()) {
    const ResumePoint point = FindResumePoint(*world_.communicator, config_);
    if (!point.checkpoint.empty()) return Continue(point);
  }
  if (world_.rank() == 0) trained_.files = DescribeData(config_);
  std::string origin = "starting from random weights";
  if (!config_.train().init_from().empty()) {
    const std::string& folder = config_.train().init_from();
    const std::string note = LoadWeights(*world_.communicator, folder, engine_->state().ModelTensors());
    engine_->state().WeightsLoaded();
    if (engine_->parts().use.lock && !engine_->parts().use.visibility.is_as_set()) {
      throw UserError(folder +
                      ": holds a model whose layers have given up experts already (it was locked or "
                      "shrunk); leave moe.lock out, and it stays as it is");
    }
    origin = "starting from the weights in " + folder;
    for (const std::string& text : {note, TakeSavedTokenizer(folder, data_.tokenizer)})
      origin += text.empty() ? "" : "\nwarning: " + text;
  }
  if (control_.anew()) {  // now that nothing stands in the way of the new start
    CheckSpace();
    std::string moved;
    RunTogether(*world_.communicator, [&] {
      if (world_.rank() == 0) moved = SetAside(config_.run_dir());
    });
    if (!moved.empty()) origin += "\nnote: " + moved;
  }
  return origin;
}

// One exchange a step tells the ranks of requests; where there is none for a while (a start, a save) they
// agree in one of their own.
int Trainer::Run() {
  if (step_ < config_.train().steps()) traffic_.Start(*engine_, step_);
  requests_ = control_.Agree();
  for (;;) {
    if (!requests_.WantsStop()) ValidateIfDue();
    if (requests_.WantsStop() && (step_ < config_.train().steps() || validation_due_)) return Stop();
    if (step_ >= config_.train().steps()) return Finish();
    SaveIfDue();
    if (requests_.WantsStop()) return Stop();
    if (fading_->IsOver(step_)) return Shrink();
    Step();
  }
}

int Trainer::Shrink() {
  if (saved_step_ < step_) Save();
  traffic_.End();
  report_.Say(fading_->LastWords());
  return kPoolShrinks;
}

int Trainer::Finish() {
  traffic_.End();
  if (losses_.has_stepped()) report_.Memory(*engine_);
  report_.Emulation();
  if (saved_step_ < step_ && config_.train().save_at_end()) Save();
  if (saved_step_ < step_) report_.NotSaved(step_, saved_step_);
  report_.End();
  control_.End("finished", {.exit_code = 0, .reason = Format("all %d steps are done", step_)});
  return 0;
}

int Trainer::Stop() {
  traffic_.End();
  if (saved_step_ < step_ && step_ > 0) Save();
  const std::string reason = Format("stopped by %s at step %d", requests_.Reason().c_str(), step_);
  control_.End("stopped", {.exit_code = kStoppedExitCode, .reason = reason});
  report_.End();
  report_.Say(reason + "; repeat the command" + (control_.anew() ? " without --anew" : "") + " to go on");
  return kStoppedExitCode;
}

void Trainer::Step() {
  const int64_t global_batch = config_.train().global_batch();
  const auto start = std::chrono::steady_clock::now();
  if (world_.emulation) {  // what rank 0 does between steps is not part of them
    world_.communicator->Barrier({.operation = "begin of the step", .step = step_});
    world_.emulation->ResetReport();
  }
  if (const std::string fades = fading_->BeginStep(step_); !fades.empty()) report_.Say(fades);
  traffic_.BeginStep(step_);
  const Tensor samples = reader_->Read(trained_.samples, global_batch);
  const double lr = LearningRate(ScheduleOf(config_.train()), step_);
  engine_->ForwardBackward(step_, samples);
  RunRequests requests = control_.Poll();
  const StepReport report = traffic_.Update(*engine_, step_, lr, requests);
  control_.Answer(requests);
  requests_.AddAll(requests);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  ++step_;
  engine_->parts().use.SetStep(step_);
  validation_due_ = IsValidationDue();
  const int64_t step_tokens = global_batch * config_.model().seq_length();
  trained_.samples += global_batch;
  trained_.tokens += step_tokens;
  control_.StepDone(step_, seconds, static_cast<double>(step_tokens) / seconds);
  StepOutcome outcome{.step = step_,
                      .tokens = trained_.tokens,
                      .step_tokens = step_tokens,
                      .lr = lr,
                      .seconds = seconds,
                      .report = report};
  if (engine_->parts().mesh.pool().size() > 1) outcome.slot_imbalance = engine_->SlotImbalance();
  ReplaceExperts();
  if (world_.emulation) {
    const EmulationReport emulation = world_.emulation->Report();
    outcome.virtual_seconds = emulation.virtual_seconds;
    report_.AddEmulation(emulation);
  }
  traffic_.EndStep(*engine_, outcome.report);
  report_.Step(outcome);
  losses_.AddStep(report.loss, report.is_skipped);
  if (report.is_skipped) TellSkipped(report, lr);
}

void Trainer::TellSkipped(const StepReport& report, double lr) {
  const auto unsigned_nan = [](double x) { return std::isnan(x) ? std::abs(x) : x; };
  const std::string what = Format("loss %g, gradient norm %g, learning rate %g", unsigned_nan(report.loss),
                                  unsigned_nan(report.grad_norm), lr);
  if (losses_.skipped_in_a_row() < LossRecord::kMostSkipped) {
    report_.Say(Format("warning: step %d is skipped: %s; weights stay as they are", step_, what.c_str()));
    return;
  }
  Diverged(
      {Format("loss or gradient is no longer a number at step %d (%s), and %d steps in a row were skipped",
              step_, what.c_str(), losses_.skipped_in_a_row())});
}

void Trainer::Diverged(std::vector<std::string> problems) {
  problems.push_back(AdviceToGoBack(*world_.communicator, config_.run_dir(), step_));
  throw UserError(std::move(problems));
}

void Trainer::ReplaceExperts() {
  if (step_ == config_.train().steps()) return;
  const double start = Seconds();
  const std::optional<PlacementReport> report = engine_->ReplaceExpertsIfDue(step_);
  if (!report || report->num_moved + report->num_shadows == 0) return;
  const std::string shadows = report->num_shadows > 0 ? Format(", %d shadows", report->num_shadows) : "";
  report_.Say(
      Format("moved %d of %d experts, %s in %.2g s%s: slot imbalance %.3f -> %.3f on the counts so far",
             report->num_moved, engine_->parts().spec.experts, FormatBytes(report->bytes).c_str(),
             Seconds() - start, shadows.c_str(), report->imbalance_before, report->imbalance_after));
}

double Trainer::Seconds() const {
  if (world_.emulation) return world_.emulation->Now();
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool Trainer::IsValidationDue() const {
  const TrainConfig& train = config_.train();
  const auto& lock = engine_->parts().use.lock;
  if (lock && (step_ == lock->plan().freeze_step || step_ == lock->plan().lock_step)) return true;
  return train.eval_every() > 0 && (step_ % train.eval_every() == 0 || step_ == train.steps());
}

void Trainer::ValidateIfDue() {
  if (!data_.valid) validation_due_ = false;  // this start was told not to validate
  if (!validation_due_) return;
  const TrainConfig& train = config_.train();
  int64_t sequences = data_.valid->samples_per_epoch();
  if (train.eval_batches() > 0)
    sequences = std::min<int64_t>(sequences, int64_t{train.eval_batches()} * train.global_batch());
  const int64_t length = config_.model().seq_length();
  BatchReader reader(*data_.valid, *engine_, *world_.communicator, train.micro_batch(), length);
  auto& lock = engine_->parts().use.lock;
  if (lock) lock->BeginValidation();
  const std::optional<MeanLosses> losses = MeanLoss(*engine_, reader, sequences, &control_, &requests_);
  if (!losses && lock) lock->CancelValidation();
  if (!losses) return;  // it is still due
  validation_due_ = false;
  LockObservation seen;
  if (lock) seen = lock->EndValidation(step_, losses->loss, *world_.communicator);
  if (report_.speaks() && data_.tokenizer && data_.bytes_per_token == 0) {
    const FileWork work(*world_.communicator, "counts the bytes of the validation's text");
    data_.bytes_per_token = BytesPerToken(*data_.valid, sequences, length, *data_.tokenizer->tokenizer);
  }
  ValidationOutcome outcome{.step = step_, .loss = losses->loss, .by_source = losses->by_source};
  outcome.coverage_min = seen.coverage_min, outcome.guard_excess = seen.guard_excess;
  outcome.bytes_per_token = data_.bytes_per_token;
  if (data_.tasks) data_.tasks->Evaluate(*engine_, *world_.communicator, outcome);
  report_.Validation(outcome);
  TellLock(seen);
}

void Trainer::TellLock(const LockObservation& seen) {
  if (seen.decided)
    report_.Say(OwnersText(*seen.decided, step_, engine_->parts().use.lock->plan().lock_step));
  if (!seen.is_too_high) return;
  const LockConfig& lock = config_.moe().lock();
  Diverged({Format(
      "the lock makes the run worse: the validation loss of step %d is %.4f above that of the freeze, "
      "and more than moe.lock.guard_excess (%g) in %d validations in a row (guard_consecutive)",
      step_, *seen.guard_excess, lock.guard_excess(), lock.guard_consecutive())});
}

CheckpointView Trainer::View(const SavedLoss& saved) {
  return {.tensors = engine_->state().ModelTensors(),
          .pieces = engine_->state().Moments(),
          .state = engine_->state().BetweenSteps(),
          .config_text = ResolvedConfigText(config_),
          .training_state = TrainingStateText(saved),
          .hf_config_json = HuggingFaceConfigText(config_),
          .tokenizer_json = data_.tokenizer ? data_.tokenizer->text : ""};
}

std::string Trainer::TrainingStateText(const SavedLoss& saved) const {
  nlohmann::json state{{"step", step_},
                       {"samples", trained_.samples},
                       {"tokens", trained_.tokens},
                       {"sound", saved.sound},
                       {"mean_loss", saved.mean},
                       {"loss_after", saved.after},
                       {"lowest_loss", saved.lowest},
                       {"data", trained_.files}};
  if (const int64_t back = config_.train().resume_step(); back > 0) state["resume_step"] = back;
  if (validation_due_) state["validation_due"] = true;
  fading_->AddTo(state);
  return state.dump();
}

// After a skipped step it waits for one that counts: the weights are not to be judged by that batch.
void Trainer::SaveIfDue() {
  const int64_t every = config_.train().save_every(), saved = std::max<int64_t>(saved_step_, 0);
  const bool is_due = every > 0 && step_ / every * every > saved;
  if (step_ == 0 || !(requests_.WantsSave() || is_due) || losses_.skipped_in_a_row() > 0) return;
  if (saved_step_ < step_) Save();
  requests_ = control_.Agree();  // what came meanwhile need not wait for another step
}

double Trainer::LossNow() {
  const int64_t sequences = config_.train().micro_batch() * engine_->data_ranks();
  const double sum = fading_->LossSum(step_, reader_->FirstRound(), sequences);
  return sum / static_cast<double>(sequences * config_.model().seq_length());
}

void Trainer::Save() {
  const auto start = std::chrono::steady_clock::now();
  engine_->state().Collect();
  const SavedLoss loss = losses_.Judge(LossNow());
  const CheckpointView view = View(loss);
  std::string folder;
  try {
    if (!std::isfinite(loss.after)) {
      RunTogether(*world_.communicator,
                  [&] { CheckFinite(Format("step %d: the model", step_), view.tensors, view.pieces); });
      throw UserError(
          Format("step %d: with the weights after it the loss is no number (%g); they are not saved", step_,
                 loss.after));
    }
    folder = SaveCheckpoint(*world_.communicator, config_.run_dir(), step_, view,
                            config_.train().keep_checkpoints());
  } catch (const UserError& error) {
    if (error.exit_code() != kUserErrorExitCode) throw;  // the disk, not the numbers
    Diverged(error.problems());
  }
  losses_.Saved(loss);
  saved_step_ = step_;
  control_.Saved(step_, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  const std::string reason = requests_.Reason();
  report_.Say("saved " + folder + (reason.empty() ? "" : " (" + reason + ")"));
  if (loss.sound) return;
  const std::string advice = AdviceToGoBack(*world_.communicator, config_.run_dir(), step_);
  report_.Say(
      Format("warning: the loss of step %d is not sound (mean %g since the save before, %g with the saved "
             "weights); %s",
             step_, loss.mean, loss.after, advice.c_str()));
}

}  // namespace unipool
