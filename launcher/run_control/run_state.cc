#include "launcher/run_control/run_state.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/version.h"
#include "runtime/errors.h"
#include "runtime/tensor_file.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kMostSeconds = 256;

double Now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::vector<std::string> Distinct(const std::vector<std::string>& all) {
  std::vector<std::string> distinct;
  for (const std::string& one : all) {
    if (std::find(distinct.begin(), distinct.end(), one) == distinct.end()) distinct.push_back(one);
  }
  return distinct;
}

Json JsonOf(const std::optional<Quantiles>& quantiles) {
  if (!quantiles) return nullptr;
  return {{"median", quantiles->median}, {"p90", quantiles->p90}, {"max", quantiles->max}};
}

Json JsonOf(const RunEnd& end) {
  return {{"status", end.status},
          {"reason", end.reason},
          {"exit_code", end.exit_code ? Json(*end.exit_code) : Json(nullptr)},
          {"step", end.step}};
}

std::optional<Quantiles> QuantilesOf(const Json& json) {
  if (!json.is_object()) return std::nullopt;
  return Quantiles{json.at("median").get<double>(), json.at("p90").get<double>(),
                   json.at("max").get<double>()};
}

RunEnd EndOf(const Json& json) {
  RunEnd end{.status = json.at("status").get<std::string>(),
             .reason = json.at("reason").get<std::string>(),
             .step = json.at("step").get<int64_t>()};
  if (!json.at("exit_code").is_null()) end.exit_code = json.at("exit_code").get<int>();
  return end;
}

RunState StateOf(const Json& json) {
  RunState state{.end = EndOf(json),
                 .target_steps = json.at("target_steps").get<int64_t>(),
                 .steps_this_start = json.at("steps_this_start").get<int64_t>(),
                 .saved_step = json.at("saved_step").get<int64_t>(),
                 .hosts = json.at("hosts").get<std::vector<std::string>>(),
                 .suspect_hosts = json.at("suspect_hosts").get<std::vector<std::string>>(),
                 .ranks = json.at("ranks").get<int>(),
                 .restart_count = json.at("restart_count").get<int>(),
                 .pid = json.at("pid").get<int64_t>(),
                 .started = json.at("started").get<double>(),
                 .updated = json.at("updated").get<double>(),
                 .step_seconds = QuantilesOf(json.at("step_seconds")),
                 .save_seconds = QuantilesOf(json.at("save_seconds"))};
  if (json.at("job_id").is_string()) state.job_id = json.at("job_id").get<std::string>();
  if (json.at("previous_end").is_object()) state.previous_end = EndOf(json.at("previous_end"));
  return state;
}

std::string PathOf(const std::string& run_dir) {
  return (fs::path(run_dir) / "state.json").string();
}

// On a full disk the room that the file has is all there is. One write of less than a page: readers see the
// old text or the new one.
bool WriteOver(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  const auto size = static_cast<ssize_t>(text.size());
  const bool written = pwrite(fd, text.data(), text.size(), 0) == size && ftruncate(fd, size) == 0;
  close(fd);
  return written;
}

// What a process that was killed while it wrote has left.
void RemoveAsides(const std::string& run_dir) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run_dir, error)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("state.json.", 0) == 0 && entry.is_regular_file(error)) fs::remove(entry.path(), error);
  }
}

}  // namespace

void RecentSeconds::Add(double seconds) {
  seconds_.push_back(seconds);
  if (seconds_.size() > kMostSeconds) seconds_.pop_front();
}

std::optional<Quantiles> RecentSeconds::quantiles() const {
  if (seconds_.empty()) return std::nullopt;
  std::vector<double> sorted(seconds_.begin(), seconds_.end());
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double share) {
    return sorted[static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size()))) - 1];
  };
  return Quantiles{.median = at(0.5), .p90 = at(0.9), .max = sorted.back()};
}

std::string RunStateText(const RunState& state) {
  Json json = JsonOf(state.end);
  json["target_steps"] = state.target_steps;
  json["steps_this_start"] = state.steps_this_start;
  json["saved_step"] = state.saved_step;
  json["hosts"] = state.hosts;
  json["suspect_hosts"] = state.suspect_hosts;
  json["ranks"] = state.ranks;
  json["job_id"] = state.job_id.empty() ? Json(nullptr) : Json(state.job_id);
  json["restart_count"] = state.restart_count;
  json["pid"] = state.pid;
  json["version"] = ProgramVersion();
  json["started"] = state.started;
  json["updated"] = state.updated;
  json["step_seconds"] = JsonOf(state.step_seconds);
  json["save_seconds"] = JsonOf(state.save_seconds);
  json["previous_end"] = state.previous_end ? JsonOf(*state.previous_end) : Json(nullptr);
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::optional<RunState> ReadRunState(const std::string& run_dir) {
  std::error_code ignored;
  if (!fs::is_regular_file(PathOf(run_dir), ignored)) return std::nullopt;
  std::ifstream file(PathOf(run_dir));
  try {
    return StateOf(Json::parse(file));
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void RunStateKeeper::Begin(const Start& start) {
  const std::lock_guard lock(mutex_);
  run_dir_ = start.run_dir;
  writes_ = start.writes;
  state_ = {.target_steps = start.target_steps,
            .hosts = Distinct(start.hosts),
            .ranks = static_cast<int>(start.hosts.size()),
            .job_id = Variable("SLURM_JOB_ID"),
            .restart_count = std::atoi(Variable("SLURM_RESTART_COUNT").c_str()),
            .pid = getpid(),
            .started = Now()};
  if (writes_) RemoveAsides(run_dir_);
  if (const std::optional<RunState> before = ReadRunState(run_dir_)) {
    state_.previous_end = before->end;
    if (before->end.status == "running") state_.previous_end->reason = "killed: no end was written";
    state_.step_seconds = before->step_seconds;
    state_.save_seconds = before->save_seconds;
  }
  SetStart(start.step, start.is_continued);
}

void RunStateKeeper::SetStart(int64_t step, bool is_continued) {
  const std::lock_guard lock(mutex_);
  state_.end.step = step;
  state_.saved_step = is_continued ? step : -1;
  if (writes_) Write();
}

void RunStateKeeper::StepDone(int64_t step, double seconds) {
  const std::lock_guard lock(mutex_);
  state_.end.step = step;
  ++state_.steps_this_start;
  steps_.Add(seconds);
  state_.step_seconds = steps_.quantiles();
}

void RunStateKeeper::Saved(int64_t step, double seconds) {
  const std::lock_guard lock(mutex_);
  state_.saved_step = step;
  saves_.Add(seconds);
  state_.save_seconds = saves_.quantiles();
  if (writes_) Write();
}

void RunStateKeeper::End(const std::string& status, const JobEnd& end) {
  // A failed CHECK may come here from the midst of another call; a stuck thread must not hold the end up.
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || run_dir_.empty()) return;
  if (status == "failed" && HasEndOfAnother()) return;
  state_.end.status = status;
  state_.end.reason = end.reason;
  state_.end.exit_code = end.exit_code;
  state_.suspect_hosts = end.suspects;
  Write();
}

// Once a process has ended the job, the others miss it: what they tell is no cause.
bool RunStateKeeper::HasEndOfAnother() const {
  const std::optional<RunState> told = ReadRunState(run_dir_);
  return told && told->end.status == "failed" && told->pid != state_.pid && told->job_id == state_.job_id &&
         told->restart_count == state_.restart_count && told->updated >= state_.started;
}

RunState RunStateKeeper::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::string RunStateKeeper::TextWithEnd(const std::string& status, const JobEnd& end) const {
  RunState state = this->state();
  state.end.status = status;
  state.end.reason = end.reason;
  state.end.exit_code = end.exit_code;
  return RunStateText(state);
}

bool RunStateKeeper::has_begun() const {
  const std::lock_guard lock(mutex_);
  return !run_dir_.empty();
}

std::string RunStateKeeper::path() const {
  const std::lock_guard lock(mutex_);
  return PathOf(run_dir_);
}

void RunStateKeeper::Write() {
  state_.updated = Now();
  const std::string path = PathOf(run_dir_), text = RunStateText(state_);
  const std::string aside = path + "." + std::to_string(getpid()) + ".tmp";
  try {
    WriteTextFile(aside, text);
    std::error_code error;
    fs::rename(aside, path, error);
    if (!error) return;
    fs::remove(aside, error);
  } catch (const UserError&) {
  }
  if (WriteOver(path, text) || has_warned_) return;
  PrintErrorLine("warning: " + path + ": cannot be written; scripts will not see how the run stands");
  has_warned_ = true;
}

}  // namespace unipool
