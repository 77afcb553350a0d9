#include <gflags/gflags.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/experts/pool_of_run.h"
#include "launcher/plan/saved_forecast.h"
#include "launcher/run_control/run_control.h"
#include "launcher/size_check.h"
#include "launcher/start_check.h"
#include "launcher/traffic/traffic_run.h"
#include "launcher/trainer.h"
#include "launcher/world_options.h"
#include "runtime/errors.h"
#include "runtime/host_memory.h"
#include "runtime/mpi_leftovers.h"
#include "runtime/problem_list.h"

DEFINE_bool(
    anew, false,
    "train: begin with step 0; checkpoints and metrics of earlier starts are moved aside, not deleted");

namespace unipool {
namespace {

// On one process of each host.
void RemoveLeftovers() {
  const char* local_rank = std::getenv("OMPI_COMM_WORLD_LOCAL_RANK");
  if (local_rank && std::atoi(local_rank) != 0) return;
  const Leftovers gone = RemoveMpiLeftovers();
  if (gone.segments + gone.folders == 0) return;
  PrintErrorLine(
      Format("note: removed %d pieces of shared memory (%.1f MB) and %d folders that killed MPI jobs left",
             gone.segments, 1e-6 * static_cast<double>(gone.bytes), gone.folders));
}

// A job that Slurm starts again goes on with what its first start began anew.
bool StartsAnew() {
  const char* restarts = std::getenv("SLURM_RESTART_COUNT");
  return FLAGS_anew && (!restarts || std::atoi(restarts) == 0);
}

// Of a failed allocation also the settings that cost most.
UserError WhyFailed(const std::exception& error, const Config& config, int ranks) {
  if (!dynamic_cast<const std::bad_alloc*>(&error)) return AsUserError(error);
  const std::vector<SizeCost> costs = EstimateCosts(config, ranks);
  double need = 0;
  for (const SizeCost& cost : costs) need += cost.bytes;
  return UserError(OutOfMemoryText() + "; these settings " + CostText(costs, need) +
                   "; `unipool info` shows the memory of each rank");
}

// Returns the process's exit code.
int Train(const Config& config, World& world, RunProcess& process,
          const std::shared_ptr<TrafficBoard>& board) {
  RunControl control(config, world, process);
  const std::string finished = control.anew() ? "" : control.WhyFinished();
  if (finished.empty()) CheckStart(config, world);  // before anything is written
  control.TakeLock();
  RunTogether(
      *world.communicator,
      [&] {
        if (world.rank() == 0) RemoveUnfinished(config.run_dir());
      },
      "tidies run_dir");
  if (!finished.empty()) {
    if (world.rank() == 0) std::printf("%s\n", finished.c_str());
    return 0;
  }
  control.CheckMayStart();
  for (;;) {
    const Config now = control.anew() ? config : WithPoolOfRun(config, world);
    TrafficRun traffic(now, world, board);
    const int exit_code = Trainer(now, traffic, control).Run();
    if (exit_code != Trainer::kPoolShrinks) return exit_code;
  }
}

void TellSavedForecast(const Config& config, int ranks) {
  const std::string text = SavedForecastText(config, ranks);
  if (!text.empty()) std::printf("%s\n", text.c_str());
}

}  // namespace

int TrainCommand(const CommandLine& command_line) {
  const Config config = LoadConfig(command_line);
  WorldOptions options = WorldOptionsOf(config);
  ValidateConfig(config, WorldSize(options));
  CheckTrafficSize(config, WorldSize(options));
  RemoveLeftovers();
  if (FLAGS_anew && config.train().resume_step() > 0) {
    throw UserError(
        Format("--anew begins with step 0 and train.resume_step=%d goes back to step %d: give one of them",
               config.train().resume_step(), config.train().resume_step()));
  }
  RunProcess process;
  const auto board = std::make_shared<TrafficBoard>();
  process.anew = StartsAnew();
  options.on_end = [&](const JobEnd& end) { process.state.End("failed", end); };
  std::atomic<int> exit_code = 0;  // of a run that ends well, which all ranks know alike
  const int world_exit_code = RunWorld(options, [&](World& world) {
    try {
      exit_code = Train(config, world, process, board);
    } catch (const std::exception& error) {
      const UserError told = WhyFailed(error, config, world.size());
      const char* status = told.exit_code() == kStoppedExitCode ? "stopped" : "failed";
      if (world.rank() == 0)
        process.state.End(status, {.exit_code = told.exit_code(), .reason = told.what()});
      throw told;
    }
  });
  if (world_exit_code != 0) return world_exit_code;
  if (exit_code == 0 && IsPrintingProcess()) TellSavedForecast(config, WorldSize(options));
  return exit_code;
}

}  // namespace unipool
