// Which accesses to memory have an order? Keeps a vector clock for each of the three that act on a device's
// memory; two accesses to the same bytes of which one writes must be ordered by events, whatever the device
// happened to do first.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/cuda_emulation/kernel_queue.h"

namespace unipool::emulation {

// The program that drives the device made a mistake; says which operation, and what is wrong with it.
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
  // The next piece of work of `actor`; that of a queue comes after all that the host knows. Throws
  // DeviceError that names both operations if one of the accesses has no order to an earlier one.
  void Act(Actor actor, const std::string& name, std::span<const Access> accesses);
  const Clock& clock(Actor actor) const { return clocks_[static_cast<int>(actor)]; }
  // All that `clock` knows comes before what `actor` does next.
  void Learn(Actor actor, const Clock& clock);
  // The name of an operation that uses these bytes and that the host does not know to be over; empty: none.
  std::string Unfinished(const void* begin, int64_t bytes) const;
  std::string UnfinishedWriter(const void* begin, int64_t bytes) const;
  void Forget(const void* begin, int64_t bytes);

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
