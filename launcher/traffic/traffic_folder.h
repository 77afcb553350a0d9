// The folder RUN_DIR/traffic on rank 0's disk: runtime/TRAFFIC.md says what lies in it. Nothing here throws:
// records are worth less than the run, so what goes wrong comes back as a sentence.
#pragma once

#include <cstdint>
#include <string>

namespace unipool {

// What a file `record` asked for.
struct Trigger {
  static constexpr int64_t kMostSteps = 1000;
  int64_t steps = 0;    // 1 .. kMostSteps; 0: there is no file
  std::string problem;  // the text was not taken as it is: what was, and what would be right; or ""
};

class TrafficFolder {
 public:
  explicit TrafficFolder(const std::string& run_dir);
  const std::string& path() const { return path_; }

  // Makes the folder. What an earlier start left in it goes to before-N/. "" or what went wrong.
  std::string Prepare() const;
  // Writes a file whole: there is the old one or the new one, never half of it. "" or what went wrong.
  std::string Write(const std::string& name, const std::string& text) const;
  // Writes over as many bytes of a file, behind the first `after` in it: a full disk has room for that. Does
  // nothing where there is no such place.
  void WriteOver(const std::string& name, const std::string& after, const std::string& text) const;

  // What the file `record` asks for; the file is removed. An empty one asks for default_steps.
  Trigger TakeTrigger(int64_t default_steps) const;

 private:
  std::string path_;
};

}  // namespace unipool
