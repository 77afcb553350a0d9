#include "launcher/serve/slow_connections.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace unipool {
namespace {

// Address and port of one end of a socket; the port is -1 where there is none.
template <class Ask>
SlowConnections::Client EndOf(int file, Ask ask) {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  if (ask(file, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {"", -1};
  char host[NI_MAXHOST] = {}, port[NI_MAXSERV] = {};
  if (getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return {"", -1};
  return {host, std::atoi(port)};
}

std::vector<int> OpenFiles() {
  std::vector<int> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    const std::string name = entry.path().filename().string();
    int file = -1;
    if (std::from_chars(name.data(), name.data() + name.size(), file).ec == std::errc())
      files.push_back(file);
  }
  return files;
}

}  // namespace

SlowConnections::SlowConnections(int port, std::chrono::milliseconds limit)
    : port_(port), limit_(limit), thread_([this] { Watch(); }) {}

SlowConnections::~SlowConnections() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void SlowConnections::Begin(const Client& client) {
  const std::lock_guard lock(mutex_);
  busy_.insert(client);
}

void SlowConnections::End(const Client& client) {
  const std::lock_guard lock(mutex_);
  busy_.erase(client);
  seen_.erase(client);
}

void SlowConnections::EndAll() {
  {
    const std::lock_guard lock(mutex_);
    ends_all_ = true;
  }
  changed_.notify_all();
}

void SlowConnections::Watch() {
  std::unique_lock lock(mutex_);
  while (!is_over_) {
    Look();
    changed_.wait_for(lock, std::chrono::milliseconds(ends_all_ ? 20 : 200));
  }
}

// Both ends of a connection of this process with itself are seen; the client's has our port as its peer.
void SlowConnections::Look() {
  const Clock::time_point now = Clock::now();
  std::map<Client, Seen> still;
  for (const int file : OpenFiles()) {
    struct stat status = {};
    if (fstat(file, &status) != 0 || !S_ISSOCK(status.st_mode)) continue;
    if (EndOf(file, getsockname).second != port_) continue;
    const Client client = EndOf(file, getpeername);
    if (client.second < 0) continue;  // the one that listens
    if (busy_.contains(client)) continue;
    const auto found = seen_.find(client);
    const bool is_known = found != seen_.end() && found->second.inode == status.st_ino;
    const Seen seen{.inode = status.st_ino, .since = is_known ? found->second.since : now};
    still[client] = seen;
    if (ends_all_ || now - seen.since > limit_) shutdown(file, SHUT_RDWR);
  }
  seen_ = std::move(still);
}

}  // namespace unipool
