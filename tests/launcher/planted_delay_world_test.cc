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

// What a rank saw of one exchange, beside the recorder: the clock before and after Start and Wait, ns.
struct Moments {
  int64_t start = 0, start_done = 0, wait = 0, done = 0;
  int64_t blocked() const { return done - wait; }
};

int64_t Now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
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
    moments_.push_back({.start = Now()});
    const Communicator::Ticket ticket = communicator_->Start(send, recv, label);
    moments_.back().start_done = Now();
    return ticket;
  }
  // REQUIRES: of the exchange that was started last.
  void Wait(Communicator::Ticket ticket) {
    moments_.back().wait = Now();
    communicator_->Wait(ticket);
    moments_.back().done = Now();
  }
  // [rank][exchange], on all ranks.
  std::vector<std::vector<Moments>> AllMoments() {
    std::vector<std::vector<Moments>> all(world_.size(), moments_);
    const auto bytes = static_cast<int64_t>(moments_.size() * sizeof(Moments));
    for (int r = 0; r < world_.size(); ++r) world_.communicator->Broadcast(all[r].data(), bytes, r, {});
    return all;
  }

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
  std::vector<Moments> moments_;
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

// A run in which the last rank computes `delay` longer before it sends in layer 2, and all else takes all
// ranks equally long, unless other programs delay them too. On rank 0: what the report says, and what the
// starts and waits say that the test itself has seen. Medians over steps: between the test's look at the
// clock and the recorder's a rank may lose its core.
struct Blame {
  double idle_ms = 0;     // of the other ranks, a step
  double share = 0;       // of the step's idle time, owed to the last rank in layer 2
  double waits_idle = 0;  // of the time that ranks were blocked, their idle time
  std::string verdict = {};
};
struct Blames {
  Blame told, seen;
};

constexpr int kPlantedSteps = 9;

// Idle times of a step, ns.
struct StepIdle {
  double all = 0, owed = 0, blocked = 0;
};

// Of the steps but the first one, in which a communicator's first use counts no times.
Blame BlameOf(const std::vector<StepIdle>& steps, int world) {
  std::vector<double> idle, shares, waits;
  for (size_t step = 1; step < steps.size(); ++step) {
    idle.push_back(1e-6 * steps[step].all / (world - 1));
    shares.push_back(steps[step].owed / std::max(1.0, steps[step].all));
    waits.push_back(steps[step].all / std::max(1.0, steps[step].blocked));
  }
  return {.idle_ms = Median(idle), .share = Median(shares), .waits_idle = Median(waits)};
}

// moments: [rank][step * layers + layer].
Blame BlameSeen(const std::vector<std::vector<Moments>>& moments) {
  const size_t ranks = moments.size(), slow = ranks - 1;
  std::vector<StepIdle> steps(kPlantedSteps);
  for (size_t e = 0; e < moments[0].size(); ++e) {
    StepIdle& step = steps[e / PlantedRank::kLayers];
    for (size_t r = 0; r < ranks; ++r) {
      size_t last = r == 0 ? 1 : 0;
      for (size_t p = 0; p < ranks; ++p) {
        if (p != r && moments[p][e].start > moments[last][e].start) last = p;
      }
      const auto ns = static_cast<double>(std::max<int64_t>(0, moments[last][e].start - moments[r][e].wait));
      step.all += ns;
      step.blocked += static_cast<double>(moments[r][e].blocked());
      if (last == slow && e % PlantedRank::kLayers == 2) step.owed += ns;
    }
  }
  return BlameOf(steps, static_cast<int>(ranks));
}

Blame BlameTold(const TrafficReport& report) {
  const int world = report.run.manifest.world;
  std::vector<StepIdle> steps(kPlantedSteps);
  for (const JoinedExchange& exchange : report.traffic.exchanges) {
    StepIdle& step = steps[exchange.step];
    for (const ExchangePart& part : exchange.parts) {
      if (!part.recorded) continue;
      const auto ns = static_cast<double>(std::max<int64_t>(0, part.idle + part.idle_receiver));
      step.all += ns;
      step.blocked += static_cast<double>(part.blocked());
      if (part.cause == world - 1 && part.recorded->record.layer == 2) step.owed += ns;
    }
  }
  Blame blame = BlameOf(steps, world);
  blame.verdict = report.verdict.kind;
  return blame;
}

Blames BlamesFor(World& world, const std::shared_ptr<TrafficBoard>& board, milliseconds delay) {
  const int slow = world.size() - 1;
  const std::string run_dir = RunDir(world, "delay");
  PlantedRank rank(world, board, run_dir);
  for (int step = 0; step < kPlantedSteps; ++step) {
    rank.Step(step, [&] {
      for (int layer = 0; layer < PlantedRank::kLayers; ++layer) {
        PassTime(milliseconds(1));
        if (world.rank() == slow && layer == 2) PassTime(delay);
        rank.Wait(rank.Start("dispatch forward", layer, [](int, int) { return 100; }));
      }
    });
  }
  const TrafficReport report = rank.Report();
  const auto moments = rank.AllMoments();
  if (world.rank() != 0) return {};
  std::filesystem::remove_all(run_dir);
  return {.told = BlameTold(report), .seen = BlameSeen(moments)};
}

// The report tells what was there, however busy the machine is.
TEST(PlantedDelay, IsOwedToItsRankAndLayer) {
  if (NumTestRanks() == 1) GTEST_SKIP() << "one rank waits for nobody";
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    for (const int delay : {0, 1, 2, 5, 10, 20}) {
      const auto [told, seen] = BlamesFor(world, board, milliseconds(delay));
      if (world.rank() != 0) continue;
      SCOPED_TRACE(Format("%d ms: told %.3f ms, share %.3f, %s; seen %.3f ms, share %.3f, %.3f of waits",
                          delay, told.idle_ms, told.share, told.verdict, seen.idle_ms, seen.share,
                          seen.waits_idle));
      EXPECT_NEAR(told.idle_ms, seen.idle_ms, 0.05 * seen.idle_ms + 0.2);
      if (delay >= 5) {  // of shorter times the clock's readings count
        EXPECT_NEAR(told.share, seen.share, 0.1);
      }
      // Where little else was waited for.
      if (seen.share > 0.9 && seen.waits_idle > 0.9) {
        EXPECT_EQ(told.verdict, "skew-dominated");
      }
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
      const auto moments = rank.AllMoments();
      if (world.rank() == 0) {
        const WaitFigures& waits = report.figures.ranks[0].waits;
        EXPECT_EQ(waits.idle, 0);  // it receives nothing
        double seen = 0;           // of the steps but the first, whose exchange is the first use
        bool left_without = false;
        for (size_t e = 1; e < moments[0].size(); ++e) {
          const Moments &own = moments[0][e], &other = moments[late][e];
          seen += static_cast<double>(std::clamp<int64_t>(other.start - own.wait, 0, own.blocked())) / 6;
          left_without = left_without || own.done < other.start;
        }
        if (size > 100) {
          EXPECT_NEAR(waits.idle_receiver, seen, 0.1 * seen + 1e6);
          EXPECT_GE(report.figures.owed[0][late], 0.95 * waits.Idle());
        } else if (world.is_mpi) {
          EXPECT_TRUE(left_without) << "a block of this size leaves without the receiver";
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
    const auto moments = rank.AllMoments();
    if (world.rank() != 0) return;
    double quick = 0, rest = 0,
           idle = 0;  // seen: a wait for the wire alone, at most; what nobody was away for
    for (size_t e = 1; e < moments[0].size(); ++e) {
      const Moments &own = moments[0][e], &other = moments[away][e];
      const auto late = static_cast<double>(std::clamp<int64_t>(other.start - own.wait, 0, own.blocked()));
      const auto exposed = static_cast<double>(own.blocked()) - late;
      const auto outside = static_cast<double>(std::max<int64_t>(
          0, std::min(other.wait, own.done) - std::max({own.wait, other.start_done, own.start})));
      if (e < 6) quick = std::max(quick, exposed);
      rest += std::max(exposed - outside, quick) / 12;
      idle += late / 12;
    }
    const WaitFigures& waits = report.figures.ranks[0].waits;
    EXPECT_LE(waits.exposed - waits.stalled, 1.1 * rest + 1e6);
    EXPECT_NEAR(waits.idle, idle, 0.1 * idle + 1e6);
    std::filesystem::remove_all(run_dir);
  });
}

}  // namespace
}  // namespace unipool
