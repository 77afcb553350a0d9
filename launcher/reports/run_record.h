// What the folder of a run says of it, for those who look at it from outside: while it is written, when it is
// finished, after it was killed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace unipool {

// The numbers of metrics.jsonl by metric: (step, value), steps rising. A number that was none (null) is NaN.
// What has parts is named by them: "peak_memory.weights".
using MetricSeries = std::map<std::string, std::vector<std::pair<int64_t, double>>>;

// Reads RUN_DIR/metrics.jsonl again and again. A last line that is not whole yet waits for its rest.
class RunRecord {
 public:
  // `path`: the folder of a run, or a file of metrics. Throws UserError where that is neither; it names the
  // run of a checkpoint. A folder that a run has begun and not measured yet has no numbers.
  explicit RunRecord(const std::string& path);
  // Reads what is new; from the begin when the file became another one (a start that goes on from a
  // checkpoint writes it anew). Returns whether anything changed. Throws UserError with file and line: what
  // is no JSON object, lines of another program. Left out are lines with a negative step, with a metric that
  // is no number, and those whose step has been or should have come before.
  bool Read();

  const std::string& path() const { return path_; }  // as given, without / at its end
  const MetricSeries& series() const { return series_; }
  // Those of a metric. Throws UserError that names the metrics there are, with the nearest one.
  const std::vector<std::pair<int64_t, double>>& Series(const std::string& metric) const;
  int64_t last_step() const { return last_step_; }  // 0: none yet
  // How many lines are left out, and why the first one is; "": none.
  std::string LeftOut() const;

 private:
  void ReadLine(const std::string& line);
  void LeaveOut(const std::string& why);

  std::string path_, file_;
  MetricSeries series_;
  std::string rest_;  // of a line without its end
  int64_t offset_ = 0, line_number_ = 0, last_step_ = 0;
  uint64_t file_id_ = 0;
  int64_t num_left_out_ = 0;
  std::string first_left_out_;  // "line 7: ..."
};

}  // namespace unipool
