// What is recorded of a training run: bytes are exact, the same on every transport, and recording changes no
// number.
#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include "models/settings.h"
#include "runtime/emulated_communicator.h"
#include "runtime/thread_communicator.h"
#include "tests/models/layouts.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int64_t kSteps = 3;

// What one rank recorded.
struct Traffic {
  RunTrace trace;
  std::map<std::string, std::vector<int64_t>> bytes_to;  // by operation: [world], own blocks on the diagonal
  int64_t dispatcher_bytes = 0;
  TrafficTotals totals;
  std::vector<StepReport> reports;
};

enum class Mode { kOff, kSummary, kFull };

std::unique_ptr<TrafficRecorder> RecorderFor(const World& world, std::shared_ptr<TrafficBoard> board) {
  return std::make_unique<TrafficRecorder>(
      TrafficOptions{.rank = world.rank(),
                     .node_of_rank = std::vector<int>(world.size()),
                     .carrier = "test",
                     .board = world.is_mpi || world.emulation ? nullptr : std::move(board),
                     .clock = {}});
}

// Bytes of single records are those of the sums, and each row on the wire is recorded at both ends.
void CheckRecords(World& world, const TrafficRecorder& recorder) {
  std::string own;
  for (size_t i = 0; i < recorder.keep().records().size(); ++i) {
    const ExchangeRecord& r = recorder.keep().records()[i];
    const CommunicatorName& group = recorder.communicators()[r.communicator];
    for (const PeerBytes& peer : recorder.keep().peers(static_cast<int64_t>(i))) {
      own += Format("%s %d %d %d %d %d %d\n", group.name.c_str(), group.members[0], r.sequence, world.rank(),
                    group.members[peer.peer], peer.bytes_to, peer.bytes_from);
    }
  }
  std::map<std::string, std::pair<int64_t, int64_t>> sent_and_got;
  for (const std::string& text : world.communicator->AllGatherText(own, {})) {
    std::istringstream lines(text);
    std::string name, word;
    for (std::string line; std::getline(lines, line);) {
      // The name of a communicator may have blanks: numbers are the last six words.
      std::vector<std::string> words;
      std::istringstream in(line);
      while (in >> word) words.push_back(word);
      const size_t n = words.size();
      std::string exchange;
      for (size_t i = 0; i < n - 4; ++i) exchange += words[i] + " ";
      sent_and_got[exchange + words[n - 4] + " to " + words[n - 3]].first = std::stoll(words[n - 2]);
      sent_and_got[exchange + words[n - 3] + " to " + words[n - 4]].second = std::stoll(words[n - 1]);
    }
  }
  EXPECT_EQ(sent_and_got.empty(), world.size() == 1);
  for (const auto& [exchange, bytes] : sent_and_got) EXPECT_EQ(bytes.first, bytes.second) << exchange;
}

Traffic TrainRecorded(const Config& config, World& plain, const std::shared_ptr<TrafficBoard>& board,
                      Mode mode, int64_t steps = kSteps) {
  Traffic traffic;
  std::unique_ptr<TrafficRecorder> recorder;
  std::unique_ptr<Communicator> recorded;
  World world = plain;
  if (mode != Mode::kOff) {
    recorder = RecorderFor(plain, board);
    recorded = recorder->RecordWorld(*plain.communicator, "world");
    world.communicator = recorded.get();
  }
  TrainingEngine engine(config, world, {.dtype = DType::kF64, .recorder = recorder.get()});
  if (mode == Mode::kFull) recorder->KeepExchanges(10'000, 100'000);
  std::vector<int32_t> tokens;
  for (int64_t step = 0; step < steps; ++step) {
    if (recorder) recorder->BeginStep(step);
    const StepReport report =
        engine.TrainStep(step, config.train().lr(), SamplesOf(engine, config, 2024, step, tokens));
    if (recorder) recorder->EndStep();
    traffic.trace.loss.push_back(report.loss);
    traffic.trace.pool_loss.push_back(report.load.pool_loss);
    traffic.trace.grad_norm.push_back(report.grad_norm);
    traffic.reports.push_back(report);
    if (mode == Mode::kFull) CheckRecords(plain, *recorder);
  }
  traffic.dispatcher_bytes = engine.parts().dispatcher.bytes_sent();
  if (!recorder) return traffic;
  traffic.totals = recorder->tally().window();
  EXPECT_EQ(traffic.totals.dropped, 0);
  for (const TrafficTally::Operation& operation : recorder->tally().operations()) {
    std::vector<int64_t>& sum = traffic.bytes_to[operation.name];
    sum.resize(plain.size());
    for (int r = 0; r < plain.size(); ++r) sum[r] += operation.bytes_to[r];
  }
  return traffic;
}

int64_t SumOver(World& world, int64_t value) {
  int64_t sum = 0;
  for (const std::string& text : world.communicator->AllGatherText(std::to_string(value), {})) {
    sum += std::stoll(text);
  }
  return sum;
}

int64_t BytesOf(const Traffic& traffic, const std::string& operation) {
  const auto found = traffic.bytes_to.find(operation);
  int64_t sum = 0;
  if (found != traffic.bytes_to.end()) {
    for (const int64_t bytes : found->second) sum += bytes;
  }
  return sum;
}

std::vector<SmallModel> Kinds() {
  return {{.experts = 7, .top_k = 2, .layers = 4},
          {.router = RouterType::SOFTMAX,
           .sharing = Sharing::PRIVATE,
           .balance = Balance::LAYER_LOSS,
           .experts = 16,
           .top_k = 3,
           .layers = 4},
          {.balance = Balance::POOL_LOSS, .scope = BalanceScope::MICROBATCH, .experts = 7, .layers = 4}};
}

// Each of the four ways of a row carries tokens x top-k x layers rows in each step, with those that stay on
// the rank. (NormRouter gives choices a score of 0 now and then; these rows are left out, on all four ways
// alike.) What is on the wire is what the dispatcher counts.
TEST(Traffic, BytesAreThoseOfTheModel) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    if (world.size() == 1) return;
    for (const SmallModel& small : Kinds()) {
      for (const Layout& layout : LayoutsOf(world.size())) {
        SCOPED_TRACE(NameOf(small) + ", " + NameOf(layout));
        const Config config = Laid(TrainingConfigOf(small), layout);
        const Traffic traffic = TrainRecorded(config, world, board, Mode::kFull);
        const bool is_alone = MeshShapeOf(config.parallel(), world.size()).pool() == 1;
        const int64_t tokens = config.train().global_batch() * config.model().seq_length();
        const int64_t most =
            is_alone ? 0 : kSteps * tokens * small.top_k * small.layers * config.model().hidden() * 8;
        const int64_t expected = SumOver(world, BytesOf(traffic, "dispatch forward"));
        EXPECT_LE(expected, most);
        EXPECT_GE(expected, most * 9 / 10);
        EXPECT_TRUE(small.router != RouterType::SOFTMAX || expected == most) << expected << " of " << most;
        int64_t on_wire = 0;
        for (const char* operation :
             {"dispatch forward", "combine forward", "dispatch backward", "combine backward"}) {
          EXPECT_EQ(SumOver(world, BytesOf(traffic, operation)), expected) << operation;
          const auto found = traffic.bytes_to.find(operation);
          if (found != traffic.bytes_to.end())
            on_wire += BytesOf(traffic, operation) - found->second[world.rank()];
        }
        EXPECT_EQ(on_wire + BytesOf(traffic, "counts"), traffic.dispatcher_bytes);
      }
    }
  });
}

// Losses of all modes, bit for bit; and the keys of a step.
TEST(Traffic, RecordingChangesNoNumber) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    for (const SmallModel& small : Kinds()) {
      for (const Layout& layout : LayoutsOf(world.size())) {
        SCOPED_TRACE(NameOf(small) + ", " + NameOf(layout));
        const Config config = Laid(TrainingConfigOf(small), layout);
        const Traffic off = TrainRecorded(config, world, board, Mode::kOff);
        const Traffic summary = TrainRecorded(config, world, board, Mode::kSummary);
        const Traffic full = TrainRecorded(config, world, board, Mode::kFull);
        EXPECT_EQ(summary.trace, off.trace);
        EXPECT_EQ(full.trace, off.trace);
        EXPECT_EQ(summary.bytes_to, full.bytes_to);
        EXPECT_FALSE(off.reports[1].traffic.has_value());
        ASSERT_TRUE(summary.reports[1].traffic.has_value());
        const TrafficStep& step = *summary.reports[1].traffic;
        EXPECT_EQ(step.wire_bytes > 0, world.size() > 1);
        EXPECT_EQ(step.wire_bytes_inter, 0);
        // A rank alone waits for nobody, whether that is known or not.
        if (world.size() > 1) {
          EXPECT_EQ(step.idle_ms.has_value(), !world.is_mpi);
        }
        EXPECT_FALSE(step.hidden_share.has_value());
        EXPECT_EQ(step.receive_imbalance.has_value(),
                  MeshShapeOf(config.parallel(), world.size()).pool() > 1);
        if (step.receive_imbalance) {
          EXPECT_GE(*step.receive_imbalance, 1);
          EXPECT_LE(*step.receive_imbalance, world.size());
          EXPECT_GE(*step.receive_imbalance_p95, 1);
        }
        // A step's numbers hold what the sums hold, but for what came after the last statistics.
        const int64_t all = SumOver(world, summary.totals.wire_bytes());
        int64_t told = 0;
        for (const StepReport& report : summary.reports) told += report.traffic->wire_bytes;
        EXPECT_LE(told, all);
        EXPECT_GE(told, (kSteps - 1) * all / kSteps - 1);
      }
    }
  });
}

// A world of threads of its own, also inside a test that runs as one of several ranks.
void RunThreads(int size, bool is_emulated, const std::function<void(World&)>& body) {
  const ClusterDescription cluster{.ranks_per_node = 2,
                                   .intra_node = {.latency_seconds = 1e-6, .bytes_per_second = 1e9},
                                   .inter_node = {.latency_seconds = 1e-5, .bytes_per_second = 1e8}};
  auto communicators = MakeThreadCommunicators(size, {.exchange = std::chrono::minutes(1)});
  const auto wire = MakeEmulatedWire(size, cluster);
  std::vector<std::thread> threads;
  for (auto& communicator : communicators) {
    threads.emplace_back([&, own = std::move(communicator)]() mutable {
      MemoryMeter memory;
      std::shared_ptr<EmulatedRank> emulation;
      if (is_emulated) {
        EmulatedWorld emulated = Emulate(std::move(own), wire);
        own = std::move(emulated.communicator);
        emulation = std::move(emulated.rank);
      }
      World world{.communicator = own.get(), .memory = &memory, .emulation = emulation.get()};
      body(world);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// One matrix for one configuration, whatever carries it.
TEST(Traffic, BytesDoNotDependOnTheTransport) {
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    const Layout layout{.stages = world.size() % 2 == 0 ? 2 : 1};
    const Config config = Laid(TrainingConfigOf(Kinds()[0]), layout);
    const Traffic here = TrainRecorded(config, world, board, Mode::kSummary);
    const auto text_of = [](const Traffic& traffic) {
      std::string text;
      for (const auto& [operation, bytes] : traffic.bytes_to) {
        text += operation + ":";
        for (const int64_t number : bytes) text += " " + std::to_string(number);
        text += "\n";
      }
      return text;
    };
    const auto all = world.communicator->AllGatherText(text_of(here), {});
    if (world.rank() != 0) return;
    for (const bool is_emulated : {false, true}) {
      std::mutex mutex;
      std::vector<std::string> there(world.size());
      const auto other_board = std::make_shared<TrafficBoard>();
      RunThreads(world.size(), is_emulated, [&](World& threads) {
        const Traffic traffic = TrainRecorded(config, threads, other_board, Mode::kSummary);
        EXPECT_EQ(traffic.trace, here.trace);
        EXPECT_EQ(traffic.reports[1].traffic->hidden_share.has_value(), threads.size() > 1 && is_emulated);
        std::lock_guard lock(mutex);
        there[threads.rank()] = text_of(traffic);
      });
      EXPECT_EQ(there, all) << (is_emulated ? "emulated" : "threads");
    }
  });
}

// For traffic_oracle_test.py, which compares with what MPI counts: trains UNIPOOL_TRAFFIC_STEPS steps and
// writes the bytes to each rank to UNIPOOL_TRAFFIC_FILE.RANK.
TEST(Traffic, DISABLED_ForTheOracle) {
  const char* steps = std::getenv("UNIPOOL_TRAFFIC_STEPS");
  const char* path = std::getenv("UNIPOOL_TRAFFIC_FILE");
  ASSERT_TRUE(steps && path) << "only traffic_oracle_test.py asks for it";
  const auto board = std::make_shared<TrafficBoard>();
  RunOnRanks([&](World& world) {
    const Config config = Laid(TrainingConfigOf(Kinds()[0]), {.stages = 2});
    const Traffic traffic = TrainRecorded(config, world, board, Mode::kSummary, std::atoi(steps));
    std::vector<int64_t> to(world.size());
    for (const auto& [operation, bytes] : traffic.bytes_to) {
      for (int r = 0; r < world.size(); ++r) to[r] += bytes[r];
    }
    std::ofstream file(path + ("." + std::to_string(world.rank())));
    for (const int64_t bytes : to) file << bytes << "\n";
  });
}

}  // namespace
}  // namespace unipool
