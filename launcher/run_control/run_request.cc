#include "launcher/run_control/run_request.h"

namespace unipool {
namespace {

constexpr int kFirstStop = static_cast<int>(RunRequest::kStopUsr2);

const char* NameOf(RunRequest request) {
  switch (request) {
    case RunRequest::kSaveSignal:
      return "SIGUSR1";
    case RunRequest::kSaveFile:
      return "the file save";
    case RunRequest::kSaveTime:
      return "train.save_minutes";
    case RunRequest::kStopUsr2:
      return "SIGUSR2";
    case RunRequest::kStopTerm:
      return "SIGTERM";
    case RunRequest::kStopInt:
      return "SIGINT";
    case RunRequest::kStopHup:
      return "SIGHUP";
    case RunRequest::kStopXcpu:
      return "SIGXCPU";
    case RunRequest::kStopFile:
      return "the file stop";
    case RunRequest::kStopTime:
      return "train.stop_at";
  }
  return "";
}

}  // namespace

void RunRequests::AddAll(const RunRequests& other) {
  for (int r = 0; r < kNumRunRequests; ++r) count[r] += other.count[r];
}

bool RunRequests::WantsStop() const {
  for (int r = kFirstStop; r < kNumRunRequests; ++r) {
    if (count[r] > 0) return true;
  }
  return false;
}

bool RunRequests::WantsSave() const {
  for (int r = 0; r < kFirstStop; ++r) {
    if (count[r] > 0) return true;
  }
  return false;
}

std::string RunRequests::Reason() const {
  std::string text;
  for (int r = WantsStop() ? kFirstStop : 0; r < kNumRunRequests; ++r) {
    if (count[r] > 0) text += (text.empty() ? "" : " and ") + std::string(NameOf(static_cast<RunRequest>(r)));
  }
  return text;
}

}  // namespace unipool
