#include "launcher/reports/run_record.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "launcher/nearest_name.h"
#include "launcher/reports/metric_list.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int64_t kLongestLine = 1 << 20;

constexpr int64_t kLargestStep = int64_t{1} << 53;

bool Exists(const fs::path& path) {
  std::error_code error;
  const bool is_there = fs::exists(path, error);
  if (error == std::errc::permission_denied)
    throw UserError(path.parent_path().string() + ": cannot be entered (" + error.message() + ")");
  return is_there;
}

// A sentence where the folder is a checkpoint. One with settings would pass for a run without metrics.
void RefuseCheckpoint(const std::string& folder) {
  if (!Exists(fs::path(folder) / "training_state.json")) return;
  if (fs::path(folder).parent_path().filename() != "checkpoints")
    throw UserError(folder + ": is a checkpoint; give the folder of its run");
  std::string run = (fs::path(folder) / ".." / "..").lexically_normal().string();
  while (run.size() > 1 && run.back() == '/') run.pop_back();
  throw UserError(folder + ": is a checkpoint; give its run: " + run);
}

// Whether `train` has been here: a run that has not measured yet has a lock.
bool IsRunFolder(const fs::path& folder) {
  for (const char* name : {"metrics.jsonl", "state.json", "config.txtpb", "lock"}) {
    if (Exists(folder / name)) return true;
  }
  return false;
}

std::string MetricsFileOf(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    const bool is_absent = !error || error == std::errc::no_such_file_or_directory;
    throw UserError(path + ": " + (is_absent ? "no such folder" : error.message()) +
                    "; give the folder of a run, for example runs/demo");
  }
  if (!fs::is_directory(status)) {
    if (fs::is_regular_file(status)) return path;
    throw UserError(path + ": is neither a folder nor a file; give the folder of a run");
  }
  RefuseCheckpoint(path);
  if (!IsRunFolder(path))
    throw UserError(path +
                    ": is not the folder of a run: it has no metrics.jsonl; give the run_dir of `train`");
  return (fs::path(path) / "metrics.jsonl").string();
}

double NumberOf(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

bool IsMetric(const std::string& name) {
  const auto has_name = [&](const auto& metric) { return name == metric.name; };
  return std::any_of(StepMetrics().begin(), StepMetrics().end(), has_name) ||
         std::any_of(ValidationMetrics().begin(), ValidationMetrics().end(), has_name);
}

// The numbers of a line by metric, without its step. `wrong`: a metric that is no number, else "".
std::map<std::string, double> NumbersOf(const Json& line, std::string& wrong) {
  std::map<std::string, double> numbers;
  const auto add = [&](const std::string& metric, const std::string& name, const Json& value) {
    if (value.is_number() || value.is_null())
      numbers[name] = NumberOf(value);
    else if (IsMetric(metric) && wrong.empty())
      wrong = name;
  };
  for (const auto& [name, value] : line.items()) {
    if (name == "step") continue;
    if (!value.is_object()) {
      add(name, name, value);
      continue;
    }
    for (const auto& [part, number] : value.items()) add(name, name + "." + part, number);
  }
  return numbers;
}

// What is no JSON becomes a discarded value. Throws UserError, beginning with `where`: a number too large.
Json Parsed(const std::string& line, const std::string& where) {
  try {
    return Json::parse(line);
  } catch (const Json::out_of_range&) {
    throw UserError(where +
                    ": has a number that is larger than any that the program writes; take the line out");
  } catch (const Json::exception&) {
    return Json(Json::value_t::discarded);
  }
}

}  // namespace

RunRecord::RunRecord(const std::string& path) : path_(path) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  file_ = MetricsFileOf(path_);
  Read();
}

bool RunRecord::Read() {
  const int fd = open(file_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    if (errno == ENOENT) return false;
    throw UserError(file_ + ": cannot be read (" + std::strerror(errno) + ")");
  }
  struct stat status {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    throw UserError(file_ + ": is no regular file");
  }
  bool changed = false;
  if (status.st_ino != file_id_ || status.st_size < offset_) {
    changed = offset_ > 0;
    *this = [&] {
      RunRecord fresh(*this);
      fresh.series_.clear();
      fresh.rest_.clear();
      fresh.offset_ = fresh.line_number_ = fresh.last_step_ = fresh.num_left_out_ = 0;
      fresh.file_id_ = status.st_ino;
      return fresh;
    }();
  }
  std::string buffer(1 << 16, '\0');
  try {
    for (ssize_t count; (count = pread(fd, buffer.data(), buffer.size(), offset_)) > 0;) {
      offset_ += count;
      rest_.append(buffer, 0, count);
      size_t begin = 0;
      for (size_t end; (end = rest_.find('\n', begin)) != std::string::npos; begin = end + 1) {
        ReadLine(rest_.substr(begin, end - begin));
        changed = true;
      }
      rest_.erase(0, begin);
      if (static_cast<int64_t>(rest_.size()) > kLongestLine)
        throw UserError(Format("%s line %d: is longer than %d bytes, so no file of metrics", file_.c_str(),
                               line_number_ + 1, kLongestLine));
    }
  } catch (...) {
    close(fd);
    throw;
  }
  close(fd);
  return changed;
}

void RunRecord::ReadLine(const std::string& line) {
  ++line_number_;
  const std::string where = Format("%s line %d", file_.c_str(), line_number_);
  const Json json = Parsed(line, where);
  if (!json.is_object() && line_number_ == 1)
    throw UserError(file_ +
                    " line 1: is no JSON object, so this is no file of metrics; give the folder of a run");
  if (!json.is_object())
    throw UserError(where +
                    ": is no JSON object, so no line of metrics; repeat `train`, which mends the file, or "
                    "take the line out");
  const auto found = json.find("step");
  if (found == json.end()) throw UserError(where + ": has no \"step\": another program wrote it");
  if (!found->is_number_integer() || *found > kLargestStep)
    throw UserError(where + ": its \"step\" is " + found->dump().substr(0, 40) +
                    ", which is no whole number up to 2^53; take the line out");
  const auto step = found->get<int64_t>();
  if (step < 0) return LeaveOut(Format("its step is %d", step));
  std::string wrong;
  const std::map<std::string, double> numbers = NumbersOf(json, wrong);
  if (!wrong.empty()) return LeaveOut(wrong + " is no number");
  for (const auto& [name, value] : numbers) {
    const auto before = series_.find(name);
    if (before == series_.end() || before->second.back().first < step) continue;
    return LeaveOut(Format("step %d comes after step %d", step, before->second.back().first));
  }
  last_step_ = std::max(last_step_, step);
  for (const auto& [name, value] : numbers) series_[name].emplace_back(step, value);
}

void RunRecord::LeaveOut(const std::string& why) {
  if (num_left_out_++ == 0) first_left_out_ = Format("line %d: ", line_number_) + why;
}

std::string RunRecord::LeftOut() const {
  if (num_left_out_ == 0) return "";
  return file_ + ": " +
         (num_left_out_ == 1 ? "a line is left out, "
                             : Format("%d lines are left out, the first is ", num_left_out_)) +
         first_left_out_;
}

const std::vector<std::pair<int64_t, double>>& RunRecord::Series(const std::string& metric) const {
  const auto found = series_.find(metric);
  if (found != series_.end()) return found->second;
  if (series_.empty()) throw UserError(path_ + ": has no metrics yet");
  std::vector<std::string> names;
  for (const auto& [name, values] : series_) names.push_back(name);
  const std::string nearest = DidYouMean(metric, names);
  throw UserError(path_ + ": has no metric " + metric +
                  (nearest.empty() ? "; one of " + JoinNames(names) : nearest));
}

}  // namespace unipool
