// One rank's device as the host drives it: memory, two queues of work, events between them, copies. The host
// enqueues and goes on; it waits for single events only. Two implementations: CUDA (device_context_cuda.cc)
// and, in tests, a device that runs its queues as late, as early or as mixed as events allow and records what
// was done.
//
// Rules that every user keeps, and the tests' device checks:
//   - work of the compute queue uses what the communication queue wrote only after AwaitEvent on an event
//     recorded behind the write, and the other way round; the same for writing over what is still read
//   - host memory that a copy names is pinned, and stays as it is until an event behind the copy is done
//   - after the first two steps nothing is allocated, and no events are made, unless routing brings a rank
//     more rows than ever before
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/exchange_label.h"
#include "runtime/stream.h"

namespace unipool {

enum class DeviceQueue : uint8_t { kCompute, kCommunication };

class DeviceContext : public DeviceMemory {
 public:
  using Event = int;
  ~DeviceContext() override = default;

  // For people, and equal on a host only for the same device.
  virtual std::string name() const { return "device"; }
  virtual std::string id() const { return "device"; }
  // The most memory of the device that was taken at one time.
  virtual int64_t peak_bytes() const { return 0; }

  // cudaStream_t of a queue.
  virtual void* queue(DeviceQueue queue) = 0;
  // cuda::Blas of the compute queue (kernels/cuda/blas.h); null: no products.
  virtual void* blas() { return nullptr; }

  // Page-locked host memory, zero at first; freed with the context at the latest.
  virtual void* AllocatePinned(int64_t bytes) = 0;
  virtual void FreePinned(void* data) = 0;  // after all work that uses it

  // Enqueued; `to` and `from` are device or pinned memory each.
  virtual void Copy(DeviceQueue queue, void* to, const void* from, int64_t bytes) = 0;

  // An event is made once and recorded often. One that was never recorded is done, and nobody waits for it.
  virtual Event MakeEvent() = 0;
  virtual void Record(Event event, DeviceQueue queue) = 0;
  virtual void AwaitEvent(DeviceQueue queue, Event event) = 0;  // the queue waits for the last Record so far
  virtual bool IsDone(Event event) = 0;                         // does not wait
  // The host waits. Polls, so that whoever watches (AddWatch) is called every few milliseconds and may end
  // the job: `label` says what the host waits for.
  void WaitOnHost(Event event, const ExchangeLabel& label);
  using Watch = std::function<void(const ExchangeLabel& label, double waited_seconds)>;
  int AddWatch(Watch watch);  // returns a number for RemoveWatch
  void RemoveWatch(int number);
  // Called at every turn of such a wait: what the rank can do for others meanwhile. Must not wait itself.
  using Poll = std::function<void()>;
  int AddPoll(Poll poll);  // returns a number for RemovePoll
  void RemovePoll(int number);
  // Host waits for everything. Between steps only.
  virtual void Drain() = 0;
  // Between any memory of the host and the device's, in pieces through pinned memory that is given back. They
  // wait until it is done: between steps only.
  void Upload(void* device, const void* host, int64_t bytes);
  void Download(void* host, const void* device, int64_t bytes);

  // Named ranges on the time line of a profiler, nested; `name` is read before the call returns.
  virtual void PushRange(const char* name) = 0;
  virtual void PopRange() = 0;

 protected:
  // WaitOnHost begins, whether or not the event is done already.
  virtual void OnHostWait(Event /*event*/, const ExchangeLabel& /*label*/) {}
  // For errors of the device, which show when the host asks for an event: ", while the host waits for 'row
  // counts', step 7, slot 3"; empty outside of a wait.
  std::string WaitingFor() const;

 private:
  std::vector<std::pair<int, Watch>> watches_;
  std::vector<std::pair<int, Poll>> polls_;
  int next_number_ = 0;
  const ExchangeLabel* waiting_for_ = nullptr;
};

// A range from here to the end of the block; nothing where there is no device.
class DeviceRange {
 public:
  DeviceRange(DeviceContext* device, const char* name) : device_(device) {
    if (device_) device_->PushRange(name);
  }
  ~DeviceRange() {
    if (device_) device_->PopRange();
  }
  DeviceRange(const DeviceRange&) = delete;
  DeviceRange& operator=(const DeviceRange&) = delete;

 private:
  DeviceContext* device_;
};

}  // namespace unipool
