// What a run can be asked while it goes on, and by whom. Each rank adds what it was asked to numbers that
// travel with an exchange of all ranks, so that all of them act alike at the same boundary of a step.
#pragma once

#include <array>
#include <string>

namespace unipool {

enum class RunRequest {
  kSaveSignal,  // SIGUSR1: save and go on
  kSaveFile,    // RUN_DIR/save
  kSaveTime,    // train.save_minutes have passed
  kStopUsr2,    // SIGUSR2: save and stop, as all that follow
  kStopTerm,    // SIGTERM
  kStopInt,     // SIGINT
  kStopHup,     // SIGHUP
  kStopXcpu,    // SIGXCPU
  kStopFile,    // RUN_DIR/stop
  kStopTime,    // train.stop_at comes
};
inline constexpr int kNumRunRequests = 10;

// [r]: how many ranks were asked for r.
struct RunRequests {
  std::array<double, kNumRunRequests> count{};

  void Add(RunRequest request) { count[static_cast<int>(request)] += 1; }
  void AddAll(const RunRequests& other);
  bool Has(RunRequest request) const { return count[static_cast<int>(request)] > 0; }
  bool WantsStop() const;
  bool WantsSave() const;  // and to go on; also true where a stop is wanted too
  // Who asked for the stop, or else for the save: "SIGTERM", "SIGUSR2 and the file stop"; "" when nobody did.
  std::string Reason() const;
};

}  // namespace unipool
