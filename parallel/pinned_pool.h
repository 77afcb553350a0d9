// Page-locked host memory of one rank's exchanges: pieces that are taken and given back, and that a copy to
// the device may still read after they are given back.
//
// Whether a piece is taken again or a new one made depends on what was asked before and never on how far the
// device has come, so a step that asks for the same as the one before it allocates nothing, whatever its
// timing. Where the next piece to take is still read by the device, the host waits for the event behind that
// copy, which no other rank can hold up.
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

  // At least `bytes` > 0. `label` says what the host waits for, where it has to.
  Piece& Take(int64_t bytes, const ExchangeLabel& label);
  // The host is done with the piece; the device is when `read` is.
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
