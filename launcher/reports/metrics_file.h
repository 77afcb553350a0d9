// RUN_DIR/metrics.jsonl: what a run reports to programs, a JSON object a line. metric_list.h says what a line
// holds.
#pragma once

#include <cstdint>
#include <string>

namespace unipool {

// One rank of the job has one.
class MetricsFile {
 public:
  // Opens the file of a run that continues after step `last_step` (0: from the beginning). Lines of later
  // steps and torn lines move to the end of metrics.replaced.jsonl, so that no step appears twice and none
  // is lost. Creates the folder. Throws UserError.
  MetricsFile(const std::string& run_dir, int64_t last_step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  // Appends a line (without its newline) in one write, so that readers see whole lines. Throws UserError, for
  // example when the disk is full.
  void Write(const std::string& line);
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

// Whether metrics.jsonl of the run holds the validation of this step.
bool HasValidation(const std::string& run_dir, int64_t step);

}  // namespace unipool
