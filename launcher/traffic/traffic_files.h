// What one rank writes to RUN_DIR/traffic: its records, and on rank 0 the windows and the manifest. After the
// first problem nothing more is written; the problem is kept for whoever tells it.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launcher/traffic/traffic_folder.h"
#include "launcher/traffic/traffic_window.h"
#include "runtime/clock_probe.h"
#include "runtime/traffic_file.h"
#include "runtime/traffic_recorder.h"

namespace unipool {

class TrafficFiles {
 public:
  explicit TrafficFiles(const std::string& run_dir) : folder_(run_dir) {}
  const TrafficFolder& folder() const { return folder_; }

  // Rank 0 has prepared the folder. `manifest`: what is the same in all manifests of this start; rank 0's.
  void Begin(const TrafficHeader& header, nlohmann::ordered_json manifest);
  // The kept exchanges of a step, and the names that they use.
  void WriteStep(const TrafficRecorder& recorder, const StepRecord& step);
  // A comparison of this rank's clock; it goes to the rank's file with the next step.
  void AddClock(const ClockComparison& comparison);
  // On rank 0: a comparison of a rank's clock with its own, for the manifest.
  void AddToManifest(int rank, int64_t step, const ClockComparison& comparison);
  void AddDropped(int64_t dropped) { dropped_ += dropped; }
  // On rank 0. With the window comes a manifest that names it.
  void WriteWindow(const WindowSteps& steps, const std::string& json);
  void WriteManifest(bool ended);
  // On rank 0, when no rank's records are written any longer: tells why in the manifest that lies there, and
  // that the run ended by itself.
  void TellProblem(const std::string& problem) const;
  void TellEnded() const;

  void Fail(const std::string& problem);
  const std::string& problem() const { return problem_; }  // the first one; "": none
  bool has_begun() const { return writer_ != nullptr; }
  bool is_on() const { return writer_ != nullptr && problem_.empty(); }

 private:
  void WriteNames(const TrafficRecorder& recorder);

  const TrafficFolder folder_;
  std::string problem_;
  std::unique_ptr<TrafficFileWriter> writer_;
  size_t num_operations_ = 0, num_communicators_ = 0;  // that the rank's file names
  nlohmann::ordered_json manifest_;
  nlohmann::ordered_json windows_ = nlohmann::ordered_json::array();
  nlohmann::ordered_json comparisons_ = nlohmann::ordered_json::array();
  std::vector<std::pair<int64_t, int64_t>> recorded_;  // stretches of steps
  int64_t dropped_ = 0;
};

}  // namespace unipool
