#include "launcher/traffic/traffic_files.h"

#include "runtime/errors.h"

namespace unipool {

void TrafficFiles::Begin(const TrafficHeader& header, nlohmann::ordered_json manifest) {
  writer_ = std::make_unique<TrafficFileWriter>(folder_.path() + "/" + TrafficFileName(header.rank), header);
  manifest_ = std::move(manifest);
  manifest_["problem"] = FilledText("", TrafficHeader::kProblemRoom);
}

void TrafficFiles::WriteNames(const TrafficRecorder& recorder) {
  const auto& communicators = recorder.communicators();
  for (; num_communicators_ < communicators.size(); ++num_communicators_) {
    writer_->AddCommunicator(static_cast<int>(num_communicators_), communicators[num_communicators_]);
  }
  const auto operations = recorder.tally().operations();
  for (; num_operations_ < operations.size(); ++num_operations_) {
    writer_->AddOperation(static_cast<int>(num_operations_), operations[num_operations_].name);
  }
}

void TrafficFiles::WriteStep(const TrafficRecorder& recorder, const StepRecord& step) {
  if (!is_on()) return;
  WriteNames(recorder);
  const TrafficKeep& keep = recorder.keep();
  for (size_t i = 0; i < keep.records().size(); ++i) {
    writer_->Add(keep.records()[i], keep.peers(static_cast<int64_t>(i)));
  }
  writer_->Add(step);
  Fail(writer_->Flush());
  if (recorded_.empty() || recorded_.back().second + 1 != step.step)
    recorded_.emplace_back(step.step, step.step);
  recorded_.back().second = step.step;
}

void TrafficFiles::AddClock(const ClockComparison& comparison) {
  if (!is_on()) return;
  writer_->Add(ClockRecord{.own_ns = comparison.own_ns,
                           .offset_ns = comparison.offset_ns,
                           .uncertainty_ns = comparison.uncertainty_ns,
                           .reference = 0,
                           .num_probes = comparison.num_probes});
}

void TrafficFiles::AddToManifest(int rank, int64_t step, const ClockComparison& comparison) {
  comparisons_.push_back({{"rank", rank},
                          {"reference", 0},
                          {"step", step},
                          {"own_ns", comparison.own_ns},
                          {"offset_ns", comparison.offset_ns},
                          {"uncertainty_ns", comparison.uncertainty_ns},
                          {"num_probes", comparison.num_probes}});
}

void TrafficFiles::WriteWindow(const WindowSteps& steps, const std::string& json) {
  if (!is_on()) return;
  const std::string name = Format("window-%d-%d.json", steps.first, steps.last);
  Fail(folder_.Write(name, json));
  if (is_on()) windows_.push_back(name);
  WriteManifest(false);
}

void TrafficFiles::WriteManifest(bool ended) {
  if (!is_on()) return;
  manifest_["clock"]["comparisons"] = comparisons_;
  manifest_["windows"] = windows_;
  manifest_["recorded_steps"] = recorded_;
  manifest_["dropped"] = dropped_;
  manifest_["ended"] = ended;
  Fail(folder_.Write("manifest.json", manifest_.dump(1) + "\n"));
}

void TrafficFiles::TellProblem(const std::string& problem) const {
  folder_.WriteOver("manifest.json", "\"problem\": \"", FilledText(problem, TrafficHeader::kProblemRoom));
}

void TrafficFiles::TellEnded() const {
  folder_.WriteOver("manifest.json", "\"ended\": ", "true ");
}

void TrafficFiles::Fail(const std::string& problem) {
  if (problem_.empty()) problem_ = problem;
}

}  // namespace unipool
