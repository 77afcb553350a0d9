#include "runtime/device_times.h"

#include <glog/logging.h>

#include <algorithm>

namespace unipool {
namespace {

constexpr ExchangeLabel kLabel{.operation = "times of exchanges", .step = -1, .slot = -1};

}  // namespace

void DeviceTimes::Reserve(int64_t num_exchanges) {
  if (anchor_event_ < 0 && num_exchanges > 0) {
    anchor_event_ = device_.MakeTimedEvent();
    for (DeviceContext::Event& end : ends_) end = device_.MakeEvent();
  }
  num_allowed_ = num_exchanges;
  while (static_cast<int64_t>(events_.size()) < num_exchanges) {
    auto& events = events_.emplace_back();
    for (DeviceContext::Event& event : events) event = device_.MakeTimedEvent();
  }
}

void DeviceTimes::BeginStep(const std::function<int64_t()>& now) {
  num_taken_ = 0;
  if (num_allowed_ == 0) return;
  EndStep();  // so that the anchor is reached at once
  const int64_t before = now();
  device_.Record(anchor_event_, DeviceQueue::kCompute);
  device_.WaitOnHost(anchor_event_, kLabel);
  const int64_t after = now();
  anchor_ = {.host_ns = (before + after) / 2, .uncertainty_ns = (after - before + 1) / 2};
}

int64_t DeviceTimes::BeforeStart() {
  if (num_taken_ == num_allowed_) return -1;
  const auto& events = events_[num_taken_];
  device_.Record(events[kQueue], DeviceQueue::kCommunication);
  device_.Record(events[kComputed],
                 device_.starts_early() ? DeviceQueue::kCommunication : DeviceQueue::kCompute);
  return num_taken_++;
}

void DeviceTimes::AfterStart(int64_t exchange) {
  device_.Record(events_[exchange][kEnd], DeviceQueue::kCommunication);
}

void DeviceTimes::BeforeWait(int64_t exchange) {
  device_.Record(events_[exchange][kBlockedBegin], DeviceQueue::kCompute);
}

void DeviceTimes::AfterWait(int64_t exchange) {
  device_.Record(events_[exchange][kBlockedEnd], DeviceQueue::kCompute);
}

void DeviceTimes::EndStep() {
  if (num_allowed_ == 0) return;
  for (const DeviceQueue queue : {DeviceQueue::kCompute, DeviceQueue::kCommunication}) {
    device_.Record(ends_[static_cast<int>(queue)], queue);
  }
  for (const DeviceContext::Event end : ends_) device_.WaitOnHost(end, kLabel);
}

DeviceExchangeTimes DeviceTimes::Read(int64_t exchange) const {
  CHECK(exchange >= 0 && exchange < num_taken_) << exchange;
  const auto& events = events_[exchange];
  const auto at = [&](Moment moment) { return device_.NsBetween(anchor_event_, events[moment]); };
  DeviceExchangeTimes times{.begin_ns = std::max(at(kQueue), at(kComputed)),
                            .end_ns = at(kEnd),
                            .blocked_begin_ns = at(kBlockedBegin),
                            .blocked_end_ns = at(kBlockedEnd)};
  times.end_ns = std::max(times.end_ns, times.begin_ns);
  return times;
}

}  // namespace unipool
