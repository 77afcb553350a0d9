#include "launcher/run_control/heartbeat.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr size_t kBytes = 160;
constexpr std::chrono::seconds kPause{1};

std::string PathOf(const std::string& run_dir) {
  return run_dir + "/heartbeat";
}

}  // namespace

Heartbeat::Heartbeat(const std::string& run_dir)
    : fd_(open(PathOf(run_dir).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC | O_NONBLOCK, 0666)) {
  if (fd_ >= 0 && ftruncate(fd_, kBytes) != 0) {  // an older one may be longer; no matter if it is not
  }
}

Heartbeat::~Heartbeat() {
  if (fd_ >= 0) close(fd_);
}

void Heartbeat::Beat(int64_t step, double tokens_per_second) {
  const auto now = std::chrono::steady_clock::now();
  if (last_ == std::chrono::steady_clock::time_point{} || now - last_ >= kPause)
    BeatAtOnce(step, tokens_per_second);
}

void Heartbeat::BeatAtOnce(int64_t step, double tokens_per_second) {
  if (fd_ < 0) return;
  last_ = std::chrono::steady_clock::now();
  const double time =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::string text =
      Format("{\"step\": %d, \"time\": %.3f, \"tokens_per_second\": %.6g}", step, time, tokens_per_second);
  text.resize(kBytes - 1, ' ');
  text += '\n';
  if (pwrite(fd_, text.data(), text.size(), 0) < 0) return;  // the next one may succeed
}

std::optional<HeartbeatView> ReadHeartbeat(const std::string& run_dir) {
  const nlohmann::json json = nlohmann::json::parse(HeartbeatText(run_dir), nullptr, false);
  if (!json.is_object()) return std::nullopt;
  try {
    return HeartbeatView{
        .step = json.at("step"), .time = json.at("time"), .tokens_per_second = json.at("tokens_per_second")};
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

std::string HeartbeatText(const std::string& run_dir) {
  const int fd = open(PathOf(run_dir).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return "";
  std::string text(kBytes, '\0');
  text.resize(std::max<ssize_t>(0, pread(fd, text.data(), text.size(), 0)));
  close(fd);
  return text;
}

}  // namespace unipool
