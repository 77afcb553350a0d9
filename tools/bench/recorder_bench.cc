// What recording an exchange costs (runtime/traffic_recorder.h): processor time around a transport that does
// nothing, by the number of ranks, and writing its record between steps. One line a case. Of a step: this
// times its exchanges, on the rank's own thread. Pairs of runs: traffic_bench.py.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "runtime/traffic_file.h"
#include "runtime/traffic_recorder.h"
#include "tools/bench/thread_time.h"

namespace unipool {
namespace {

class NoTransport : public Communicator {
 public:
  explicit NoTransport(int size) : Communicator(0, size) {}
  Ticket Start(std::span<const SendBlock>, std::span<const RecvBlock>, const ExchangeLabel&) override {
    return 0;
  }
  void Wait(Ticket) override {}
  std::unique_ptr<Communicator> Split(int, int) override { return nullptr; }
  [[noreturn]] void Abort(int, const std::string&) override { std::abort(); }
};

constexpr int64_t kExchanges = 4000, kSteps = 20;

// is_off: as with traffic.record: OFF, where no step is recorded.
double NsPerExchange(int ranks, bool is_recorded, bool is_kept, bool has_board, bool is_off = false) {
  TrafficRecorder recorder({.rank = 0,
                            .node_of_rank = std::vector<int>(ranks),
                            .carrier = "none",
                            .board = has_board ? std::make_shared<TrafficBoard>() : nullptr,
                            .clock = {},
                            .sums_steps = !is_off});
  recorder.SetSizes({.layers = 12, .slots_per_time = 12, .num_slots = 768});
  NoTransport none(ranks);
  const auto recorded = recorder.RecordWorld(none, "pool");
  Communicator& communicator = is_recorded ? *recorded : static_cast<Communicator&>(none);
  if (is_kept) recorder.KeepExchanges(kExchanges, kExchanges * ranks);
  std::vector<char> memory(1);
  const std::vector<SendBlock> send(ranks, {memory.data(), 1000});
  const std::vector<RecvBlock> recv(ranks, {memory.data(), 1000});
  double best = 1e9;
  for (int64_t step = 0; step < kSteps; ++step) {
    if (!is_off) recorder.BeginStep(step);
    const double begin = ThreadSeconds();
    for (int64_t i = 0; i < kExchanges; ++i) {
      ExchangeLabel label{.operation = "dispatch forward", .step = step, .slot = static_cast<int>(i % 768)};
      label.lane = 0;
      label.layer = static_cast<int16_t>(i % 12);
      label.row_bytes = 100;
      label.to_owners = true;
      communicator.Exchange(send, recv, label);
    }
    best = std::min(best, ThreadSeconds() - begin);
    if (!is_off) recorder.EndStep();
  }
  return 1e9 * best / kExchanges;
}

// Writing a kept step to a file between steps.
double NsPerWrittenExchange(int ranks) {
  const std::string path = std::filesystem::temp_directory_path() / TrafficFileName(getpid());
  const std::vector<PeerBytes> peers(ranks - 1);
  double best = 1e9;
  {
    TrafficFileWriter file(path, {});
    for (int step = 0; step < 5; ++step) {
      const double begin = ThreadSeconds();
      for (int64_t i = 0; i < kExchanges; ++i) file.Add(ExchangeRecord{}, peers);
      file.Flush();
      best = std::min(best, ThreadSeconds() - begin);
    }
  }
  std::filesystem::remove(path);
  return 1e9 * best / kExchanges;
}

}  // namespace
}  // namespace unipool

int main() {
  using unipool::NsPerExchange;
  using unipool::NsPerWrittenExchange;
  std::printf("%6s %12s %12s %12s %12s %12s %12s\n", "ranks", "bare ns", "OFF ns", "SUMMARY ns", "+ board ns",
              "FULL ns", "written ns");
  for (const int ranks : {2, 8, 64, 256}) {
    std::printf("%6d %12.1f %12.1f %12.0f %12.0f %12.0f %12.0f\n", ranks,
                NsPerExchange(ranks, false, false, false), NsPerExchange(ranks, true, false, true, true),
                NsPerExchange(ranks, true, false, false), NsPerExchange(ranks, true, false, true),
                NsPerExchange(ranks, true, true, true), NsPerWrittenExchange(ranks));
  }
  return 0;
}
