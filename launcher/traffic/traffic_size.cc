#include "launcher/traffic/traffic_size.h"

#include <algorithm>

#include "runtime/errors.h"
#include "runtime/traffic_record.h"

namespace unipool {
namespace {

constexpr int64_t kSmallExchanges = 64;            // statistics, requests and the like
constexpr int64_t kRoundBytes = int64_t{4} << 20;  // of a sum, over all ranks (runtime/communicator.h)
constexpr int64_t kLeastPiece = 64 << 10;

}  // namespace

double TrafficSize::megabytes() const {
  return 1e-6 * static_cast<double>(exchanges * static_cast<int64_t>(sizeof(ExchangeRecord)) +
                                    peers * static_cast<int64_t>(sizeof(PeerBytes)));
}

TrafficSize TrafficSizeOf(const SlotSchedule& schedule, const MeshShape& shape, int64_t sum_bytes) {
  TrafficSize size;
  const auto add = [&](int64_t exchanges, int64_t members) {
    size.exchanges += exchanges;
    size.peers += exchanges * (members - 1);
  };
  if (shape.pool() > 1) {
    for (int time = 0; time < schedule.num_times(); ++time) {
      for (int index = 0; index < schedule.slots_per_time(); ++index) {
        if (schedule.AnyWork(Lane::kForward, {time, index}))
          add(3, shape.pool());  // counts, dispatch, combine
        if (schedule.AnyWork(Lane::kBackward, {time, index})) add(2, shape.pool());
      }
    }
  }
  if (shape.stages > 1) add(int64_t{2} * schedule.num_times(), 3);
  if (schedule.head_place() == HeadPlace::kSpread) {
    add(int64_t{2} * schedule.num_microbatches(), shape.stages);  // rows and their gradients
  }
  const int64_t piece = std::max(kLeastPiece, kRoundBytes / shape.world());
  const int64_t rounds = sum_bytes / shape.world() / piece + 1;
  add(4 * rounds, shape.world());
  add(kSmallExchanges, shape.world());
  return size;
}

std::string TooLarge(const TrafficSize& step, int64_t steps, double max_megabytes) {
  const double all = step.megabytes() * static_cast<double>(steps);
  if (all <= max_megabytes) return "";
  std::string text = Format(
      "%d steps with %d exchanges each would take %.0f MB on each rank, and traffic.max_megabytes is %g: ",
      steps, step.exchanges, all, max_megabytes);
  const auto fitting = static_cast<int64_t>(max_megabytes / step.megabytes());
  if (fitting > 0) text += Format("record %d steps (traffic.num_steps=%d), ", fitting, fitting);
  return text +
         Format("raise it to %.0f, or use traffic.record=SUMMARY, which keeps sums and takes no such room",
                all + 1);
}

std::string NothingRecorded(const Config& config, int64_t first_step) {
  const TrafficConfig& traffic = config.traffic();
  const int64_t first = first_step + traffic.first_step();
  if (traffic.record() != TrafficConfig::FULL || first < config.train().steps()) return "";
  return Format(
      "traffic.record=FULL records no step: traffic.first_step=%d after this start is step %d, and "
      "train.steps=%d",
      traffic.first_step(), first, config.train().steps());
}

}  // namespace unipool
