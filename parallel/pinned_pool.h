// Page-locked host memory of one rank's exchanges, in pieces that are taken and given back. A copy to the
// device may still read a piece after it was given back.
//
// Whether a piece is taken again or a new one is made depends on what was asked for before, and never on how
// far the device has come. So a step that asks for the same as the step before allocates nothing, whatever
// its timing. If the device still reads the piece that is taken next, the host waits for the event behind
// that copy. No other rank can hold up that event.
#pragma once

#include <memory>
#include <vector>

#include "runtime/device_context.h"

namespace unipool {

class PinnedPool {
 public:
  struct Piece {
    char* data = nullptr;
    int64_t bytes = 0;
    DeviceContext::Event read = 0;  // recorded by the user behind the last copy that reads the piece
  };

  // Counts as MemoryKind::kExchange of `host_memory`. Both must outlive it.
  PinnedPool(DeviceContext& device, MemoryMeter& host_memory) : device_(device), memory_(host_memory) {}
  ~PinnedPool();  // REQUIRES: the device is done with all pieces
  PinnedPool(const PinnedPool&) = delete;

  // A piece of at least `bytes` > 0. `label` says what the host waits for, if it has to wait.
  Piece& Take(int64_t bytes, const ExchangeLabel& label);
  // The host is done with the piece. The device is done with it when `read` is.
  void Give(Piece& piece) { resting_.push_back(&piece); }

  int64_t allocated_bytes() const { return allocated_bytes_; }

 private:
  Piece* TakeResting(int64_t bytes);
  void Resize(Piece& piece, int64_t bytes);

  DeviceContext& device_;
  MemoryMeter& memory_;
  std::vector<std::unique_ptr<Piece>> pieces_;
  std::vector<Piece*> resting_;  // the one that was given back first, first
  int64_t allocated_bytes_ = 0;
};

}  // namespace unipool
