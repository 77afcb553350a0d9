// A device whose work is done at once, until it hangs: what is recorded from then on is never done.
#pragma once

#include <cstdlib>
#include <cstring>

#include "runtime/device_context.h"

namespace unipool {

class HungDevice : public DeviceContext {
 public:
  void Hang() { hung_ = true; }

  void* queue(DeviceQueue) override { return this; }
  void* Allocate(int64_t bytes) override { return std::calloc(1, bytes); }
  void Free(void* data) override { std::free(data); }
  void Zero(void* data, int64_t bytes) override { std::memset(data, 0, bytes); }
  void* AllocatePinned(int64_t bytes) override { return std::calloc(1, bytes); }
  void FreePinned(void* data) override { std::free(data); }
  void Copy(DeviceQueue, void*, const void*, int64_t) override {}
  Event MakeEvent() override {
    done_.push_back(true);
    return static_cast<Event>(done_.size()) - 1;
  }
  void Record(Event event, DeviceQueue) override { done_[event] = !hung_; }
  void AwaitEvent(DeviceQueue, Event) override {}
  bool IsDone(Event event) override { return done_[event]; }
  Event MakeTimedEvent() override { return MakeEvent(); }
  int64_t NsBetween(Event, Event) override { return 0; }
  void Drain() override {}
  void PushRange(const char*) override {}
  void PopRange() override {}

 private:
  bool hung_ = false;
  std::vector<bool> done_;
};

}  // namespace unipool
