// Do events order the accesses to a device's memory? Two accesses to the same bytes, one of which writes,
// must have an order, whatever the device happened to do first. Three actors use the memory: two queues and
// the host. Each has a vector clock, which says how much of each actor's work it knows to be over. An access
// is ordered behind an earlier one where its actor knows that the earlier one is over.
//
// Example: the communication queue writes x and records an event, and the compute queue reads x. Without
// AwaitEvent the compute queue does not know of the write, and Act throws. With AwaitEvent it has learnt the
// clock that the event recorded.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/cuda_emulation/kernel_queue.h"

namespace unipool::emulation {

// A mistake of the program that drives the device. The text says which operation is wrong, and what is wrong
// with it.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Actor : uint8_t { kComputeQueue, kCommunicationQueue, kHost };
inline constexpr int kNumActors = 3;
const char* NameOf(Actor actor);

// How much of each actor's work is known to be over.
using Clock = std::array<int64_t, kNumActors>;

class RaceCheck {
 public:
  // `actor` does its next piece of work. A queue's work comes after all that the host knows at this moment.
  // Throws a DeviceError, which names both operations, where one of the accesses has no order to an earlier
  // one.
  void Act(Actor actor, const std::string& name, std::span<const Access> accesses);
  const Clock& clock(Actor actor) const { return clocks_[static_cast<int>(actor)]; }
  // From now on `actor` also knows what `clock` knows.
  void Learn(Actor actor, const Clock& clock);
  // The name of an operation that uses these bytes and that the host does not know to be over; empty: there
  // is none.
  std::string Unfinished(const void* begin, int64_t bytes) const;
  std::string UnfinishedWriter(const void* begin, int64_t bytes) const;  // only operations that write
  void Forget(const void* begin, int64_t bytes);                         // accesses to memory that was freed

 private:
  struct Past {
    Access access;
    Actor actor;
    int64_t time;
    std::string name;
  };
  static bool Knows(const Clock& clock, const Past& past) {
    return clock[static_cast<int>(past.actor)] >= past.time;
  }
  void Add(Actor actor, const std::string& name, const Access& access);
  void DropKnownToAll();
  std::array<Clock, kNumActors> clocks_{};
  std::vector<Past> past_;
  size_t drop_at_ = 256;
};

}  // namespace unipool::emulation
