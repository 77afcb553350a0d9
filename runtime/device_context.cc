#include "runtime/device_context.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "runtime/watchdog.h"

namespace unipool {
namespace {

constexpr std::chrono::milliseconds kWatchEvery{20};
constexpr int64_t kPieceBytes = int64_t{16} << 20;

// What is waited for while the scope lasts; waits may nest.
class WaitScope {
 public:
  WaitScope(const ExchangeLabel*& place, const ExchangeLabel& label)
      : place_(place), outer_(std::exchange(place, &label)) {}
  ~WaitScope() { place_ = outer_; }
  WaitScope(const WaitScope&) = delete;
  WaitScope& operator=(const WaitScope&) = delete;

 private:
  const ExchangeLabel*& place_;
  const ExchangeLabel* outer_;
};

}  // namespace

std::string DeviceContext::WaitingFor() const {
  return waiting_for_ ? ", while the host waits for " + Describe(*waiting_for_) : "";
}

void DeviceContext::WaitOnHost(Event event, const ExchangeLabel& label) {
  using Clock = std::chrono::steady_clock;
  OnHostWait(event, label);
  const WaitScope scope(waiting_for_, label);
  if (IsDone(event)) return;
  auto watched = Clock::now();
  for (PatientClock waited(watched); !IsDone(event); sched_yield()) {
    for (const auto& [number, poll] : polls_) poll();
    const auto now = Clock::now();
    if (now - watched < kWatchEvery) continue;
    watched = now;
    for (const auto& [number, watch] : watches_) {
      watch(label, waited.Look(now));
    }
  }
}

void DeviceContext::AwaitStart(Event computed) {
  if (starts_early()) return;  // EarlyStart has waited
  Record(computed, DeviceQueue::kCompute);
  AwaitEvent(DeviceQueue::kCommunication, computed);
}

void* DeviceContext::Staging() {
  if (!staging_) staging_ = AllocatePinned(kPieceBytes);
  return staging_;
}

void DeviceContext::Upload(void* device, const void* host, int64_t bytes) {
  if (bytes == 0) return;
  void* const pinned = Staging();
  for (int64_t begin = 0; begin < bytes; begin += kPieceBytes) {
    const int64_t size = std::min(kPieceBytes, bytes - begin);
    std::memcpy(pinned, static_cast<const char*>(host) + begin, size);
    Copy(DeviceQueue::kCompute, static_cast<char*>(device) + begin, pinned, size);
    Drain();
  }
}

void DeviceContext::Download(void* host, const void* device, int64_t bytes) {
  if (bytes == 0) return;
  void* const pinned = Staging();
  for (int64_t begin = 0; begin < bytes; begin += kPieceBytes) {
    const int64_t size = std::min(kPieceBytes, bytes - begin);
    Drain();
    Copy(DeviceQueue::kCompute, pinned, static_cast<const char*>(device) + begin, size);
    Drain();
    std::memcpy(static_cast<char*>(host) + begin, pinned, size);
  }
}

int DeviceContext::AddWatch(Watch watch) {
  watches_.emplace_back(next_number_, std::move(watch));
  return next_number_++;
}

void DeviceContext::RemoveWatch(int number) {
  std::erase_if(watches_, [&](const auto& entry) { return entry.first == number; });
}

int DeviceContext::AddPoll(Poll poll) {
  polls_.emplace_back(next_number_, std::move(poll));
  return next_number_++;
}

void DeviceContext::RemovePoll(int number) {
  std::erase_if(polls_, [&](const auto& entry) { return entry.first == number; });
}

}  // namespace unipool
