#include "launcher/traffic/traffic_run.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "launcher/cluster.h"
#include "launcher/config.h"
#include "launcher/traffic/rank_texts.h"
#include "launcher/version.h"
#include "models/parameter_count.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "runtime/emulated_communicator.h"
#include "runtime/errors.h"
#include "runtime/file_sum.h"
#include "runtime/host_cores.h"
#include "runtime/traffic_join.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kProbesAtStart = 100, kProbesLater = 30;

// Nothing but what the trigger file asks for.
bool IsOff(const Config& config) {
  return config.traffic().record() == TrafficConfig::OFF;
}

std::string CarrierOf(const World& world) {
  return world.emulation ? "emulated" : world.is_mpi ? "MPI" : "threads";
}

// How this process was called.
std::string CommandText() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  std::replace(text.begin(), text.end(), '\0', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

int64_t SecondsSince1970() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

TrafficSize SizeOfStep(const Config& config, int world_size) {
  const MeshShape shape = MeshShapeOf(config.parallel(), world_size);
  const SlotSchedule schedule = TrainingSchedule(config, shape);
  const ParameterCount count = CountParameters(config);
  return TrafficSizeOf(schedule, shape, 4 * std::max(count.dense(), count.experts));
}

void PrintWarning(const std::string& text) {
  if (!text.empty()) PrintErrorLine("warning: " + text);
}

// How wrong a rank's clock is to be.
std::map<int, TrafficClock> WrongClocks() {
  std::map<int, TrafficClock> clocks;
  const char* text = std::getenv("UNIPOOL_TEST_CLOCK");
  std::istringstream words(text ? text : "");
  for (std::string word; words >> word;) {
    int rank = 0;
    double seconds = 0, ppm = 0;
    if (std::sscanf(word.c_str(), "%d:%lf:%lf", &rank, &seconds, &ppm) != 3) continue;
    clocks[rank] = {.offset_ns = std::llround(1e9 * seconds), .drift = 1e-6 * ppm};
  }
  return clocks;
}

int64_t StepsInTurn() {
  const char* text = std::getenv("UNIPOOL_TEST_RECORD_IN_TURN");
  return text ? std::atoi(text) : 0;
}

TrafficOptions OptionsOf(const Config& config, const World& world, std::shared_ptr<TrafficBoard> board) {
  std::map<int, TrafficClock> wrong = WrongClocks();
  if (!wrong.empty()) board = nullptr;
  return {.rank = world.rank(),
          .node_of_rank = NodesOf(config, world),
          .carrier = CarrierOf(world),
          .board = world.is_mpi || world.emulation ? nullptr : std::move(board),
          .clock = wrong[world.rank()],
          .sums_steps = !IsOff(config)};
}

}  // namespace

void CheckTrafficSize(const Config& config, int world_size) {
  if (config.traffic().record() != TrafficConfig::FULL) return;
  const std::string problem = TooLarge(SizeOfStep(config, world_size), config.traffic().num_steps(),
                                       config.traffic().max_megabytes());
  if (!problem.empty()) throw UserError("traffic.record=FULL: " + problem);
}

TrafficRun::TrafficRun(const Config& config, World& world, std::shared_ptr<TrafficBoard> board)
    : config_(config),
      plain_(world),
      world_(world),
      recorder_(std::make_unique<TrafficRecorder>(OptionsOf(config, world, std::move(board)))),
      communicator_(recorder_->RecordWorld(*world.communicator, "world")),
      files_(config.run_dir()),
      steps_in_turn_(StepsInTurn()) {
  world_.communicator = communicator_.get();
}

int64_t TrafficRun::Now() const {
  if (plain_.emulation) return static_cast<int64_t>(1e9 * plain_.emulation->Now());
  return recorder_->options().clock.Now();
}

TrafficHeader TrafficRun::Header(const TrainingEngine& engine, const std::string& run_id) const {
  return {.format = kTrafficFormat,
          .program_version = ProgramVersion(),
          .run_id = run_id,
          .rank = plain_.rank(),
          .world = plain_.size(),
          .host = plain_.hosts[plain_.rank()],
          .boot_id = of_rank_.boot_ids[plain_.rank()],
          .clock = plain_.emulation ? "virtual" : "monotonic",
          .slots_per_time = engine.parts().schedule.slots_per_time()};
}

nlohmann::ordered_json TrafficRun::Manifest(const TrainingEngine& engine, const std::string& run_id) const {
  const EngineParts& parts = engine.parts();
  const MeshShape& shape = parts.mesh.shape();
  const TrainConfig& train = config_.train();
  const int64_t tokens = int64_t{train.micro_batch()} * parts.spec.seq_length;
  return {{"unipool_traffic", kTrafficFormat},
          {"program_version", ProgramVersion()},
          {"run_id", run_id},
          {"started", SecondsSince1970()},
          {"command", CommandText()},
          {"config_digest", SumOfText(ResolvedConfigText(config_)).hash},
          {"record", TrafficConfig::Record_Name(config_.traffic().record())},
          {"world", plain_.size()},
          {"host_of_rank", plain_.hosts},
          {"boot_id_of_rank", of_rank_.boot_ids},
          {"host_cores_of_rank", of_rank_.cores},
          {"node_of_rank", recorder_->options().node_of_rank},
          {"carrier", CarrierOf(plain_)},
          {"progress_thread", plain_.is_mpi && WantsProgressThread(config_)},
          {"polls", plain_.is_mpi && !WantsProgressThread(config_) && config_.device() == DeviceType::CPU},
          {"device", DeviceType::Value_Name(config_.device())},
          {"emulate", config_.parallel().emulate()},
          {"clock", {{"kind", plain_.emulation ? "virtual" : "monotonic"}}},
          {"mesh",
           {{"replicas", shape.replicas},
            {"stages", shape.stages},
            {"data", shape.data},
            {"pool", shape.pool()}}},
          {"model",
           {{"layers", parts.spec.layers},
            {"layers_per_stage", parts.layers_per_stage},
            {"head", parts.schedule.head_place() == HeadPlace::kSpread ? "SPREAD" : "LAST_STAGE"},
            {"experts", parts.spec.experts},
            {"top_k", parts.spec.top_k},
            {"balance", Balance::Value_Name(config_.moe().balance())},
            {"row_bytes", parts.spec.hidden * SizeOf(DTypeOfConfig(config_))},
            {"microbatches", parts.schedule.num_microbatches()},
            {"tokens_per_microbatch", tokens},
            {"slots_per_time", parts.schedule.slots_per_time()}}}};
}

void TrafficRun::Start(const TrainingEngine& engine, int64_t step) {
  first_step_ = step;
  size_ = SizeOfStep(config_, plain_.size());
  if (!plain_.emulation && config_.device() == DeviceType::CPU)
    cpu_.clock = std::make_unique<ThreadCpuClock>();
  if (!IsOff(config_)) Open(engine);
  PlanNext(step);
}

// The folder, and what is known of the ranks.
void TrafficRun::Open(const TrainingEngine& engine) {
  const TrafficClock& clock = recorder_->options().clock;
  const bool is_wrong = clock.offset_ns != 0 || clock.drift != 0;
  of_rank_.boot_ids = plain_.communicator->AllGatherText(
      BootId() + (is_wrong ? Format("-%d", plain_.rank()) : ""), {.operation = "records of traffic"});
  of_rank_.cores = HostCoresOfRanks(
      plain_.hosts, plain_.communicator->AllGatherText(AllowedCores(), {.operation = "records of traffic"}));
  const std::string run_id = FromFirst(*plain_.communicator, Format("%d-%d", SecondsSince1970(), getpid()));
  std::string problem;
  if (plain_.rank() == 0) {
    const FileWork work(*plain_.communicator, "prepares the folder traffic");
    problem = files_.folder().Prepare();
  }
  problem = FromFirst(*plain_.communicator, problem);
  files_.Begin(Header(engine, run_id), plain_.rank() == 0 ? Manifest(engine, run_id) : Json());
  files_.Fail(problem);
  CompareAllClocks(kProbesAtStart);
  if (plain_.rank() == 0) {
    files_.WriteManifest(false);
    TellProblem(files_.problem());
    PrintWarning(NothingRecorded(config_, first_step_));
  }
}

// One rank of each other host compares its clock with that of rank 0, for all ranks of the host.
void TrafficRun::CompareAllClocks(int num_probes) {
  of_rank_.offsets_ns.resize(plain_.size());
  if (plain_.emulation) return;
  std::map<std::string, int64_t> offsets{{of_rank_.boot_ids[0], 0}};
  for (int rank = 1; rank < plain_.size(); ++rank) {
    if (offsets.count(of_rank_.boot_ids[rank]) > 0) continue;
    const ClockComparison found =
        CompareClocks(*plain_.communicator, rank, num_probes, [&] { return Now(); });
    offsets[of_rank_.boot_ids[rank]] = found.offset_ns;
    if (plain_.rank() == rank) files_.AddClock(found);
    if (plain_.rank() == 0) files_.AddToManifest(rank, step_, found);
  }
  if (offsets.size() == 1) return;
  for (int rank = 0; rank < plain_.size(); ++rank)
    of_rank_.offsets_ns[rank] = offsets[of_rank_.boot_ids[rank]];
  plain_.communicator->Broadcast(of_rank_.offsets_ns.data(), plain_.size() * int64_t{sizeof(int64_t)}, 0,
                                 {.operation = "records of traffic"});
}

bool TrafficRun::IsWritten(int64_t step) const {
  const TrafficConfig& traffic = config_.traffic();
  const int64_t done = step - first_step_;
  const bool is_configured = traffic.record() == TrafficConfig::FULL && done >= traffic.first_step() &&
                             done < traffic.first_step() + traffic.num_steps();
  return files_.is_on() && (is_configured || steps_.to_keep > 0);
}

bool TrafficRun::IsLeftOut(int64_t step) const {
  if (IsOff(config_) && steps_.to_keep == 0) return true;
  return steps_in_turn_ > 0 && 2 * (step % steps_in_turn_) < steps_in_turn_;
}

bool TrafficRun::EndsWindow(int64_t step) const {
  if (IsOff(config_)) return steps_.to_keep == 1;
  return (step + 1 - first_step_) % config_.traffic().every() == 0 || step + 1 == config_.train().steps();
}

// Not the first step, for whose records room is still to be found.
bool TrafficRun::IsSampled(int64_t step) const {
  return !plain_.emulation && !recorder_->options().board && plain_.size() > 1 &&
         config_.device() == DeviceType::CPU && EndsWindow(step) && step > first_step_;
}

// Room is made for what a step took so far, and some more; before the first step for what it should take.
void TrafficRun::PlanNext(int64_t next_step) {
  const bool keeps = IsWritten(next_step) || IsSampled(next_step);
  if (keeps == recorder_->keep().is_on()) return;
  if (!keeps) return recorder_->KeepExchanges(0, 0);
  TrafficSize size{.exchanges = recorder_->most_records(), .peers = recorder_->most_peers()};
  if (size.exchanges == 0) size = size_;
  recorder_->KeepExchanges(size.exchanges + size.exchanges / 8 + 64,
                           size.peers + size.peers / 8 + int64_t{64} * plain_.size());
}

void TrafficRun::BeginStep(int64_t step) {
  step_ = step;
  steps_.asked = 0;
  steps_.is_recorded = !IsLeftOut(step);
  if (!steps_.is_recorded) return;
  if (window_.first < 0) window_.first = step;
  recorder_->BeginStep(step);
  if (cpu_.clock) cpu_.step = cpu_.clock->Now();
  window_.begin_ns = Now();
}

double TrafficRun::StepsAskedFor() const {
  const bool is_asked = steps_.is_recorded || IsOff(config_);  // others have a look in their turn
  if (plain_.rank() != 0 || !files_.problem().empty() || !is_asked) return 0;
  const Trigger trigger = files_.folder().TakeTrigger(config_.traffic().num_steps());
  PrintWarning(trigger.problem);
  return static_cast<double>(trigger.steps);
}

StepReport TrafficRun::Update(TrainingEngine& engine, int64_t step, double lr, RunRequests& requests) {
  std::array<double, kNumRunRequests + 1> riders{};
  std::copy(requests.count.begin(), requests.count.end(), riders.begin());
  riders.back() = StepsAskedFor();
  const StepReport report = engine.Update(step, lr, riders);
  if (steps_.is_recorded && plain_.rank() == 0) {
    const EngineParts& parts = engine.parts();
    window_.experts.AddStep(parts.use.statistics.step_counts(), parts.placement, parts.use.visibility);
  }
  std::copy_n(riders.begin(), kNumRunRequests, requests.count.begin());
  steps_.asked = static_cast<int64_t>(riders.back());
  return report;
}

void TrafficRun::EndStep(const TrainingEngine& engine, StepReport& report) {
  if (steps_.is_recorded) EndRecordedStep(report);
  if (steps_.asked > 0) {
    steps_.to_keep = StepsThatFit();
    if (steps_.to_keep > 0 && !files_.has_begun()) Open(engine);
  }
  PlanNext(step_ + 1);
}

void TrafficRun::EndRecordedStep(StepReport& report) {
  const int64_t end_ns = Now();
  cpu_.step = cpu_.clock ? cpu_.clock->Now().Since(cpu_.step) : ThreadCpu{};
  window_.cpu.Add(cpu_.step);
  recorder_->EndStep();
  window_.ns += end_ns - window_.begin_ns;
  if (report.traffic) last_ = *report.traffic;
  if (recorder_->keep().is_on() && IsWritten(step_)) WriteStep(end_ns);
  if (EndsWindow(step_)) {
    const auto sampled = CloseWindow();
    if (sampled && report.traffic) {
      report.traffic->blocked_ms = sampled->blocked_ms;
      report.traffic->idle_ms = sampled->idle_ms;
      report.traffic->exposed_ms = sampled->exposed_ms;
      report.traffic->waited_for_rank = sampled->waited_for_rank;
      report.traffic->waited_for_share = sampled->waited_for_share;
    }
  }
  steps_.to_keep = std::max<int64_t>(0, steps_.to_keep - 1);
}

void TrafficRun::WriteStep(int64_t end_ns) {
  const FileWork work(*plain_.communicator, "writes records of traffic");
  const DeviceAnchor anchor = recorder_->device_anchor();
  files_.WriteStep(*recorder_, {.step = step_,
                                .begin_ns = window_.begin_ns,
                                .end_ns = end_ns,
                                .num_exchanges = static_cast<int64_t>(recorder_->keep().records().size()),
                                .num_dropped = recorder_->keep().num_dropped(),
                                .anchor_device_ns = anchor.host_ns < 0 ? -1 : 0,
                                .anchor_host_ns = anchor.host_ns,
                                .anchor_uncertainty_ns = anchor.uncertainty_ns,
                                .cpu_ns = cpu_.step.cpu_ns,
                                .queued_ns = cpu_.step.queued_ns,
                                .pushed_off = cpu_.step.pushed_off});
}

// Of those that the trigger asked for: all or none.
int64_t TrafficRun::StepsThatFit() const {
  const std::string problem = TooLarge(size_, steps_.asked, config_.traffic().max_megabytes());
  if (problem.empty()) return steps_.asked;
  if (plain_.rank() == 0) PrintWarning(files_.folder().path() + "/record: " + problem);
  return 0;
}

std::optional<TrafficStep> TrafficRun::CloseWindow() {
  const WindowSteps steps{.first = window_.first, .last = step_};
  CompareAllClocks(kProbesLater);
  if (IsSampled(step_) && JoinStarts(*recorder_, *plain_.communicator, of_rank_.offsets_ns)) {
    recorder_->tally().AddSampledStep();
  }
  const auto shares =
      ToFirst(*plain_.communicator,
              PackWindow(*recorder_, {.step_ns = window_.ns, .cpu = window_.cpu}, files_.problem()));
  recorder_->tally().ClearWindow();
  const WindowExperts experts = std::exchange(window_, {}).experts;
  if (plain_.rank() != 0) return {};
  const FileWork work(*plain_.communicator, "writes records of traffic");
  const WindowText text = MakeWindow(steps, recorder_->options().node_of_rank, shares, last_, experts);
  files_.AddDropped(text.dropped);
  files_.WriteWindow(steps, text.json);
  TellProblem(files_.problem().empty() ? text.problems : files_.problem());
  return text.sampled;
}

void TrafficRun::End() {
  if (first_step_ < 0 || !files_.has_begun()) return;
  if (window_.first >= 0) CloseWindow();
  if (plain_.rank() != 0) return;
  files_.WriteManifest(true);
  if (is_told_) files_.TellEnded();
}

void TrafficRun::TellProblem(const std::string& problem) {
  if (problem.empty() || is_told_) return;
  is_told_ = true;
  files_.TellProblem(problem);
  PrintWarning("records of traffic are not written any longer: " + problem + "; the run goes on");
}

}  // namespace unipool
