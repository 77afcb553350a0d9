// What a training run does with the records of its exchanges (runtime/traffic_recorder.h): which steps are
// recorded, and what is written to RUN_DIR/traffic. One on each rank. Whatever goes wrong with the files is
// told once, and the run goes on without them.
#pragma once

#include <memory>
#include <string>

#include "configs/config.pb.h"
#include "launcher/run_control/run_request.h"
#include "launcher/traffic/traffic_files.h"
#include "launcher/traffic/traffic_size.h"
#include "models/training_engine.h"
#include "runtime/thread_cpu.h"
#include "runtime/world.h"

namespace unipool {

// Throws UserError where the single exchanges that `config` wants recorded would take too much room. Before
// the world is made.
void CheckTrafficSize(const Config& config, int world_size);

// For tests of clocks that differ: UNIPOOL_TEST_CLOCK="RANK:SECONDS:PPM" in the environment makes the clock
// of a rank wrong and lets the rank count as on a host of its own; several are separated by blanks. Ranks
// that are threads then look at no board, as if they were processes. For the benchmark of what recording
// costs: of UNIPOOL_TEST_RECORD_IN_TURN steps in turn the first half is not recorded.
class TrafficRun {
 public:
  // `board`: shared by the ranks of this process. With traffic.record: OFF nothing is recorded until the
  // trigger file asks for it, and an exchange costs one call and one branch more than without.
  TrafficRun(const Config& config, World& world, std::shared_ptr<TrafficBoard> board);
  // As the world that it was given, with a recorded communicator.
  World& world() { return world_; }
  TrafficRecorder* recorder() { return recorder_.get(); }

  // ---- The rest is collective.
  // The engine was made with world() and recorder(), and its next step is `step`.
  void Start(const TrainingEngine& engine, int64_t step);
  void BeginStep(int64_t step);
  // engine.Update, with which `requests` travel, and the steps that the trigger file asks for.
  StepReport Update(TrainingEngine& engine, int64_t step, double lr, RunRequests& requests);
  // Writes the step's records, and the window when it is full. Where ranks are processes, the last step of a
  // window is the one whose idle times are found out: on rank 0 `report` gets them.
  void EndStep(const TrainingEngine& engine, StepReport& report);
  void End();  // the last window

 private:
  int64_t Now() const;
  double StepsAskedFor() const;        // by the trigger file, as rank 0 sees it
  bool IsWritten(int64_t step) const;  // the step's single exchanges
  bool IsSampled(int64_t step) const;  // the step's idle times are found out afterwards
  bool IsLeftOut(int64_t step) const;  // not recorded at all
  bool EndsWindow(int64_t step) const;
  void Open(const TrainingEngine& engine);
  void PlanNext(int64_t next_step);
  void EndRecordedStep(StepReport& report);
  void WriteStep(int64_t end_ns);
  int64_t StepsThatFit() const;
  void CompareAllClocks(int num_probes);
  std::optional<TrafficStep> CloseWindow();
  void TellProblem(const std::string& problem);
  TrafficHeader Header(const TrainingEngine& engine, const std::string& run_id) const;
  nlohmann::ordered_json Manifest(const TrainingEngine& engine, const std::string& run_id) const;

  const Config& config_;
  World& plain_;  // its exchanges are not recorded
  World world_;
  std::unique_ptr<TrafficRecorder> recorder_;
  std::unique_ptr<Communicator> communicator_;
  TrafficFiles files_;
  struct {
    std::vector<std::string> boot_ids;
    std::vector<int> cores;           // that its host's ranks may use
    std::vector<int64_t> offsets_ns;  // of its clock, to that of rank 0
  } of_rank_;
  const int64_t steps_in_turn_;  // 0: all steps are recorded
  int64_t first_step_ = -1;      // of this start; -1: Start was not called
  int64_t step_ = -1;            // the running one, or the last one
  struct {
    int64_t first = -1;                                           // step; -1: none since the last window
    int64_t ns = 0;                                               // of all its steps
    int64_t begin_ns = 0;                                         // of the running one
    ThreadCpu cpu{.cpu_ns = 0, .queued_ns = 0, .pushed_off = 0};  // of all its steps
    WindowExperts experts;                                        // of all its steps, on rank 0
  } window_;
  TrafficSize size_;  // of the records of a step, about
  struct {
    std::unique_ptr<ThreadCpuClock> clock;  // null: the rank computes elsewhere
    ThreadCpu step;                         // at the begin of the running one, then of it
  } cpu_;
  struct {
    int64_t asked = 0, to_keep = 0;  // by the trigger in the running step; that are still to be kept
    bool is_recorded = false;        // the running one
  } steps_;
  TrafficStep last_;      // without numbers before the first step
  bool is_told_ = false;  // that something went wrong
};

}  // namespace unipool
