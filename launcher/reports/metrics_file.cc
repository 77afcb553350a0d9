#include "launcher/reports/metrics_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/errors.h"
#include "runtime/file_sum.h"
#include "runtime/tensor_file.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Lines {
  std::string kept, cut;
  int64_t num_cut = 0;
  bool changed = false;  // whether any were cut or mended
};

// What a run continuing after `last_step` keeps, and the rest.
Lines SortLines(const std::string& path, int64_t last_step) {
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(path, ignored))) return {};
  std::istringstream file(ReadTextFile(path));
  Lines lines;
  for (std::string line; std::getline(file, line);) {
    const bool torn = file.eof();  // no newline at its end
    const Json json = Json::parse(line, nullptr, false);
    const bool whole = json.is_object() && json.contains("step") && json["step"].is_number_integer();
    const bool keep = whole && json["step"].get<int64_t>() <= last_step;
    (keep ? lines.kept : lines.cut) += line + "\n";
    lines.num_cut += !keep;
    lines.changed |= torn || !keep;
  }
  return lines;
}

// Appends and syncs.
void AppendText(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
  size_t done = 0;
  while (fd >= 0 && done < text.size()) {
    const ssize_t written = write(fd, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    done += written;
  }
  const int error = fd < 0 || done < text.size() || fsync(fd) != 0 ? errno : 0;
  if (fd >= 0) close(fd);
  if (error != 0)
    throw UserError(path + ": cannot be written (" + std::strerror(error) + "); make room",
                    kNotSavedExitCode);
}

}  // namespace

MetricsFile::MetricsFile(const std::string& run_dir, int64_t last_step)
    : path_((fs::path(run_dir) / "metrics.jsonl").string()) {
  std::error_code error;
  fs::create_directories(run_dir, error);
  if (error)
    throw UserError(run_dir + ": cannot be created (" + error.message() + "); choose another run_dir");
  const Lines lines = SortLines(path_, last_step);
  if (lines.num_cut > 0) {
    const std::string replaced = (fs::path(run_dir) / "metrics.replaced.jsonl").string();
    AppendText(replaced, lines.cut);
    PrintErrorLine(Format("note: %d line%s of %s after step %d moved to %s", lines.num_cut,
                          lines.num_cut == 1 ? "" : "s", path_.c_str(), last_step, replaced.c_str()));
  }
  if (lines.changed) WriteTextFile(path_, lines.kept);
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0)
    throw UserError(path_ + ": cannot be opened (" + std::strerror(errno) + "); choose another run_dir");
}

MetricsFile::~MetricsFile() {
  if (fd_ >= 0) close(fd_);
}

void MetricsFile::Write(const std::string& line) {
  const std::string text = line + "\n";
  for (size_t done = 0; done < text.size();) {
    const ssize_t written = write(fd_, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0)
      throw UserError(
          path_ + ": cannot be written (" + std::strerror(errno) + "); make room and repeat the command",
          kNotSavedExitCode);
    done += written;
  }
}

bool HasValidation(const std::string& run_dir, int64_t step) {
  std::ifstream file(run_dir + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_object() && json.contains("valid_loss") && json["step"] == step) return true;
  }
  return false;
}

}  // namespace unipool
