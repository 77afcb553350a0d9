// The folder RUN_DIR/traffic on rank 0's disk: runtime/TRAFFIC.md says what lies in it. Nothing here throws:
// records are worth less than the run, so what goes wrong comes back as a sentence.
#pragma once

#include <cstdint>
#include <string>

namespace unipool {

class TrafficFolder {
 public:
  explicit TrafficFolder(const std::string& run_dir);
  const std::string& path() const { return path_; }

  // Makes the folder. What an earlier start left in it goes to before-N/. "" or what went wrong.
  std::string Prepare() const;
  // Writes a file whole: there is the old one or the new one, never half of it. "" or what went wrong.
  std::string Write(const std::string& name, const std::string& text) const;

  // The steps that the file `record` asks for, 1 .. kMostSteps, and removes it. 0: there is none. A file
  // without a number asks for default_steps.
  int64_t TakeTrigger(int64_t default_steps) const;
  static constexpr int64_t kMostSteps = 1000;

 private:
  std::string path_;
};

}  // namespace unipool
