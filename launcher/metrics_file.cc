#include "launcher/metrics_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/errors.h"
#include "runtime/tensor_file.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// The lines that a run continuing after `last_step` keeps; `changed` says whether any were cut or mended.
std::string KeptLines(const std::string& path, int64_t last_step, bool& changed) {
  std::ifstream file(path);
  std::string kept, line;
  while (std::getline(file, line)) {
    const bool torn = file.eof();  // no newline at its end
    const Json json = Json::parse(line, nullptr, false);
    const bool whole = json.is_object() && json.contains("step") && json["step"].is_number_integer();
    const bool keep = whole && json["step"].get<int64_t>() <= last_step;
    if (keep) kept += line + "\n";
    changed |= torn || !keep;
  }
  return kept;
}

}  // namespace

MetricsFile::MetricsFile(const std::string& run_dir, int64_t last_step)
    : path_((fs::path(run_dir) / "metrics.jsonl").string()) {
  std::error_code error;
  fs::create_directories(run_dir, error);
  if (error)
    throw UserError(run_dir + ": cannot be created (" + error.message() + "); choose another run_dir");
  bool changed = false;
  const std::string kept = KeptLines(path_, last_step, changed);
  if (changed) WriteTextFile(path_, kept);
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
    if (written <= 0) throw UserError(path_ + ": cannot be written (" + std::strerror(errno) + ")");
    done += written;
  }
}

}  // namespace unipool
