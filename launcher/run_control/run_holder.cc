#include "launcher/run_control/run_holder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>

#include "launcher/run_control/heartbeat.h"
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

std::optional<RunHolder> ReadHolder(int lock) {
  std::string text(4096, '\0');
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, pread(lock, text.data(), text.size(), 0))));
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  try {
    return RunHolder{.host = json.at("host"),
                     .job_id = json.at("job_id"),
                     .pid = json.at("pid"),
                     .started = json.at("started")};
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

bool WriteHolder(int lock, const RunHolder& holder) {
  const Json json = {
      {"host", holder.host}, {"pid", holder.pid}, {"started", holder.started}, {"job_id", holder.job_id}};
  const std::string text = json.dump() + "\n";
  return ftruncate(lock, 0) == 0 &&
         pwrite(lock, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
}

std::optional<RunHolder> HolderOf(const std::string& run_dir) {
  const int fd = open((run_dir + "/lock").c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  std::optional<RunHolder> holder;
  if (IsHeld(fd, run_dir)) holder = ReadHolder(fd).value_or(RunHolder());
  close(fd);
  return holder;
}

}  // namespace unipool
