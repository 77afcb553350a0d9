#include "launcher/plan/work_probe.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "launcher/told_work.h"
#include "models/step_plan.h"
#include "models/training_engine.h"
#include "runtime/errors.h"
#include "runtime/random.h"
#include "runtime/range.h"

namespace unipool {
namespace {

constexpr int kSteps = 4, kWarmUp = 1, kMicrobatches = 2, kLayers = 2;

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Half of what values lie apart, as a share of the median; the largest tenth is left out.
double SpreadOf(std::vector<double> values) {
  if (values.size() < 2) return 0;
  std::sort(values.begin(), values.end());
  const double median = values[values.size() / 2], high = values[values.size() * 9 / 10];
  return median > 0 ? (high - values.front()) / 2 / median : 0;
}

// Pieces of work with their times; parts of a piece are added up.
class TimingMeter : public WorkMeter {
 public:
  TimingMeter(const std::function<double()>& clock, WorkMeter* told) : clock_(clock), told_(told) {}
  void Begin() override { begin_ = clock_(); }
  void End(WorkKind kind, double amount, const WorkPart& part) override {
    if (told_) told_->End(kind, amount, part);
    double& sum = parts_[static_cast<int>(kind)];
    sum += clock_() - begin_;
    if (part.end < part.num_parts) return;
    if (amount > 0) pieces[static_cast<int>(kind)].push_back({amount, sum, part.experts});
    sum = 0;
  }
  struct Piece {
    double amount = 0, seconds = 0, experts = 1;
    double unit = 0;  // WorkTimes::units of its size
  };
  std::array<std::vector<Piece>, kNumWorkKinds> pieces;

 private:
  const std::function<double()>& clock_;
  WorkMeter* told_;
  double begin_ = 0;
  double parts_[kNumWorkKinds] = {};
};

Config SmallPart(const Config& config, int ranks_of_pool) {
  Config small = config;
  small.clear_parallel();
  small.mutable_parallel()->set_emulate(config.parallel().emulate());  // whose work may be told
  small.clear_traffic();
  small.mutable_moe()->clear_lock();
  small.mutable_moe()->set_shrink_to(0);
  small.mutable_moe()->set_router_constant(1);
  small.mutable_model()->set_layers(kLayers);
  small.mutable_train()->set_eval_every(0);
  if (config.moe().sharing() == Sharing::DENSE) {
    small.mutable_moe()->set_experts(kLayers);
    return small;
  }
  const auto own = static_cast<int>(EvenPartition(config.moe().experts(), ranks_of_pool, 0).size());
  small.mutable_moe()->set_sharing(Sharing::GLOBAL);
  small.mutable_moe()->clear_groups();
  small.mutable_moe()->clear_band();
  small.mutable_moe()->set_experts(std::max(own, config.moe().top_k()));
  return small;
}

// The same with as few experts as tokens can choose: all rows go to these. Their weights are read once for
// many rows.
Config WithFewestExperts(Config small) {
  small.mutable_moe()->set_experts(small.moe().top_k());
  return small;
}

struct Size {
  int micro_batch = 1, seq_length = 1;
};
std::vector<Size> SizesOf(const Config& config) {
  const int s = config.model().seq_length();
  std::vector<Size> sizes;
  for (const int part : {64, 16, 4}) {
    if (s / part >= 4) sizes.push_back({1, s / part});
  }
  sizes.push_back({1, s});
  if (config.train().micro_batch() > 1) sizes.push_back({config.train().micro_batch(), s});
  return sizes;
}

std::vector<int32_t> RandomTokens(int64_t count, int vocab) {
  std::vector<int32_t> tokens(count);
  for (int64_t i = 0; i < count; ++i) tokens[i] = static_cast<int32_t>(RandomBits(1, i) % vocab);
  return tokens;
}

double ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  double all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

using PiecesOfKinds = std::array<std::vector<TimingMeter::Piece>, kNumWorkKinds>;

// By kind, of one rank: medians of the pieces of each size.
struct Rates {
  PiecesOfKinds all, few;  // with the rank's experts, and with the fewest
  std::vector<double> spreads, step_seconds;
  double slack = 0, fixed = 0;
};

void RunSize(const Config& config, World& alone, const std::function<double()>& clock, PiecesOfKinds& found,
             Rates& rates) {
  const std::unique_ptr<WorkMeter> told = TellWork(config, alone);
  TimingMeter meter(clock, told.get());
  TrainingEngine engine(config, alone, {.meter = &meter});
  const int64_t b = config.train().micro_batch(), s = config.model().seq_length();
  std::vector<int32_t> tokens = RandomTokens(kMicrobatches * b * (s + 1), config.model().vocab());
  const Tensor samples(tokens.data(), DType::kI32, {kMicrobatches, b, s + 1});
  rates.step_seconds.clear();
  for (int step = 0; step < kSteps; ++step) {
    if (step == kWarmUp) meter.pieces = {};
    const double begin = clock();
    engine.TrainStep(step, 1e-4, samples);
    if (step >= kWarmUp) rates.step_seconds.push_back(clock() - begin);
  }
  const std::array<double, kNumWorkKinds> units = WorkTimesOf(config, {}).units;
  for (int kind = 0; kind < kNumWorkKinds; ++kind) {
    std::vector<double> amounts, seconds, experts;
    for (const TimingMeter::Piece& piece : meter.pieces[kind]) {
      amounts.push_back(piece.amount);
      seconds.push_back(piece.seconds);
      experts.push_back(piece.experts);
    }
    if (Median(seconds) <= 0) continue;
    found[kind].push_back({Median(amounts), Median(seconds), Median(experts), units[kind]});
    rates.spreads.push_back(SpreadOf(seconds));
  }
}

bool IsOfExperts(int kind) {
  return kind == Work::EXPERTS_FORWARD || kind == Work::EXPERTS_INPUT || kind == Work::EXPERTS_WEIGHTS;
}

// A piece of R rows with A experts takes longer than one with few by what the weights of the others cost.
std::vector<WorkRate::Point> PointsOf(const Rates& rates, int kind) {
  WorkRate of_few;
  double few = 1;
  for (const TimingMeter::Piece& piece : rates.few[kind]) {
    few = piece.experts;
    if (of_few.points.empty() || piece.amount > of_few.points.back().amount)
      of_few.points.push_back({piece.amount, piece.amount * piece.unit / piece.seconds});
  }
  std::vector<WorkRate::Point> points;
  for (const TimingMeter::Piece& piece : rates.all[kind]) {
    double each = 0;
    if (IsOfExperts(kind) && !of_few.points.empty() && piece.experts > few) {
      const double with_few = piece.amount * piece.unit / of_few.UnitsPerSecond(piece.amount);
      each = std::max(0.0, (piece.seconds - with_few) / (piece.experts - few));
    }
    const double with_one = piece.seconds - each * (piece.experts - 1);
    if (with_one <= 0) each = 0;  // few rows, all of whose time is that of weights: there is no more to tell
    const double seconds = with_one > 0 ? with_one : piece.seconds;
    points.push_back({piece.amount, piece.amount * piece.unit / seconds, each});
  }
  return points;
}

// Mean of the ranks.
std::vector<WorkConfig> MeanOf(const std::vector<nlohmann::json>& ranks) {
  std::vector<WorkConfig> work;
  for (int kind = 0; kind < kNumWorkKinds; ++kind) {
    size_t num_sizes = ranks[0]["rates"][kind].size();
    for (const nlohmann::json& rank : ranks) num_sizes = std::min(num_sizes, rank["rates"][kind].size());
    WorkConfig entry;
    entry.set_kind(static_cast<Work::Kind>(kind));
    for (size_t size = 0; size < num_sizes; ++size) {
      double amount = 0, rate = 0, each = 0;
      const auto count = static_cast<double>(ranks.size());
      for (const nlohmann::json& rank : ranks) {
        const nlohmann::json& point = rank["rates"][kind][size];
        amount += point[0].get<double>() / count;
        rate += point[1].get<double>() / count;
        each += point[2].get<double>() / count;
      }
      const int last = entry.rate_size() - 1;
      if (last >= 0 && amount <= entry.rate(last).amount()) entry.mutable_rate()->RemoveLast();
      RateConfig& point = *entry.add_rate();
      point.set_amount(amount);
      point.set_giga_per_second(1e-9 * rate);
      if (each > 0) point.set_expert_us(1e6 * each);
    }
    if (num_sizes > 0) work.push_back(std::move(entry));
  }
  return work;
}

}  // namespace

WorkMeasured MeasureWork(const Config& config, int ranks_of_pool, World& world,
                         const std::function<double()>& clock, double seconds) {
  const std::unique_ptr<Communicator> own = world.communicator->Split(world.rank(), 0);
  MemoryMeter memory;
  World alone{.communicator = own.get(),
              .memory = &memory,
              .is_mpi = world.is_mpi,
              .local_rank = world.local_rank,
              .hosts = {world.hosts[world.rank()]},
              .emulation = world.emulation};
  const Config small = SmallPart(config, ranks_of_pool);
  const double before = ResidentBytes(), begin = clock();
  Rates rates;
  for (const Size& size : SizesOf(config)) {
    if (world.communicator->AllReduceMax(clock() - begin, {.operation = "calibrate"}) > seconds) break;
    Config sized = small;
    sized.mutable_model()->set_seq_length(size.seq_length);
    sized.mutable_train()->set_micro_batch(size.micro_batch);
    sized.mutable_train()->set_global_batch(size.micro_batch * kMicrobatches);
    if (small.moe().sharing() != Sharing::DENSE && small.moe().experts() > small.moe().top_k())
      RunSize(WithFewestExperts(sized), alone, clock, rates.few, rates);
    RunSize(sized, alone, clock, rates.all, rates);
  }
  if (world.is_mpi) {
    const auto peak = static_cast<double>(memory.peak_bytes());
    rates.slack = std::max(0.0, (ResidentBytes() - before) / peak - 1);
    rates.fixed = before;
  }
  nlohmann::json told{{"slack", rates.slack},
                      {"fixed", rates.fixed},
                      {"spread", Median(rates.spreads)},
                      {"noise", SpreadOf(rates.step_seconds)}};
  for (int kind = 0; kind < kNumWorkKinds; ++kind) {
    told["rates"].push_back(nlohmann::json::array());
    for (const WorkRate::Point& point : PointsOf(rates, kind)) {
      told["rates"][kind].push_back({point.amount, point.units_per_second, point.expert_seconds});
    }
  }
  std::vector<nlohmann::json> ranks;
  for (const std::string& text : world.communicator->AllGatherText(told.dump(), {.operation = "calibrate"}))
    ranks.push_back(nlohmann::json::parse(text));
  WorkMeasured measured{.work = MeanOf(ranks)};
  std::vector<double> spreads, noises;
  for (const nlohmann::json& rank : ranks) {
    spreads.push_back(rank["spread"]);
    noises.push_back(rank["noise"]);
    measured.memory_slack = std::max(measured.memory_slack, rank["slack"].get<double>());
    measured.fixed_gigabytes = std::max(measured.fixed_gigabytes, 1e-9 * rank["fixed"].get<double>());
  }
  measured.spread = Median(spreads);
  measured.noise = Median(noises);
  return measured;
}

}  // namespace unipool
