#include "launcher/run_holder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>

#include "launcher/heartbeat.h"
#include "runtime/format.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

constexpr double kAlive = 60;  // seconds

double Now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

bool IsHeld(int fd, const std::string& run_dir) {
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return false;  // closing it gives it back
  if (errno == EWOULDBLOCK) return true;
  const auto heartbeat = ReadHeartbeat(run_dir);
  return heartbeat && Now() - heartbeat->time < kAlive;
}

}  // namespace

std::string Describe(const RunHolder& holder) {
  if (holder.pid == 0) return "a process that is not told";
  const std::string text = Format("host %s, process %d", holder.host, holder.pid);
  return holder.job_id.empty() ? text : text + ", job " + holder.job_id;
}

std::optional<RunHolder> HolderOf(const std::string& run_dir) {
  const int fd = open((run_dir + "/lock").c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  std::optional<RunHolder> holder;
  if (IsHeld(fd, run_dir)) {
    std::string text(4096, '\0');
    text.resize(static_cast<size_t>(std::max<ssize_t>(0, pread(fd, text.data(), text.size(), 0))));
    const Json json = Json::parse(text, nullptr, false);
    holder.emplace();
    try {
      if (json.is_object())
        *holder = {.host = json.at("host"), .job_id = json.at("job_id"), .pid = json.at("pid")};
    } catch (const Json::exception&) {
    }
  }
  close(fd);
  return holder;
}

std::optional<HeartbeatView> ReadHeartbeat(const std::string& run_dir) {
  const Json json = Json::parse(HeartbeatText(run_dir), nullptr, false);
  if (!json.is_object()) return std::nullopt;
  try {
    return HeartbeatView{
        .step = json.at("step"), .time = json.at("time"), .tokens_per_second = json.at("tokens_per_second")};
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

}  // namespace unipool
