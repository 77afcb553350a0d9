// One rank's device as the host drives it: memory, two queues of work, events between them, copies. The host
// enqueues work and goes on. It waits for single events only. There are two implementations: CUDA
// (kernels/cuda/device_context_cuda.cc), and a device for tests (tests/device_emulation/async_device.h) that
// runs its queues as late, as early or as mixed as events allow and records what was done.
//
// Every user keeps three rules. Tests check them with that device:
//   - One queue reads what the other wrote only behind AwaitEvent on an event that was recorded behind the
//     write. In the same way it writes over memory only behind an event that was recorded behind the other's
//     last read.
//   - Host memory that a copy names is pinned. It stays as it is until an event behind the copy is done.
//   - After the first two steps nothing is allocated and no event is made, unless routing brings a rank more
//     rows than ever before.
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

  virtual std::string name() const { return "device"; }  // for people
  // Two ranks of one host have equal ids only if they share one device.
  virtual std::string id() const { return "device"; }
  // All memory of the device, whoever uses it; 0: not known.
  virtual int64_t total_bytes() const { return 0; }
  // The most bytes of device memory that were taken at one time.
  virtual int64_t peak_bytes() const { return 0; }

  virtual void* queue(DeviceQueue queue) = 0;  // a cudaStream_t
  // A cuda::Blas (kernels/cuda/blas.h) of the compute queue; null: this device has no matrix products.
  virtual void* blas() { return nullptr; }

  // Page-locked host memory, which begins as zeros. The context frees at its end what is left of it.
  virtual void* AllocatePinned(int64_t bytes) = 0;
  virtual void FreePinned(void* data) = 0;  // REQUIRES: all work that uses it is done

  // Enqueues a copy. Each of `to` and `from` is device memory or pinned memory.
  virtual void Copy(DeviceQueue queue, void* to, const void* from, int64_t bytes) = 0;

  // An event is made once and recorded often. An event that was never recorded is done, and nobody waits for
  // it.
  virtual Event MakeEvent() = 0;
  virtual void Record(Event event, DeviceQueue queue) = 0;
  // What is enqueued from now on waits for the work in front of the event's last Record so far.
  virtual void AwaitEvent(DeviceQueue queue, Event event) = 0;
  virtual bool IsDone(Event event) = 0;  // does not wait
  // An event that also notes when each Record was reached.
  virtual Event MakeTimedEvent() = 0;
  // From the moment of one event's last Record to that of another; negative where it came first. REQUIRES:
  // both are timed, recorded and done.
  virtual int64_t NsBetween(Event from, Event to) = 0;
  // The host waits until the event is done. `label` says what for. Meanwhile every Watch is called every 20
  // ms and may end the job, and every Poll is called at every turn.
  void WaitOnHost(Event event, const ExchangeLabel& label);
  using Watch = std::function<void(const ExchangeLabel& label, double waited_seconds)>;
  int AddWatch(Watch watch);  // returns a number for RemoveWatch
  void RemoveWatch(int number);
  // What the rank can do for other ranks while its host waits. Must not wait itself.
  using Poll = std::function<void()>;
  int AddPoll(Poll poll);  // returns a number for RemovePoll
  void RemovePoll(int number);
  // The host waits for all work of both queues. Between steps only.
  virtual void Drain() = 0;
  // Copies between any memory of the host and memory of the device, in pieces through pinned memory of the
  // context, which the first of them takes. Both wait until the copy is done. Between steps only.
  void Upload(void* device, const void* host, int64_t bytes);
  void Download(void* host, const void* device, int64_t bytes);

  // The communication queue waits for what an exchange of device memory that starts now comes after: all work
  // of the compute queue so far, or what the living EarlyStart says. `computed` is an event of the caller's.
  void AwaitStart(Event computed);
  bool starts_early() const { return early_starts_ > 0; }

  // Named ranges on the time line of a profiler. They nest. `name` is read before the call returns.
  virtual void PushRange(const char* name) = 0;
  virtual void PopRange() = 0;

 protected:
  // Called when WaitOnHost begins, also where the event is done already.
  virtual void OnHostWait(Event /*event*/, const ExchangeLabel& /*label*/) {}
  // Words for an error of the device, which shows when the host asks for an event. Example: ", while the host
  // waits for 'row counts', step 7, slot 3". Empty outside of WaitOnHost.
  std::string WaitingFor() const;

 private:
  void* Staging();  // pinned, for one piece

  void* staging_ = nullptr;
  friend class EarlyStart;
  int early_starts_ = 0;
  std::vector<std::pair<int, Watch>> watches_;
  std::vector<std::pair<int, Poll>> polls_;
  int next_number_ = 0;
  const ExchangeLabel* waiting_for_ = nullptr;
};

// Exchanges of device memory that start from here to the end of the block do not wait for all work of the
// compute queue so far. They come after the work in front of `ready` and after what the communication queue
// has been given. REQUIRES: no work behind `ready` uses the memory that they name. `device` null: nothing.
class EarlyStart {
 public:
  EarlyStart(DeviceContext* device, DeviceContext::Event ready) : device_(device) {
    if (!device_) return;
    device_->AwaitEvent(DeviceQueue::kCommunication, ready);
    ++device_->early_starts_;
  }
  ~EarlyStart() {
    if (device_) --device_->early_starts_;
  }
  EarlyStart(const EarlyStart&) = delete;
  EarlyStart& operator=(const EarlyStart&) = delete;

 private:
  DeviceContext* device_;
};

// A profiler's range from here to the end of the block. Does nothing where `device` is null.
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
