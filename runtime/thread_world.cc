#include "runtime/thread_world.h"

#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include "runtime/emulated_communicator.h"
#include "runtime/failed_check.h"
#include "runtime/problem_list.h"
#include "runtime/thread_communicator.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

// How long a rank that failed waits for others to fail too, so that a problem they share is printed once.
constexpr std::chrono::milliseconds kGrace{1000};

// Who has left the body, and with which problems.
struct Exits {
  std::mutex mutex;
  std::condition_variable changed;
  int num_left = 0;
  std::vector<bool> left;
  std::vector<std::string> problems;  // packed, per rank
};

[[noreturn]] void EndProcess(const WorldOptions& options, const JobEnd& end) {
  PrintErrorLine(end.reason);
  if (options.on_end) options.on_end(end);
  _exit(end.exit_code);
}

void RunRank(const std::function<void(World&)>& body, std::unique_ptr<Communicator> communicator,
             std::shared_ptr<EmulatedWire> wire, const std::function<double()>& cpu_seconds, Exits& exits) {
  const int rank = communicator->rank();
  MemoryMeter memory;
  std::shared_ptr<EmulatedRank> emulation;
  if (wire) {
    EmulatedWorld emulated = Emulate(std::move(communicator), std::move(wire), cpu_seconds);
    communicator = std::move(emulated.communicator);
    emulation = std::move(emulated.rank);
  }
  World world{.communicator = communicator.get(),
              .memory = &memory,
              .is_mpi = false,
              .local_rank = rank,
              .hosts = std::vector<std::string>(communicator->size(), HostName()),
              .emulation = emulation.get()};
  std::string problems = ProblemsOf([&] { body(world); });
  communicator.reset();
  std::lock_guard lock(exits.mutex);
  exits.problems[rank] = std::move(problems);
  exits.left[rank] = true;
  ++exits.num_left;
  exits.changed.notify_one();
}

// Returns when all ranks have left. When one has failed and others go on (most likely waiting for it), or
// when some have long been gone and others do not come, ends the process.
void Supervise(Exits& exits, int size, const WorldOptions& options) {
  std::unique_lock lock(exits.mutex);
  const auto all_left = [&] { return exits.num_left == size; };
  exits.changed.wait(lock, [&] { return exits.num_left > 0; });
  for (;;) {
    if (const int exit_code = ExitCodeOf(exits.problems)) {
      if (exits.changed.wait_for(lock, kGrace, all_left)) return;
      EndProcess(options, {exit_code, DescribeProblems(exits.problems)});
    }
    if (all_left()) return;
    // A rank that waits for one that has left tells more than can be told here, so it gets the first word.
    const int seen = exits.num_left;
    const std::chrono::duration<double> limit = options.timeout + 3 * kGrace;
    PatientClock waited(PatientClock::Clock::now());
    while (exits.num_left == seen && (options.timeout.count() == 0 || waited.seconds() < limit.count())) {
      exits.changed.wait_for(lock, kGrace / 10);
      waited.Look(PatientClock::Clock::now());
    }
    if (exits.num_left > seen) continue;
    std::vector<int> missing;
    for (int r = 0; r < size; ++r) {
      if (!exits.left[r]) missing.push_back(r);
    }
    EndProcess(options, {kStuckExitCode, "stuck: other ranks have ended, and " + NameRanks(missing) +
                                             " did not follow. The job ends."});
  }
}

}  // namespace

int RunThreadWorld(const WorldOptions& options, const std::function<void(World&)>& body) {
  const int size = options.num_threads;
  CHECK_GE(size, 1);
  const FailedCheckActs acts(options.on_end);
  auto communicators = MakeThreadCommunicators(
      size, {.exchange = options.timeout, .files = options.file_timeout}, options.on_end);
  std::shared_ptr<EmulatedWire> wire;
  std::function<double()> cpu_seconds = ThreadCpuSeconds;
  if (options.emulate) {
    wire = MakeEmulatedWire(size, *options.emulate);
    if (options.emulate->work_is_told) cpu_seconds = [] { return 0.0; };
  }
  Exits exits;
  exits.left.resize(size);
  exits.problems.resize(size);
  if (size == 1) {
    RunRank(body, std::move(communicators[0]), wire, cpu_seconds, exits);
  } else {
    std::vector<std::thread> threads;
    for (auto& communicator : communicators) {
      try {
        threads.emplace_back([&body, &exits, &cpu_seconds, wire, own = std::move(communicator)]() mutable {
          RunRank(body, std::move(own), wire, cpu_seconds, exits);
        });
      } catch (const std::system_error& error) {  // those that have begun wait for this one
        EndProcess(
            options,
            {kUserErrorExitCode,
             Format("error: the thread of rank %d of %d cannot be started (%s); use fewer ranks, or raise "
                    "the limit of processes or memory (ulimit -u, -v, -d; pids.max of the cgroup)",
                    static_cast<int>(threads.size()), size, error.code().message().c_str())});
      }
    }
    Supervise(exits, size, options);
    for (std::thread& thread : threads) thread.join();
  }
  const int exit_code = ExitCodeOf(exits.problems);
  if (exit_code != 0) PrintErrorLine(DescribeProblems(exits.problems));
  return exit_code;
}

}  // namespace unipool
