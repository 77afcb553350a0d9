// RUN_DIR/heartbeat: one line that says when a run last got on. JSON, always 160 bytes, rewritten in place:
// {"step": 12, "time": 1764612000.125, "tokens_per_second": 51200}, time in seconds since 1970.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace unipool {

class Heartbeat {
 public:
  explicit Heartbeat(const std::string& run_dir);  // a file that cannot be written is none: no error
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  // At most one write a second, the first at once.
  void Beat(int64_t step, double tokens_per_second);
  void BeatAtOnce(int64_t step, double tokens_per_second);

 private:
  int fd_ = -1;
  std::chrono::steady_clock::time_point last_{};
};

// What the file says; nothing where there is none that can be read.
struct HeartbeatView {
  int64_t step = 0;
  double time = 0, tokens_per_second = 0;
};
std::optional<HeartbeatView> ReadHeartbeat(const std::string& run_dir);

// The file's text as it is, to be compared with a later one; "" when there is none.
std::string HeartbeatText(const std::string& run_dir);

}  // namespace unipool
