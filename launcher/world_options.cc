#include "launcher/world_options.h"

#include "launcher/cluster.h"
#include "models/settings.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

std::chrono::milliseconds MillisecondsOf(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

}  // namespace

WorldOptions WorldOptionsOf(const Config& config) {
  const ParallelConfig& parallel = config.parallel();
  constexpr int kMostThreads = 1024;
  if (!UnderMpiLauncher() && parallel.ranks() > kMostThreads) {
    throw UserError(Format(
        "parallel.ranks: is %d; must be at most %d, since these ranks are threads of one process; start "
        "more with mpirun or srun",
        parallel.ranks(), kMostThreads));
  }
  WorldOptions options{.num_threads = parallel.ranks(),
                       .timeout = MillisecondsOf(parallel.watchdog_seconds()),
                       .file_timeout = MillisecondsOf(parallel.file_watchdog_seconds()),
                       .progress_thread = WantsProgressThread(config)};
  if (parallel.emulate().empty()) return options;
  if (UnderMpiLauncher()) {
    throw UserError(
        "parallel.emulate: is " + parallel.emulate() +
        ", but a cluster is emulated only where ranks are threads of one process; start the program "
        "without mpirun or srun and set parallel.ranks, or clear parallel.emulate");
  }
  options.emulate = LoadCluster(parallel.emulate());
  return options;
}

}  // namespace unipool
