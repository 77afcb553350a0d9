#include "launcher/reports/run_record.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

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

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
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
  if (!IsRunFolder(path))
    throw UserError(path +
                    ": is not the folder of a run: it has no metrics.jsonl; give the run_dir of `train`");
  return (fs::path(path) / "metrics.jsonl").string();
}

double NumberOf(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
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
      fresh.offset_ = fresh.line_number_ = fresh.last_step_ = 0;
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
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object() && line_number_ == 1)
    throw UserError(file_ +
                    " line 1: is no JSON object, so this is no file of metrics; give the folder of a run");
  if (!json.is_object())
    throw UserError(
        Format("%s line %d: is no JSON object, so no line of metrics; repeat `train`, which mends "
               "the file, or take the line out",
               file_.c_str(), line_number_));
  const auto step = json.find("step");
  if (step == json.end() || !step->is_number_integer())
    throw UserError(
        Format("%s line %d: has no \"step\": another program wrote it", file_.c_str(), line_number_));
  last_step_ = std::max(last_step_, step->get<int64_t>());
  auto add = [&](const std::string& name, const Json& value) {
    if (value.is_number() || value.is_null())
      series_[name].emplace_back(step->get<int64_t>(), NumberOf(value));
  };
  for (const auto& [name, value] : json.items()) {
    if (!value.is_object()) {
      add(name, value);
      continue;
    }
    for (const auto& [part, number] : value.items()) add(name + "." + part, number);
  }
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
