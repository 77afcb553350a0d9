// Delays that a test plants in real exchanges, and what the report says of them: recorder, files and report
// together.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "launcher/traffic/traffic_files.h"
#include "launcher/traffic_report/traffic_report.h"
#include "launcher/version.h"
#include "runtime/format.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// Sleeps, but for the last moment: others may use the processor, and the end is exact.
void PassTime(Clock::duration time) {
  const auto end = Clock::now() + time;
  std::this_thread::sleep_until(end - milliseconds(1) / 4);
  while (Clock::now() < end) {
  }
}

// One rank of a run that consists of exchanges alone, and records all of them.
class PlantedRank {
 public:
  PlantedRank(World& world, std::shared_ptr<TrafficBoard> board, const std::string& run_dir)
      : files_(run_dir),
        world_(world),
        recorder_({.rank = world.rank(),
                   .node_of_rank = std::vector<int>(world.size()),
                   .carrier = world.is_mpi ? "MPI" : "threads",
                   .board = world.is_mpi ? nullptr : std::move(board),
                   .clock = {}}),
        communicator_(recorder_.RecordWorld(*world.communicator, "pool")) {
    recorder_.SetSizes({.layers = kLayers, .slots_per_time = kLayers, .num_slots = kLayers});
    recorder_.KeepExchanges(100, 1000);
    if (world.rank() == 0) {
      std::filesystem::remove_all(run_dir);
      EXPECT_EQ(files_.folder().Prepare(), "");
    }
    world.communicator->Barrier({});
    files_.Begin({.program_version = ProgramVersion(),
                  .run_id = "planted",
                  .rank = world.rank(),
                  .world = world.size(),
                  .host = "host",
                  .boot_id = "boot",
                  .clock = "monotonic",
                  .slots_per_time = kLayers},
                 {{"unipool_traffic", kTrafficFormat},
                  {"program_version", ProgramVersion()},
                  {"run_id", "planted"},
                  {"record", "FULL"},
                  {"world", world.size()},
                  {"carrier", recorder_.options().carrier},
                  {"progress_thread", false},
                  {"polls", false},
                  {"clock", {{"kind", "monotonic"}}},
                  {"node_of_rank", recorder_.options().node_of_rank},
                  {"host_of_rank", std::vector<std::string>(world.size(), "host")},
                  {"boot_id_of_rank", std::vector<std::string>(world.size(), "boot")},
                  {"mesh", {{"stages", 1}}}});
  }

  // Body: all that the rank does in the step.
  template <class Body>
  void Step(int64_t step, Body&& body) {
    world_.communicator->Barrier({});
    recorder_.BeginStep(step);
    const int64_t begin = recorder_.options().clock.Now();
    body();
    recorder_.EndStep();
    files_.WriteStep(recorder_, {.step = step,
                                 .begin_ns = begin,
                                 .end_ns = recorder_.options().clock.Now(),
                                 .num_exchanges = static_cast<int64_t>(recorder_.keep().records().size())});
  }

  // bytes(from, to).
  template <class Bytes>
  Communicator::Ticket Start(const char* operation, int layer, Bytes&& bytes) {
    const int size = world_.size(), me = world_.rank();
    out_.resize(kMostBytes, 'x');
    in_.resize(size * kMostBytes);
    std::vector<SendBlock> send(size);
    std::vector<RecvBlock> recv(size);
    for (int p = 0; p < size; ++p) {
      if (p == me) continue;
      send[p] = {out_.data(), bytes(me, p)};
      recv[p] = {in_.data() + p * kMostBytes, bytes(p, me)};
    }
    ExchangeLabel label{.operation = operation, .step = 0, .slot = layer};
    label.lane = 0;
    label.stage = 0;
    label.layer = static_cast<int16_t>(layer);
    label.microbatch = 0;
    return communicator_->Start(send, recv, label);
  }
  void Wait(Communicator::Ticket ticket) { communicator_->Wait(ticket); }

  // On rank 0, when all ranks have written.
  TrafficReport Report() {
    world_.communicator->Barrier({});
    if (world_.rank() != 0) return {};
    files_.WriteManifest(true);
    EXPECT_EQ(files_.problem(), "");
    return MakeTrafficReport(std::filesystem::path(files_.folder().path()).parent_path(), {});
  }

  static constexpr int kLayers = 4;
  static constexpr int64_t kMostBytes = 8 << 20;

 private:
  TrafficFiles files_;
  World& world_;
  TrafficRecorder recorder_;
  std::unique_ptr<Communicator> communicator_;
  std::vector<char> out_, in_;
};

// The same folder on all ranks.
std::string RunDir(World& world, const std::string& name) {
  int64_t number = getpid();
  world.communicator->Broadcast(&number, sizeof(number), 0, {});
  return std::filesystem::temp_directory_path() / ("planted_" + name + std::to_string(number));
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Idle time over the ranks other than the last, ms a step: the median of steps but the first.
double IdleMs(const TrafficReport& report) {
  std::vector<double> idle;
  for (const StepFigures& step : report.figures.steps) {
    if (step.first == 0) continue;
    const double ranks = report.run.manifest.world;
    idle.push_back(1e-6 * step.waits.idle * ranks / (ranks - 1));
  }
  return Median(idle);
}

// A run in which the last rank computes `delay` longer before it sends in layer 2, and all else takes all
// ranks equally long, unless other programs delay them too. On rank 0: what the report says, and what the
// starts and waits say that the test itself has seen.
struct Blame {
  double idle_ms = 0;  // of the other ranks, a step: the median of steps
  double share = 0;    // of all idle time, owed to the last rank in layer 2
  std::string verdict = {};
};
struct Blames {
  Blame told, seen;
};

// What ranks saw of one exchange: the clock before Start and before Wait, ns.
struct Moments {
  int64_t start = 0, wait = 0;
};

constexpr int kPlantedSteps = 9;

// moments: [rank][step * layers + layer].
Blame BlameOf(const std::vector<std::vector<Moments>>& moments) {
  const size_t ranks = moments.size(), slow = ranks - 1;
  double all = 0, owed = 0;
  std::vector<double> steps;
  for (int step = 0; step < kPlantedSteps; ++step) {
    double idle = 0;
    for (int layer = 0; layer < PlantedRank::kLayers; ++layer) {
      const size_t e = step * PlantedRank::kLayers + layer;
      if (e == 0) continue;  // the first use of a communicator counts no times
      for (size_t r = 0; r < ranks; ++r) {
        size_t last = r == 0 ? 1 : 0;
        for (size_t p = 0; p < ranks; ++p) {
          if (p != r && moments[p][e].start > moments[last][e].start) last = p;
        }
        const auto ns =
            static_cast<double>(std::max<int64_t>(0, moments[last][e].start - moments[r][e].wait));
        idle += ns;
        all += ns;
        if (last == slow && layer == 2) owed += ns;
      }
    }
    if (step > 0) steps.push_back(1e-6 * idle / static_cast<double>(ranks - 1));
  }
  return {.idle_ms = Median(steps), .share = owed / std::max(1.0, all)};
}

Blames BlamesFor(World& world, const std::shared_ptr<TrafficBoard>& board, milliseconds delay) {
  const int slow = world.size() - 1;
  const std::string run_dir = RunDir(world, "delay");
  PlantedRank rank(world, board, run_dir);
  std::vector<Moments> own;
  const auto now = [] {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
  };
  for (int step = 0; step < kPlantedSteps; ++step) {
    rank.Step(step, [&] {
      for (int layer = 0; layer < PlantedRank::kLayers; ++layer) {
        PassTime(milliseconds(1));
        if (world.rank() == slow && layer == 2) PassTime(delay);
        own.push_back({.start = now()});
        const auto ticket = rank.Start("dispatch forward", layer, [](int, int) { return 100; });
        own.back().wait = now();
        rank.Wait(ticket);
      }
    });
  }
  const TrafficReport report = rank.Report();
  std::vector<std::vector<Moments>> moments(world.size(), own);
  const auto bytes = static_cast<int64_t>(own.size() * sizeof(Moments));
  for (int r = 0; r < world.size(); ++r) world.communicator->Broadcast(moments[r].data(), bytes, r, {});
  if (world.rank() != 0) return {};
  double owed = 0, all = 0;
  for (const auto& [key, cell] : report.figures.cells) {
    for (const auto& [cause, ns] : cell.owed) {
      all += ns;
      if (cause == slow && std::get<3>(key) == 2) owed += ns;
    }
  }
  std::filesystem::remove_all(run_dir);
  return {.told = {IdleMs(report), owed / std::max(1.0, all), report.verdict.kind}, .seen = BlameOf(moments)};
}

// The report tells what was there, however busy the machine is. Where nothing else was, that is the delay.
TEST(PlantedDelay, IsOwedToItsRankAndLayer) {
  if (NumTestRanks() == 1) GTEST_SKIP() << "one rank waits for nobody";
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    double seen_without = 0;
    for (const int delay : {0, 1, 2, 5, 10, 20}) {
      const auto [told, seen] = BlamesFor(world, board, milliseconds(delay));
      if (world.rank() != 0) continue;
      SCOPED_TRACE(Format("%d ms: told %.3f ms, share %.3f, %s; seen %.3f ms, share %.3f", delay,
                          told.idle_ms, told.share, told.verdict, seen.idle_ms, seen.share));
      EXPECT_NEAR(told.idle_ms, seen.idle_ms, 0.05 * seen.idle_ms + 0.2);
      EXPECT_NEAR(told.share, seen.share, delay == 0 ? 1 : 0.1);
      if (delay == 0) seen_without = seen.idle_ms;
      if (delay < 5 || seen.share < 0.97 || seen_without > 0.3) continue;  // the machine was busy
      EXPECT_GE(told.share, 0.95);
      EXPECT_NEAR(told.idle_ms, delay, 0.1 * delay);
      EXPECT_EQ(told.verdict, "skew-dominated");
    }
  });
}

// A rank that sends waits for one that has not started to receive: a block of this size needs both.
TEST(PlantedDelay, ALateReceiverIsNamed) {
  if (NumTestRanks() == 1) GTEST_SKIP() << "one rank waits for nobody";
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    const int late = world.size() - 1;
    for (const int64_t size : {PlantedRank::kMostBytes, int64_t{100}}) {
      const std::string run_dir = RunDir(world, "receiver");
      PlantedRank rank(world, board, run_dir);
      for (int step = 0; step < 6; ++step) {
        rank.Step(step, [&] {
          if (world.rank() == late) PassTime(milliseconds(20));
          rank.Wait(rank.Start("dispatch forward", 1,
                               [&](int from, int to) { return from == 0 && to == late ? size : 0; }));
        });
      }
      const TrafficReport report = rank.Report();
      if (world.rank() == 0) {
        const WaitFigures& waits = report.figures.ranks[0].waits;
        EXPECT_LE(waits.idle, 1e6);  // it receives nothing
        if (size > 100) {
          EXPECT_GE(waits.idle_receiver, 8e6);  // 17 ms a step are planted; a busy machine takes some
          EXPECT_GE(report.figures.owed[0][late], 0.95 * waits.Idle());
        } else if (world.is_mpi) {  // leaves without the receiver
          EXPECT_LE(waits.blocked, 8e6);
        }
        std::filesystem::remove_all(run_dir);
      }
      world.communicator->Barrier({});
    }
  });
}

// All have started, and then a rank computes without MPI, which may need it to move what it sends: not the
// wire's fault.
TEST(PlantedDelay, StalledBytesAreNotTheWires) {
  if (NumTestRanks() == 1 || !UnderMpiLauncher()) GTEST_SKIP() << "needs MPI and a second rank";
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    const int away = world.size() - 1;
    const std::string run_dir = RunDir(world, "stalled");
    PlantedRank rank(world, board, run_dir);
    for (int step = 0; step < 12; ++step) {
      rank.Step(step, [&] {
        const Communicator::Ticket ticket = rank.Start("dispatch forward", 1, [&](int from, int to) {
          return from == away && to == 0 ? PlantedRank::kMostBytes : 0;
        });
        if (world.rank() == away && step >= 6)
          PassTime(milliseconds(40));  // the first steps show what the wire takes
        rank.Wait(ticket);
      });
    }
    const TrafficReport report = rank.Report();
    if (world.rank() != 0) return;
    const WaitFigures& waits = report.figures.ranks[0].waits;
    EXPECT_LE(waits.exposed - waits.stalled, 12e6);
    EXPECT_LE(waits.idle, 10e6);
    std::filesystem::remove_all(run_dir);
  });
}

}  // namespace
}  // namespace unipool
